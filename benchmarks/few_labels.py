"""A few labels a class: `python -m benchmarks.few_labels [--base DIR] [--quick] [--rows 1 8 16 64] [--draws 10]`.

From AG News' training rows each draw takes some labelled ones a class and 2,000 others without their labels, trains by
the recipe few-label with and without the unlabelled texts, and measures on a fixed sample of the official test rows.
The results file is written after each size of each draw, so that a stop loses one. More labels, and another recipe:
--recipe agnews-minilm --rows 2500 --unlabelled 30000 --draws 3 --test-rows 7600. The labelled rows alone:
--unlabelled 0.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.rows import LABELS, NoData, data_folder, read_texts, write_texts
from submillion.commands.train import train
from submillion.errors import SubmillionError
from submillion.runtime.forward import compute_ngrams

TEXTS, ALONE = "with texts", "labels alone"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.few_labels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recipe", default="few-label")
    parser.add_argument("--base", default="", help="folder or hub id of the recipe's encoder, where it is elsewhere")
    parser.add_argument("--data", default="", help="folder with train.parquet and test.parquet; default $AGNEWS")
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 8, 16, 64], help="labelled rows a class")
    parser.add_argument("--unlabelled", type=int, default=2_000, help="texts without labels")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--test-rows", type=int, default=2_000)
    parser.add_argument("--quick", action="store_true", help="one draw of 8 a class, 400 texts, 200 test rows")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.draws, options.test_rows, options.unlabelled = [8], 1, 200, 400
    suffix = "-few-labels-quick" if options.quick else "-few-labels"
    systems = (ALONE, TEXTS) if options.unlabelled else (ALONE,)
    try:
        folder = data_folder(options.data)
        texts, labels = read_texts(folder, max(40_000, len(LABELS) * max(options.rows) + options.unlabelled))
        test = read_texts(folder, options.test_rows, "test.parquet")
        runs: list[dict[str, Any]] = []
        for draw in range(options.draws):
            for count in options.rows:
                chosen, others = draw_of(labels, count, options.unlabelled, draw)
                rows = {"text": [texts[row] for row in chosen], "label": labels[chosen].tolist()}
                for system in systems:
                    pool = [] if system == ALONE else [texts[row] for row in others]
                    measured = measure(options.recipe, options.base, rows, pool, test)
                    runs.append({"system": system, "rows_a_class": count, "draw": draw} | measured)
                kept = {key: vars(options)[key] for key in ("recipe", "unlabelled", "test_rows")}
                print(report.write_results([], {"options": kept, "runs": runs}, suffix=suffix))
    except (NoData, SubmillionError) as error:
        print(error, file=sys.stderr)
        return 2
    print("per cent of the test rows: mean (standard deviation) over the draws")
    for name in ("accuracy", "encoder_alone", "cross_validated", "ece", "ece_uncalibrated"):
        for system, cells in summary(runs, name).items():
            print(f"{system:14} {name:16}", "  ".join(f"{count} a class {cell}" for count, cell in cells.items()))
    return 0


def draw_of(labels: np.ndarray, count: int, unlabelled: int, draw: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns int64 indices of `count` rows of each label, and of `unlabelled` others."""
    order = np.random.default_rng(draw).permutation(len(labels))
    chosen = np.concatenate([order[labels[order] == label][:count] for label in range(len(LABELS))])
    return chosen, order[~np.isin(order, chosen)][:unlabelled]


def measure(
    recipe: str, base: str, rows: dict[str, list], pool: list[str], test: tuple[list[str], np.ndarray]
) -> dict[str, Any]:
    """Trains once and measures on the test rows. Returns shares of 1, and the seconds of training.

    ece and ece_uncalibrated: the calibration error with the temperature and without it. encoder_alone: the accuracy
    without n-grams. cross_validated: the accuracy by cross-validation, if the run has done one.
    """
    settings: dict[str, Any] = {"data.label_names": LABELS, "data.test_fraction": 0}
    settings |= {"model.base": base} if base else {}
    with tempfile.TemporaryDirectory() as out:
        if pool:
            settings["data.unlabelled"] = str(Path(out) / "unlabelled.csv")
            write_texts(Path(settings["data.unlabelled"]), pool)
        trained = train(recipe, rows, settings | {"output.dir": str(Path(out) / "model")})
    model, (texts, labels) = trained.classifier, test
    logits = model.logits(texts)
    ngrams = compute_ngrams(model.network, model.tokenizer.encode(texts, model.spec.max_length, content=True))
    measured = {
        "accuracy": float(model.task.is_right(logits, labels).mean()),
        "encoder_alone": float(model.task.is_right(logits - ngrams, labels).mean()),
        "training_seconds": trained.result.training_seconds,
    }
    for name, temperature in (("ece", model.temperature), ("ece_uncalibrated", 1.0)):
        measured[name] = model.task.calibration(model.task.probabilities(logits, temperature), labels)["ece"]
    if crossed := trained.result.cross_validation:
        measured["cross_validated"] = crossed.metrics["accuracy"]
    return measured


def summary(runs: list[dict[str, Any]], measure_name: str = "accuracy") -> dict[str, dict[int, str]]:
    """Returns {system: {rows a class: "86.9 (0.4)"}} in per cent, of the runs that measured it."""
    table: dict[str, dict[int, str]] = {}
    runs = [run for run in runs if measure_name in run]
    for system, count in dict.fromkeys((run["system"], run["rows_a_class"]) for run in runs):
        shares = [run[measure_name] for run in runs if (run["system"], run["rows_a_class"]) == (system, count)]
        table.setdefault(system, {})[count] = report.mean_and_deviation(shares)
    return table


if __name__ == "__main__":
    sys.exit(main())
