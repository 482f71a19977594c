"""What adapters in the last K layers alone cost and save: `python -m benchmarks.prefix [--quick]`.

Trains the recipe agnews-minilm, without augmentation, dropout, n-grams and corrected spelling, with adapters in the
last K of its six layers, for each K, with the cache of what the frozen layers compute and without it, and prints the
seconds of training (filling the cache and validations included) beside the accuracy on held-out training rows. Writes
the results file.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks import report
from benchmarks.rows import ENCODER_ALONE, LABELS, NoData, data_folder, read_texts
from submillion.inference.train import train

LAYERS = 6
HELD_OUT = 0.3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prefix", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="600 rows, one pass, K of 1 and 6: for a look")
    parser.add_argument("--data", default="", help="folder with train.parquet (text, label); default $AGNEWS")
    parser.add_argument("--rows", type=int, default=7_000, help=f"{HELD_OUT:.0%} of them are held out")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--last", nargs="+", type=int, default=[1, 2, 3, 4, 6], help="the numbers of layers, K")
    given = parser.parse_args()
    if given.quick:
        given.rows, given.epochs, given.last = 600, 1, [1, 6]
    try:
        folder = data_folder(given.data)
    except NoData as error:
        print(error, file=sys.stderr)
        return 2
    runs = [
        {"last": last, "seed": seed} | measure(folder, given.rows, given.epochs, last, seed)
        for seed in given.seeds
        for last in given.last
    ]
    suffix = "-prefix-quick" if given.quick else "-prefix"
    print_table(runs)
    print(report.write_results([], {"options": vars(given), "runs": runs}, suffix=suffix))
    return 0


def measure(folder: Path, count: int, epochs: int, last: int, seed: int) -> dict[str, Any]:
    """Seconds with and without the cache, one after the other, and the accuracy; without frozen layers both are one."""
    texts, labels = read_texts(folder, count)
    splits = {"train": {"text": texts, "label": labels.tolist()}}
    layers = list(range(LAYERS - last, LAYERS))
    settings = {
        "seed": seed,
        "lora.layers": layers,
        "train.epochs": epochs,
        "train.eval_steps": 0,
        # Rows that are new in each pass, or that dropout makes new, have nothing to be kept.
        "train.augment": 0.0,
        "train.consistency": 0.0,
        "model.dropout": 0.0,
        "data.validation_fraction": HELD_OUT,
        "data.test_fraction": 0,
        "data.label_names": LABELS,
    } | ENCODER_ALONE
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as out:
        for name, size in (("cached", 4.0), ("not cached", 0.0)) if last < LAYERS else (("cached", 0.0),):
            own = settings | {"train.prefix_cache_gb": size, "output.dir": out, "output.assets": out}
            metrics = train("agnews-minilm", splits, own).metrics
            found[name] = {
                "seconds": metrics["training_seconds"],
                "accuracy": metrics["validation"]["accuracy"],
                "trainable": metrics["parameters"]["trainable"],
            }
    return found


def print_table(runs: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="adapters in the last K layers: means over the seeds", title_justify="left")
    for name in ("K", "trainable", "accuracy, %", "seconds, cached", "not cached", "all layers / cached"):
        table.add_column(name, justify="right")
    whole = [run["cached"]["seconds"] for run in runs if run["last"] == LAYERS]
    for last in dict.fromkeys(run["last"] for run in runs):
        own = [run for run in runs if run["last"] == last]
        seconds = mean(run["cached"]["seconds"] for run in own)
        others = [run["not cached"]["seconds"] for run in own if "not cached" in run]
        table.add_row(
            str(last),
            f"{own[0]['cached']['trainable']:,}",
            report.mean_and_deviation([run["cached"]["accuracy"] for run in own]),
            f"{seconds:.0f}",
            f"{mean(others):.0f}" if others else "",
            f"{mean(whole) / seconds:.1f}x" if whole else "",
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
