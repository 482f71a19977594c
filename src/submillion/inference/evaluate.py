"""The command evaluate: how right a saved model is on labelled rows, and how robust."""

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from submillion.atomic import check_output, check_writable, write_atomically
from submillion.console import terminal
from submillion.data.columns import Columns, other_columns
from submillion.data.corpus import Rows, held_out_rows, load_rows, rows_sha256
from submillion.data.formats.options import ReadOptions
from submillion.data.sources import read_options
from submillion.errors import DataError, escaped
from submillion.inference.calibration import calibration_metrics
from submillion.inference.card import overlapping, refresh_card, render_robustness
from submillion.inference.classifier import Classifier, open_classifier
from submillion.inference.data_lines import macro_f1_shown
from submillion.inference.robust import (
    RobustnessOptions,
    check_options,
    measure_robustness,
    plot_robustness,
    print_robustness,
)
from submillion.training.artefact import model_file
from submillion.training.distributed import join
from submillion.training.metrics import classification_metrics
from submillion.training.progress import progress

if TYPE_CHECKING:
    from rich.console import Console


def evaluate_source(
    model: Path,
    source: str,
    text_column: str = "",
    label_column: str = "",
    base: str = "",
    output: Path | None = None,
    batch_size: int = 0,
    precision: str = "auto",
    robustness: RobustnessOptions | None = None,
    adapter_scale: float = 1.0,
    options: ReadOptions | None = None,
) -> dict[str, Any]:
    """Measures a saved model on labelled rows: a source's test split, or all rows of a single file.

    Prints a table by label and returns the metrics; writes them as JSON to `output` if given. With robustness, noise,
    style, shift and attack are measured too, plotted, and written into the model's card. options: how files are read;
    what is not obvious about them is printed first. Raises SubmillionError.
    """
    with join() as world:
        if output:
            shift = robustness.shift if robustness else "none"
            check_output(output, _read_files(model, Path(source), Path(shift)))
        classifier = open_classifier(model, base, precision, adapter_scale, world)
        if robustness:
            check_options(robustness, classifier.label_names)
        if world.is_first:
            for folder in ([output.parent] if output else []) + ([robustness.assets] if robustness else []):
                check_writable(folder)
        measured = read_measured(classifier, source, text_column, label_column, True, options)
        rows = measured.rows
        console = terminal(quiet=not world.is_first)
        for line in [*measured.lines(source), *(f"{note.heading}: {note.text}" for note in rows.notes)]:
            console.print(escaped(line), soft_wrap=True, highlight=False, markup=False)
        start = time.perf_counter()
        with progress("evaluating", len(rows.texts), world.is_first) as advance:
            logits = classifier.logits(rows.texts, batch_size, advance, world)
        metrics = classification_metrics(logits, rows.labels, classifier.label_names, rows.overlap)
        metrics["read"] = {"source": source, "part": measured.part} | asdict(rows.columns)
        metrics["rows_per_second"] = len(rows.texts) / (time.perf_counter() - start)
        probabilities = classifier.probabilities(logits)
        calibration = calibration_metrics(probabilities, rows.labels)
        metrics["calibration"] = {"temperature": classifier.temperature} | calibration
        if robustness:
            metrics["robustness"] = measure_robustness(
                classifier, rows, robustness, batch_size, world, text_column, label_column
            )
        _print_evaluation(console, metrics, f"{model} on {source}")
        if output and world.is_first:
            with write_atomically(output) as file:
                file.write(json.dumps(metrics, indent=2) + "\n")
        if robustness and world.is_first:
            plots = plot_robustness(metrics, probabilities, rows.labels, robustness.assets)
            print_robustness(console, metrics["robustness"], plots)
            section = render_robustness(metrics, source, adapter_scale, [plot.name for plot in plots])
            _refresh(console, model, section, plots)
        return metrics


def _read_files(model: Path, *sources: Path) -> dict[str, Path]:
    """What the metrics must not be written over."""
    files = (path for source in sources for path in (source.iterdir() if source.is_dir() else [source]))
    return {f"read as {path}": path for path in files} | {"the model": model_file(model)}


def _refresh(console: "Console", model: Path, section: str, plots: list[Path]) -> None:
    """Brings the model's card up to date. A folder that is not ours to write is no error of an evaluation."""
    try:
        card = refresh_card(model, section, plots)
    except OSError as error:
        console.print(f"card: not refreshed: {error}", soft_wrap=True, highlight=False, markup=False)
        return
    if card:
        console.print(f"card: {card}", soft_wrap=True, highlight=False, markup=False)


@dataclass(frozen=True)
class Measured:
    """The rows that a model is measured on, and which of its source's they are."""

    rows: Rows
    part: str
    """"its test split", "all of its rows" or "the rows held out in training"."""
    notes: tuple[str, ...]
    """What was read otherwise than in training, in sentences to be printed."""

    def lines(self, source: str) -> list[str]:
        """Returns what was read of `source`, for the printout."""
        columns = self.rows.columns
        read_from = f"; texts from {columns.text!r}, labels from {columns.label!r}" if columns.text else ""
        return [f"{source}: {self.part}, {len(self.rows.texts):,}{read_from}", *self.notes]


def rows_to_measure(
    classifier: Classifier, source: str, text_column: str, label_column: str, options: ReadOptions | None = None
) -> Rows:
    """Returns the rows of `read_measured`."""
    return read_measured(classifier, source, text_column, label_column, options=options).rows


def read_measured(
    classifier: Classifier,
    source: str,
    text_column: str,
    label_column: str,
    overlap: bool = False,
    options: ReadOptions | None = None,
) -> Measured:
    """Reads a source's test split, or all rows of a file; of one that the model was trained on, those held out then.

    text_column, label_column: what the caller names; else the columns that the model was trained on are read where the
    source has them. overlap: whether to look for near duplicates of the training rows that the source holds too
    (`Rows.overlap`). options: how files are read; None as in training, if it is that source. Raises DataError where
    there are no rows to measure, or where the source cannot be read.
    """
    own, known, names = classifier.config.data, classifier.trained_rows, classifier.label_names
    same_path = source == own.source or (Path(source).exists() and Path(source).resolve() == Path(own.source).resolve())
    options = options or (read_options(own) if same_path else None)
    first_label, sha256 = known.get("first_label"), known.get("sha256", "")
    trained_rows = sha256 if overlap else ""
    trained, skips = classifier.columns, same_path and own.skip_bad_rows
    rows, own_test = load_rows(
        source, names, text_column, label_column, first_label, trained_rows, own.merge_labels, skips, trained, options
    )
    notes = tuple(other_columns(rows.columns, trained, Columns(text_column, label_column)))
    if own_test:
        return Measured(rows, "its test split", notes)
    trained_on = sha256 == rows_sha256(rows, names) if sha256 else same_path
    if not trained_on and same_path:
        raise DataError(
            f"{source}: its rows are no longer those that the model was trained on, so which of them it has seen "
            "cannot be told\nfix: give the rows to measure as a file of another name"
        )
    if not trained_on:
        return Measured(rows, "all of its rows", notes)
    # Rows the model has trained on say nothing: take the same test rows as training did.
    if not known.get("test_cut", own.test_fraction > 0):
        raise DataError(f"{source}: the model has trained on all of its rows, so it cannot be measured on them")
    held_out = replace(held_out_rows(rows, own.test_fraction, classifier.config.seed), notes=rows.notes)
    return Measured(held_out, "the rows held out in training", notes)


def _print_evaluation(console: "Console", metrics: dict[str, Any], title: str) -> None:
    from rich.markup import escape
    from rich.table import Table

    console.print(title, style="bold", highlight=False, markup=False, soft_wrap=True)
    table = Table()
    table.add_column("label")
    for name in ("rows", "precision", "recall", "F1"):
        table.add_column(name, justify="right")
    for name, found in metrics["per_label"].items():
        table.add_row(
            escape(name), f"{found['rows']:,}", *(f"{found[key]:.4f}" for key in ("precision", "recall", "f1"))
        )
    console.print(table)
    console.print(
        f"accuracy [bold]{metrics['accuracy']:.2%}[/bold] of {metrics['rows']:,} rows, "
        f"macro-F1 {escape(macro_f1_shown(metrics))}, loss {metrics['loss']:.4f}, "
        f"{metrics['rows_per_second']:.0f} rows/s",
        highlight=False,
        soft_wrap=True,
    )
    for told in overlapping("test", metrics):
        console.print(told, highlight=False, soft_wrap=True)
    calibration = metrics["calibration"]
    surest = ", ".join(
        f"{accuracy:.2%} of the surest {float(share):.0%}" for share, accuracy in calibration["coverage"].items()
    )
    console.print(
        f"calibration error (ECE) {calibration['ece']:.2%}, Brier {calibration['brier']:.4f}, "
        f"temperature {calibration['temperature']:.2f}\naccuracy {surest}",
        highlight=False,
        soft_wrap=True,
    )
