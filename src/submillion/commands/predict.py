"""The command predict: the label of every text of a file, or of standard input."""

import io
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from submillion.atomic import check_output, write_atomically
from submillion.commands.flags import PredictFlags, model_path
from submillion.config.mapping import overlay
from submillion.config.schema import LabelForm
from submillion.config.values import flag_name, shown
from submillion.console import terminal
from submillion.data.columns import NO_COLUMNS, Columns
from submillion.data.files import DEFAULTS, find_input, stream_texts
from submillion.data.formats.options import ReadOptions
from submillion.data.inputs import CheckedInput, InputRows, check_input, iter_input
from submillion.errors import ConfigError, DataError, escaped
from submillion.inference.answers import Answers, answer_format
from submillion.inference.artefact import Artefact, find_artefact, model_file
from submillion.inference.classifier import Classifier, is_checkpoint, open_classifier
from submillion.runtime.distributed import World, join
from submillion.runtime.progress import progress

if TYPE_CHECKING:
    from rich.console import Console

STANDARD = Path("-")  # standard input, standard output


def predict_file(
    input: Path | None = None,
    model: Path = Path("best_model"),
    output: Path = Path("predictions.csv"),
    scores: bool = False,
    base: str = "",
    text_column: str = "",
    batch_size: int = 0,
    precision: str = "auto",
    format: str = "auto",
    adapter_scale: float = 1.0,
    labels: LabelForm = "names",
    id_column: str = "",
    keep: Sequence[str] = (),
    options: ReadOptions = DEFAULTS,
) -> int:
    """Predicts the label of every text of a file and returns the number of rows.

    The file is streamed: memory does not grow with the number of texts. A row is written for each row of the input, as
    `Answers` describes. A blank text gets the label of the empty text. The file is checked whole first, and the output
    appears whole or not at all. What is not obvious about the file is printed first. Under torchrun the processes share
    the rows of each chunk, and the first one writes the file.

    input: None takes the one data file in the model's folder; "-" reads a text from each line of standard input, and
    answers each as soon as it is computed. output: "-" is standard output, flushed chunk by chunk; all messages then go
    to standard error. labels: "names", or "integers", places among the names. text_column, id_column, keep, options: as
    for `check_input`; the columns that the model was trained on are known from its file. Raises SubmillionError.
    """
    format = answer_format(format, output, scores, id_column, keep)
    with join() as world:
        console = terminal(quiet=not world.is_first, stderr=output == STANDARD)
        input = input or find_input(model if is_checkpoint(model) else find_artefact(model).parent)
        if input == STANDARD:
            _check_standard_input(world, {"--text-column": text_column, "--id-column": id_column, "--keep": keep})
        if output != STANDARD:
            check_output(output, {"the input": input, "the model": model_file(model)})
        checked = None
        if input != STANDARD:
            trained, with_ids = _trained_columns(model), format != "labels"
            checked = check_input(input, text_column, id_column, keep, trained, with_ids, options)
            _print(console, checked.notes)
        classifier = open_classifier(model, base, precision, adapter_scale, world)
        kept = checked.kept if checked else ()
        answers = Answers(format, classifier.label_names, scores, labels == "integers", kept)
        _print(console, answers.notes())
        start = time.perf_counter()
        counts, blank = _answer(classifier, checked, answers, output, batch_size, world)
        world.wait()
        seconds, rows = time.perf_counter() - start, int(counts.sum())
        shares = ", ".join(f"{name} {n:,}" for name, n in zip(classifier.label_names, counts, strict=True))
        speed = f"({rows / seconds:.0f} rows/s)"
        _print(console, [f"{rows:,} rows of {_named(input, 'input')} -> {_named(output, 'output')}  {speed}"])
        _print(console, [f"  {shares}"] + [f"  {_blank_rows(blank)} the label of an empty text"] * bool(blank))
        return rows


def _check_standard_input(world: World, columns: dict[str, object]) -> None:
    """Raises SubmillionError if standard input cannot be read, or not with these flags about columns."""
    if world.size > 1:
        raise ConfigError("standard input can only be read by one process\nfix: without torchrun, or give a file")
    if sys.stdin is None:
        raise DataError("expected a text a line on standard input, found it closed\nfix: a pipe, or give a file")
    for flag, value in columns.items():
        if value:
            raise ConfigError(f"{flag}: standard input is a text a line, without columns\nfix: leave it out")


def _trained_columns(model: Path) -> Columns:
    """Returns the columns that the model was trained on, as far as its file knows them. Raises ArtefactError."""
    return NO_COLUMNS if is_checkpoint(model) else Artefact.load(model).trained_columns()


def _answer(
    classifier: Classifier, checked: CheckedInput | None, answers: Answers, output: Path, batch_size: int, world: World
) -> tuple[np.ndarray, int]:
    """Writes an answer for each row of the checked file, or of standard input if it is None.

    Returns the rows of each label, int64 [labels], and how many rows had a blank text.
    """
    counts, blank = np.zeros(len(classifier.label_names), dtype=np.int64), 0
    total = checked.rows if checked else 0
    with (
        _first_writes(output, world) as file,
        progress("predicting", total, world.is_first and total > 0) as advance,
    ):
        file.write(answers.header())
        for rows in iter_input(checked) if checked else _standard_rows():
            logits = classifier.logits_of_checked(rows.texts, batch_size, advance, world)
            labels = classifier.task.decode(logits)
            probabilities = classifier.probabilities(logits) if answers.scores else None
            file.write(answers.lines(rows, int(counts.sum()), labels, probabilities))
            counts += classifier.task.count(labels)
            blank += rows.texts.count("")
            if output == STANDARD:
                file.flush()
    return counts, blank


def _standard_rows() -> Iterator[InputRows]:
    for texts in stream_texts(sys.stdin.buffer):
        yield InputRows(texts)


def _blank_rows(count: int) -> str:
    return f"{count:,} row{'s have' if count > 1 else ' has'} no text and got"


def _print(console: "Console", lines: Sequence[str]) -> None:
    for line in lines:
        console.print(escaped(line), soft_wrap=True, highlight=False, markup=False)


def _named(path: Path, role: str) -> str:
    return f"standard {role}" if path == STANDARD else str(path)


def _first_writes(path: Path, world: World) -> AbstractContextManager[IO]:
    """Returns the stream that the first process writes to: standard output, or the file at `path`, whole or not at all.

    The other processes get a stream that keeps nothing.
    """
    if not world.is_first:
        return open(os.devnull, "w", encoding="utf-8")
    return nullcontext(sys.stdout) if path == STANDARD else write_atomically(path)


def run(values: dict[str, Any], words: list[str]) -> None:
    """Runs `submillion predict` with these flags and the name of the input. Raises ConfigError for flags amiss."""
    flags = overlay(PredictFlags(), values, spell=flag_name)
    if flags.keep and not words and (flags.keep[-1] == "-" or Path(flags.keep[-1]).is_file()):
        columns = shown(flags.keep[:-1]) or "all"
        raise ConfigError(
            f"--keep: expected columns, found the file {flags.keep[-1]}\n"
            f"fix: name it first: submillion predict {shown((flags.keep[-1],))} --keep {columns}"
        )
    output = STANDARD if words == ["-"] and "output" not in values else Path(flags.output)
    if output == STANDARD and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # as in a file, whatever the console's is
    predict_file(
        input=Path(words[0]) if words else None,
        model=model_path(flags.model, "--model"),
        output=output,
        format=flags.format,
        scores=flags.scores,
        labels=flags.labels,
        base=flags.base,
        text_column=flags.text_column,
        id_column=flags.id_column,
        keep=flags.keep,
        batch_size=flags.batch_size,
        precision=flags.precision,
        adapter_scale=flags.adapter_scale,
        options=ReadOptions.of(flags.reading, prefix="--"),
    )
