"""The command evaluate: how right a saved model is on labelled rows, and how robust."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from submillion.atomic import check_output, check_writable, write_atomically
from submillion.commands.flags import EvaluateFlags, model_path
from submillion.config.mapping import overlay
from submillion.config.values import flag_name
from submillion.console import terminal
from submillion.data.formats.options import ReadOptions
from submillion.errors import ConfigError
from submillion.evaluation.measured import read_measured
from submillion.evaluation.robust import RobustnessOptions, check_options, measure_robustness
from submillion.inference.artefact import model_file
from submillion.inference.classifier import open_classifier
from submillion.report.card_file import refresh_card
from submillion.report.card_robustness import render_robustness
from submillion.report.evaluation import print_evaluation, print_line, print_robustness, print_rows
from submillion.report.evaluation_plots import plot_evaluation
from submillion.runtime.distributed import join
from submillion.runtime.progress import progress

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
            check_output(output, _read_files(model, source, *(robustness.shift if robustness else ())))
        classifier = open_classifier(model, base, precision, adapter_scale, world)
        if robustness:
            check_options(robustness, classifier.label_names)
        if world.is_first:
            for folder in ([output.parent] if output else []) + ([robustness.assets] if robustness else []):
                check_writable(folder)
        measured = read_measured(classifier, source, text_column, label_column, True, options)
        rows, console = measured.rows, terminal(quiet=not world.is_first)
        print_rows(console, measured, source)
        start = time.perf_counter()
        with progress("evaluating", len(rows.texts), world.is_first) as advance:
            logits = classifier.logits(rows.texts, batch_size, advance, world)
        metrics = classifier.task.metrics(logits, rows.labels, rows.overlap)
        metrics["read"] = {"source": source, "part": measured.part} | asdict(rows.columns)
        metrics["rows_per_second"] = len(rows.texts) / (time.perf_counter() - start)
        probabilities = classifier.probabilities(logits)
        calibration = classifier.task.calibration(probabilities, rows.labels)
        metrics["calibration"] = {"temperature": classifier.temperature} | calibration
        if robustness:
            metrics["robustness"] = measure_robustness(
                classifier, rows, robustness, batch_size, world, text_column, label_column
            )
        print_evaluation(console, metrics, f"{model} on {source}")
        if output and world.is_first:
            with write_atomically(output) as file:
                file.write(json.dumps(metrics, indent=2) + "\n")
        if robustness and world.is_first:
            plots = plot_evaluation(classifier.task, metrics, probabilities, rows.labels, robustness.assets)
            print_robustness(console, metrics["robustness"], plots)
            section = render_robustness(metrics, source, adapter_scale, [plot.name for plot in plots])
            _refresh(console, model, section, plots)
        return metrics


def _read_files(model: Path, *sources: str) -> dict[str, Path]:
    """Returns the files that the metrics must not be written over, each by what it is."""
    folders = map(Path, sources)
    files = (path for folder in folders for path in (folder.iterdir() if folder.is_dir() else [folder]))
    return {f"read as {path}": path for path in files} | {"the model": model_file(model)}


def _refresh(console: "Console", model: Path, section: str, plots: list[Path]) -> None:
    """Brings the model's card up to date. A folder that is not ours to write is no error of an evaluation."""
    try:
        card = refresh_card(model, section, plots)
    except OSError as error:
        print_line(console, f"card: not refreshed: {error}")
        return
    if card:
        print_line(console, f"card: {card}")


def run(values: dict[str, Any], words: list[str]) -> None:
    """Runs `submillion evaluate` with these flags. Raises ConfigError for flags amiss."""
    flags = overlay(EvaluateFlags(), values, spell=flag_name)
    if not flags.data.source:
        raise ConfigError("--data.source is required: the labelled rows to measure on\nfix: --data.source FILE")
    unread = [flag_name(key) for key in ("robustness_rows", "shift", "label_map", "assets", "seed") if key in values]
    if unread and not flags.robustness:
        raise ConfigError(f"{', '.join(unread)}: only read with --robustness\nfix: add it, or leave these out")
    robustness = RobustnessOptions(flags.robustness_rows, flags.shift, flags.label_map, flags.seed, Path(flags.assets))
    evaluate_source(
        source=flags.data.source,
        text_column=flags.data.text_column,
        label_column=flags.data.label_column,
        model=model_path(flags.model, "--model"),
        output=Path(flags.output) if flags.output else None,
        base=flags.base,
        batch_size=flags.batch_size,
        precision=flags.precision,
        adapter_scale=flags.adapter_scale,
        robustness=robustness if flags.robustness else None,
        options=ReadOptions.of(flags.data.reading) if flags.data.reading else None,
    )
