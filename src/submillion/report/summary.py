"""The table that a run ends with."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from submillion.data.skipping import FILE_NAME as SKIPPED
from submillion.inference.artefact import FILE_NAME as MODEL
from submillion.report.card_file import FILE_NAME as CARD
from submillion.report.data_lines import why_none
from submillion.report.plots import NAMES as PLOTS
from submillion.report.sentences import after_the_kept_step, macro_f1_shown, overlap_sentence, wilson_interval
from submillion.training.result import RunResult
from submillion.training.run import Run

if TYPE_CHECKING:
    from rich.console import Console

Line = tuple[str, str]  # a heading and its text


def print_summary(result: RunResult, run: Run, console: "Console", predictions: Path | None = None) -> None:
    """Prints how good the saved model is, how small, how fast it trained, where its files are, and what to try next.

    predictions: a file that the model has predicted, if there is one.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(title="result", title_justify="left", title_style="bold", show_header=False)
    lines = [*_accuracy(result, run), *_calibration(result), *_training(result, run), *_files(run, predictions)]
    for heading, line in lines:
        table.add_row(heading, Text(line, style="bold" if heading == "test accuracy" else ""))
    console.print(table)


def _accuracy(result: RunResult, run: Run) -> Iterator[Line]:
    for split, metrics in (("test", result.test), ("validation", result.validation)):
        if metrics is None:
            yield f"{split} rows", why_none(split, run.config.data)
            continue
        yield f"{split} accuracy", f"{metrics['accuracy']:.2%} of {metrics['rows']:,} rows"
        yield f"{split} macro-F1", macro_f1_shown(metrics)
        if sentence := overlap_sentence(split, metrics):
            yield f"{split} overlap", sentence
    if crossed := result.cross_validation:
        accuracy, rows = crossed.metrics["accuracy"], crossed.metrics["rows"]
        low, high = wilson_interval(accuracy, rows)
        models = f"{accuracy:.1%} of {rows:,} rows, by {crossed.folds} models that had not learned from them"
        yield "cross-validation", f"{models} ({low:.0%} to {high:.0%} with 95 % confidence)"


def _calibration(result: RunResult) -> Iterator[Line]:
    temperature = result.temperature
    if temperature.value == 1:
        return
    line = f"temperature {temperature.value:.2f}"
    if temperature.fitted_to == "neighbours" and result.self_labelled:
        line += f", by {result.self_labelled.held_back:,} texts held back"
    elif temperature.fitted_to == "folds":
        line += ", by cross-validation"
    if not result.headline:
        yield "calibration", line
        return
    split, metrics = result.headline
    yield "calibration error", f"{metrics['ece']:.2%} ({split}; {metrics['ece_uncalibrated']:.2%} before {line})"


def _training(result: RunResult, run: Run) -> Iterator[Line]:
    trainable, total = result.parameters["trainable"], result.parameters["total_with_adapters"]
    yield "trainable", f"{trainable:,} of {total:,} parameters"
    yield "training", f"{result.training_seconds:.0f} s, {result.rows_per_second:.0f} rows/s"
    if result.int8:
        yield "prediction", f"in int8, and in bf16 for rows close between two labels ({result.int8.again:.1%})"
    if result.label_names and result.label_names.read:
        yield "label names", "trained it too, as texts"
    if result.skipped:
        rows = sum(result.skipped.values())
        yield "skipped", f"{rows:,} rows, listed in {Path(run.config.output.dir) / SKIPPED}"
    if result.self_labelled:
        yield "self-labelled", f"{result.self_labelled.trained:,} unlabelled texts trained it too"
    if result.ngram_weight is not None:
        chosen = ", chosen on the validation rows" if result.ngram_weight != 1 else ""
        yield "n-grams", f"weight {result.ngram_weight:.2f} beside 1 for the encoder's logits{chosen}"
    why = "the lowest validation loss" if result.validation else "the last: there are no validation rows"
    yield "kept", f"step {result.best_step:,} of {result.steps:,}, {why}{after_the_kept_step(run, result)}"


def _files(run: Run, predictions: Path | None) -> Iterator[Line]:
    folder = Path(run.config.output.dir)
    yield "model", f"{folder / MODEL} ({(folder / MODEL).stat().st_size / 1e6:.1f} MB)"
    yield "numbers", "\n".join(str(folder / name) for name in ("metrics.json", "history.jsonl", "config.toml"))
    yield "card", str(folder / CARD)
    yield "plots", "\n".join(str(folder / name) for name in PLOTS)
    if predictions:
        yield "predictions", str(predictions)
    yield "next", f"submillion predict YOUR_FILE --model {shlex.quote(str(folder))} --scores"
