"""A few labels a class: `python -m benchmarks.few_labels [--base DIR] [--quick] [--rows 1 8 16 64] [--draws 10]`.

From AG News' training rows each draw takes some labelled ones a class and 2,000 others without their labels, trains by
the recipe few-label with and without the unlabelled texts, and measures on a fixed sample of the official test rows.
The results file is written after each size of each draw, so that a stop loses one. More labels, and another recipe:
--recipe agnews-minilm --rows 2500 --unlabelled 30000 --draws 3 --test-rows 7600. --teacher DIR adds a third system: the
texts' labels are those of a model trained likewise on another encoder, DIR. --unlabelled 0: the labelled rows alone.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from benchmarks import report
from benchmarks.rows import LABELS, NoData, data_folder, read_texts, write_texts
from submillion.errors import SubmillionError
from submillion.inference.calibration import calibration_metrics
from submillion.inference.train import TrainResult, train
from submillion.training.loop import compute_ngrams

TEXTS, ALONE, TAUGHT = "with texts", "labels alone", "taught"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.few_labels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recipe", default="few-label")
    parser.add_argument("--base", default="", help="folder or hub id of the recipe's encoder, where it is elsewhere")
    parser.add_argument(
        "--teacher", default="", help="folder or hub id of the encoder whose model labels the texts too"
    )
    parser.add_argument("--data", default="", help="folder with train.parquet and test.parquet; default $AGNEWS")
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 8, 16, 64], help="labelled rows a class")
    parser.add_argument("--unlabelled", type=int, default=2_000, help="texts without labels")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--test-rows", type=int, default=2_000)
    parser.add_argument("--quick", action="store_true", help="one draw of 8 a class, 400 texts, 200 test rows")
    given = parser.parse_args()
    if given.quick:
        given.rows, given.draws, given.test_rows, given.unlabelled = [8], 1, 200, 400
    suffix = "-few-labels-quick" if given.quick else "-few-labels"
    systems = (ALONE, *(TEXTS,) * (given.unlabelled > 0), *(TAUGHT,) * bool(given.teacher))
    try:
        folder = data_folder(given.data)
        texts, labels = read_texts(folder, max(40_000, len(LABELS) * max(given.rows) + given.unlabelled))
        test = read_texts(folder, given.test_rows, "test.parquet")
        runs: list[dict[str, Any]] = []
        for draw in range(given.draws):
            for count in given.rows:
                chosen, others = draw_of(labels, count, given.unlabelled, draw)
                rows = {"text": [texts[row] for row in chosen], "label": labels[chosen].tolist()}
                for system in systems:
                    pool = [] if system == ALONE else [texts[row] for row in others]
                    teacher = given.teacher if system == TAUGHT else ""
                    found = measure(given.recipe, given.base, rows, pool, test, teacher)
                    runs.append({"system": system, "rows_a_class": count, "draw": draw} | found)
                options = {key: vars(given)[key] for key in ("recipe", "unlabelled", "test_rows")}
                print(report.write_results([], {"options": options, "runs": runs}, suffix=suffix))
    except (NoData, SubmillionError) as error:
        print(error, file=sys.stderr)
        return 2
    print("per cent of the test rows: mean (standard deviation) over the draws")
    for measured in ("accuracy", "encoder_alone", "cross_validated", "ece", "ece_uncalibrated"):
        for system, cells in summary(runs, measured).items():
            print(f"{system:14} {measured:16}", "  ".join(f"{count} a class {cell}" for count, cell in cells.items()))
    return 0


def draw_of(labels: np.ndarray, count: int, unlabelled: int, draw: int) -> tuple[np.ndarray, np.ndarray]:
    """int64 indices of `count` rows of each label, and of `unlabelled` others."""
    order = np.random.default_rng(draw).permutation(len(labels))
    chosen = np.concatenate([order[labels[order] == label][:count] for label in range(len(LABELS))])
    return chosen, order[~np.isin(order, chosen)][:unlabelled]


def measure(
    recipe: str, base: str, rows: dict[str, list], pool: list[str], test: tuple[list[str], np.ndarray], teacher: str
) -> dict[str, Any]:
    """Trains once, or the teacher first: accuracy and calibration error on the test rows, the accuracy without what
    n-grams add, what cross-validation has it at where it was done, the error without the temperature, the seconds of
    training."""
    settings: dict[str, Any] = {"data.label_names": LABELS, "data.test_fraction": 0}
    with tempfile.TemporaryDirectory() as out:
        if pool:
            settings["data.unlabelled"] = str(Path(out) / "unlabelled.csv")
            write_texts(Path(settings["data.unlabelled"]), pool)

        def trained(name: str, encoder: str) -> TrainResult:
            folder = str(Path(out) / name)
            own = {"output.dir": folder, "output.assets": folder} | ({"model.base": encoder} if encoder else {})
            return train(recipe, rows, settings | own)

        if teacher:
            settings["data.teacher"] = str(trained("teacher", teacher).folder)
        made = trained("model", base)
    model, max_length = made.classifier, made.classifier.config.model.max_length
    logits = model.logits(test[0])
    ngrams = compute_ngrams(model.network, model.tokenizer.encode(test[0], max_length, content=True))
    accuracy, encoder_alone = (float((found.argmax(axis=1) == test[1]).mean()) for found in (logits, logits - ngrams))
    ece, uncalibrated = (
        calibration_metrics(softmax(logits / divisor, axis=1), test[1])["ece"] for divisor in (model.temperature, 1)
    )
    found = {"accuracy": accuracy, "encoder_alone": encoder_alone, "ece": ece, "ece_uncalibrated": uncalibrated}
    if crossed := made.metrics.get("cross_validation"):
        found["cross_validated"] = crossed["accuracy"]
    return found | {"training_seconds": made.metrics["training_seconds"]}


def summary(runs: list[dict[str, Any]], measured: str = "accuracy") -> dict[str, dict[int, str]]:
    """{system: {rows a class: "86.9 (0.4)"}} in per cent; one draw has no deviation. Of the runs that measured it."""
    table: dict[str, dict[int, str]] = {}
    runs = [run for run in runs if measured in run]
    for system, count in dict.fromkeys((run["system"], run["rows_a_class"]) for run in runs):
        own = [run[measured] for run in runs if (run["system"], run["rows_a_class"]) == (system, count)]
        table.setdefault(system, {})[count] = report.mean_and_deviation(own)
    return table


if __name__ == "__main__":
    sys.exit(main())
