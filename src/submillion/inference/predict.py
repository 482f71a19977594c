"""The command predict: the label of every text of a file, or of standard input."""

import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO

import numpy as np

from submillion.atomic import check_output, write_atomically
from submillion.data.files import DEFAULTS, check_texts, find_input, iter_texts, stream_texts
from submillion.data.formats.options import ReadOptions
from submillion.errors import ConfigError, DataError
from submillion.inference.answers import answer_format, answer_lines, header_line
from submillion.inference.classifier import is_checkpoint, open_classifier
from submillion.inference.notes import print_notes
from submillion.training.artefact import find_artefact, model_file
from submillion.training.distributed import World, join
from submillion.training.progress import progress

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
    options: ReadOptions = DEFAULTS,
) -> int:
    """Labels every text of a file, streaming: memory does not grow with the file. Returns the number of rows.

    Writes what `answer_lines` describes; as CSV, IDs 0..n-1 in file order and labels as integers. input None takes the
    one data file in the model's folder. A file is checked whole first, and the output appears whole or not at all.
    input -: a text a line from standard input, each answered as soon as it is computed. output -: standard output,
    flushed chunk by chunk; what else there is to say then goes to standard error. Under torchrun the processes share
    the rows of each chunk and the first writes the file. options: how the file is read; what is not obvious about it is
    printed first. Raises SubmillionError.
    """
    from rich.console import Console

    format = answer_format(format, output, scores)
    with join() as world:
        console = Console(quiet=not world.is_first, stderr=output == STANDARD)
        input = input or find_input(model if is_checkpoint(model) else find_artefact(model).parent)
        if input == STANDARD and world.size > 1:
            raise ConfigError("standard input can only be read by one process\nfix: without torchrun, or give a file")
        if input == STANDARD and sys.stdin is None:
            raise DataError("expected a text a line on standard input, found it closed\nfix: a pipe, or give a file")
        if input == STANDARD and text_column:
            raise ConfigError("--text-column: standard input is a text a line, without columns\nfix: leave it out")
        if output != STANDARD:
            check_output(output, {"the input": input, "the model": model_file(model)})
        notes: list[str] = []
        total = 0 if input == STANDARD else check_texts(input, text_column, options=options, notes=notes)
        print_notes(console, notes)
        classifier = open_classifier(model, base, precision, adapter_scale, world)
        chunks = (
            stream_texts(sys.stdin.buffer) if input == STANDARD else iter_texts(input, text_column, options=options)
        )
        counts = np.zeros(len(classifier.label_names), dtype=np.int64)
        start = time.perf_counter()
        with (
            _first_writes(output, world) as file,
            progress("predicting", total, world.is_first and total > 0) as advance,
        ):
            file.write(header_line(format, classifier.label_names, scores))
            for texts in chunks:
                logits = classifier.logits(texts, batch_size, advance, world)
                labels = logits.argmax(axis=1)
                probabilities = classifier.probabilities(logits) if scores else None
                first_id = int(counts.sum())
                file.write(answer_lines(format, classifier.label_names, first_id, labels, probabilities))
                counts += np.bincount(labels, minlength=len(counts))
                if output == STANDARD:
                    file.flush()
        world.wait()
        seconds, rows = time.perf_counter() - start, int(counts.sum())
        shares = ", ".join(f"{name} {n:,}" for name, n in zip(classifier.label_names, counts, strict=True))
        console.print(
            f"{rows:,} rows of {_named(input, 'input')} -> {_named(output, 'output')}  ({rows / seconds:.0f} rows/s)"
            f"\n  {shares}",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
        return rows


def _named(path: Path, role: str) -> str:
    return f"standard {role}" if path == STANDARD else str(path)


def _first_writes(path: Path, world: World) -> AbstractContextManager[IO]:
    """Standard output or the file at `path`, whole or not at all, for the first process; for the others, one that keeps
    nothing."""
    if not world.is_first:
        return open(os.devnull, "w", encoding="utf-8")
    return nullcontext(sys.stdout) if path == STANDARD else write_atomically(path)
