"""What the arithmetic costs in accuracy: `python -m benchmarks.precision [--quick] [--seeds 0 1 2]`.

Trains the recipe agnews-minilm, without noise, n-grams and corrected spelling, in each precision that this machine has,
once a seed, on the same rows in the same order. Measures as many other training rows, which choose nothing. Prints
accuracy, loss and their differences to fp32 by seed, beside the seconds. Writes the results file.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.rows import ENCODER_ALONE, LABELS, NoData, data_folder, read_texts
from submillion.commands.train import train
from submillion.runtime.device import choose_compute


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="600 rows, one seed: for a look")
    parser.add_argument("--data", default="", help="folder with train.parquet (text, label); default $AGNEWS")
    parser.add_argument("--rows", type=int, default=12_000, help="half of them are measured")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    if options.quick:
        options.rows, options.seeds = 600, [0]
    try:
        folder = data_folder(options.data)
    except NoData as error:
        print(error, file=sys.stderr)
        return 2
    runs = [
        {"precision": precision, "seed": seed} | measure(folder, options.rows, options.epochs, precision, seed)
        for seed in options.seeds
        for precision in precisions()
    ]
    print_table(runs)
    suffix = "-precision-quick" if options.quick else "-precision"
    print(report.write_results([], {"options": vars(options), "runs": runs}, suffix=suffix))
    return 0


def precisions() -> list[str]:
    """Returns fp32 and, if this machine is faster in another precision, the ones up to its fastest."""
    order = ["fp32", "bf16", "int8"]
    return order[: order.index(choose_compute("auto").precision) + 1]


def measure(folder: Path, count: int, epochs: int, precision: str, seed: int) -> dict[str, Any]:
    """Trains on the first half of the rows. Returns accuracy and loss of the second, seconds, and what int8 changes."""
    texts, labels = read_texts(folder, count)
    first, second = slice(count // 2), slice(count // 2, None)
    settings = {
        "seed": seed,
        "train.precision": precision,
        "train.epochs": epochs,
        "robust.noise": False,
        "data.label_names": LABELS,
    } | ENCODER_ALONE
    with tempfile.TemporaryDirectory() as out:
        splits = {
            name: {"text": texts[half], "label": labels[half].tolist()}
            for name, half in (("train", first), ("test", second))
        }
        metrics = train("agnews-minilm", splits, settings | {"output.dir": out}).metrics
    return {key: metrics["test"][key] for key in ("accuracy", "loss", "rows")} | {
        "seconds": metrics["training_seconds"],
        "int8": metrics.get("int8"),
    }


def print_table(runs: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    exact = {run["seed"]: run for run in runs if run["precision"] == "fp32"}
    table = Table(title="by precision, mean (standard deviation) over the seeds", title_justify="left")
    for name in ("precision", "accuracy, %", "minus fp32's, points", "loss minus fp32's", "seconds"):
        table.add_column(name, justify="right")
    for precision in dict.fromkeys(run["precision"] for run in runs):
        seeds = [run for run in runs if run["precision"] == precision]
        shares = [run["accuracy"] - exact[run["seed"]]["accuracy"] for run in seeds]
        losses = [run["loss"] - exact[run["seed"]]["loss"] for run in seeds]
        table.add_row(
            precision,
            report.mean_and_deviation([run["accuracy"] for run in seeds]),
            ", ".join(f"{100 * share:+.2f}" for share in shares),
            ", ".join(f"{loss:+.4f}" for loss in losses),
            ", ".join(f"{run['seconds']:.0f}" for run in seeds),
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
