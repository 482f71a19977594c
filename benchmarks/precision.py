"""What the arithmetic costs in accuracy: `python -m benchmarks.precision [--quick] [--seeds 0 1 2]`.

Trains the recipe agnews-minilm, without augmentation, n-grams and corrected spelling, in each precision that this
machine has, once a seed, on the same rows in the same order, and measures as many other training rows, which no choice
is made by. Prints accuracy, loss and their differences to fp32 by seed, beside the seconds. Writes the results file.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.rows import ENCODER_ALONE, LABELS, NoData, data_folder, read_texts
from submillion.inference.train import train
from submillion.training.device import choose_compute


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="600 rows, one seed: for a look")
    parser.add_argument("--data", default="", help="folder with train.parquet (text, label); default $AGNEWS")
    parser.add_argument("--rows", type=int, default=12_000, help="half of them are measured")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    given = parser.parse_args()
    if given.quick:
        given.rows, given.seeds = 600, [0]
    try:
        folder = data_folder(given.data)
    except NoData as error:
        print(error, file=sys.stderr)
        return 2
    runs = [
        {"precision": precision, "seed": seed} | measure(folder, given.rows, given.epochs, precision, seed)
        for seed in given.seeds
        for precision in precisions()
    ]
    print_table(runs)
    suffix = "-precision-quick" if given.quick else "-precision"
    print(report.write_results([], {"options": vars(given), "runs": runs}, suffix=suffix))
    return 0


def precisions() -> list[str]:
    """fp32, and on a machine that is faster in another, those up to its fastest."""
    order = ["fp32", "bf16", "int8"]
    return order[: order.index(choose_compute("auto").precision) + 1]


def measure(folder: Path, count: int, epochs: int, precision: str, seed: int) -> dict[str, Any]:
    """Accuracy and loss of the second half of the rows, the seconds of training, and what int8 was found to change."""
    texts, labels = read_texts(folder, count)
    first, second = slice(count // 2), slice(count // 2, None)
    settings = {
        "seed": seed,
        "train.precision": precision,
        "train.epochs": epochs,
        "train.eval_steps": 0,
        "train.augment": 0.0,
        "train.consistency": 0.0,
        "data.label_names": LABELS,
    } | ENCODER_ALONE
    with tempfile.TemporaryDirectory() as out:
        splits = {
            name: {"text": texts[half], "label": labels[half].tolist()}
            for name, half in (("train", first), ("test", second))
        }
        metrics = train("agnews-minilm", splits, settings | {"output.dir": out, "output.assets": out}).metrics
    found = {key: metrics["test"][key] for key in ("accuracy", "loss", "rows")}
    return found | {"seconds": metrics["training_seconds"], "int8": metrics.get("int8")}


def print_table(runs: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    exact = {run["seed"]: run for run in runs if run["precision"] == "fp32"}
    table = Table(title="by precision, mean (standard deviation) over the seeds", title_justify="left")
    for name in ("precision", "accuracy, %", "minus fp32's, points", "loss minus fp32's", "seconds"):
        table.add_column(name, justify="right")
    for precision in dict.fromkeys(run["precision"] for run in runs):
        own = [run for run in runs if run["precision"] == precision]
        shares = [run["accuracy"] - exact[run["seed"]]["accuracy"] for run in own]
        losses = [run["loss"] - exact[run["seed"]]["loss"] for run in own]
        table.add_row(
            precision,
            report.mean_and_deviation([run["accuracy"] for run in own]),
            ", ".join(f"{100 * share:+.2f}" for share in shares),
            ", ".join(f"{loss:+.4f}" for loss in losses),
            ", ".join(f"{run['seconds']:.0f}" for run in own),
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
