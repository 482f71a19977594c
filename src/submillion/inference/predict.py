"""The command predict: the label of every text of a file, or of standard input."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from submillion.atomic import check_output, write_atomically
from submillion.config import LabelForm
from submillion.console import terminal
from submillion.data.columns import NO_COLUMNS, Columns
from submillion.data.files import DEFAULTS, find_input, stream_texts
from submillion.data.formats.options import ReadOptions
from submillion.data.inputs import CheckedInput, InputRows, check_input, iter_input
from submillion.errors import ConfigError, DataError, escaped
from submillion.inference.answers import Answers, answer_format
from submillion.inference.classifier import Classifier, is_checkpoint, open_classifier
from submillion.training.artefact import Artefact, find_artefact, model_file
from submillion.training.distributed import World, join
from submillion.training.progress import progress

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
    labels: LabelForm = "auto",
    id_column: str = "",
    keep: Sequence[str] = (),
    options: ReadOptions = DEFAULTS,
) -> int:
    """Labels every text of a file, streaming: memory does not grow with its texts. Returns the number of rows.

    Writes what `Answers` describes, a row for each row of the input: a blank text gets the label of the empty one.
    input None takes the one data file in the model's folder. A file is checked whole first, and the output appears
    whole or not at all. input -: a text a line from standard input, each answered as soon as it is computed. output -:
    standard output, flushed chunk by chunk; what else there is to say then goes to standard error. labels: "names",
    "integers" (places among the names), or "auto", what the model's configuration says. text_column, id_column, keep,
    options: as for `check_input`; the columns that the model was trained on are known from its file. What is not
    obvious about the file is printed first. Under torchrun the processes share the rows of each chunk and the first
    writes the file. Raises SubmillionError.
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
        integers = (classifier.config.output.labels if labels == "auto" else labels) == "integers"
        answers = Answers(format, classifier.label_names, scores, integers, checked.kept if checked else ())
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
    """Raises SubmillionError where standard input cannot be read, or not with these flags about columns."""
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
    """Writes an answer for each row of the checked file, or of standard input where it is None.

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
            logits = classifier.logits(rows.texts, batch_size, advance, world)
            labels = logits.argmax(axis=1)
            probabilities = classifier.probabilities(logits) if answers.scores else None
            file.write(answers.lines(rows, int(counts.sum()), labels, probabilities))
            counts += np.bincount(labels, minlength=len(counts))
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
    """Standard output or the file at `path`, whole or not at all, for the first process; for the others, one that keeps
    nothing."""
    if not world.is_first:
        return open(os.devnull, "w", encoding="utf-8")
    return nullcontext(sys.stdout) if path == STANDARD else write_atomically(path)
