"""What the tests of the readers share: a file's rows, and the notes and errors that come with them."""

from pathlib import Path
from typing import Any

import pytest

from submillion.config.mapping import overlay
from submillion.config.schema import DataConfig
from submillion.data.files import DEFAULTS, check_texts, iter_texts
from submillion.data.formats.options import ReadOptions
from submillion.data.sources import read_source
from submillion.errors import DataError

Pairs = list[tuple[Any, Any]]


def data_config(**settings: Any) -> DataConfig:
    """Returns the settings of the data, short forms such as header="no" among them."""
    return overlay(DataConfig(), settings)


def labelled(path: Path, **settings: Any) -> tuple[Pairs, tuple[str, ...]]:
    """Returns the (text, label) pairs that training and evaluation read, and the notes. Raises for row problems."""
    source = read_source(data_config(source=str(path), **settings))
    table = source.splits["train"]
    table.problems.check()
    return list(zip(*table.columns.values(), strict=True)), tuple(note.text for note in source.notes)


def texts(path: Path, options: ReadOptions = DEFAULTS) -> tuple[list[str], list[str]]:
    """Returns the texts that predict reads, and the notes."""
    notes: list[str] = []
    count = check_texts(path, options=options, notes=notes)
    read = [text for chunk in iter_texts(path, options=options, chunk_rows=3) for text in chunk]
    assert len(read) == count
    return read, notes


def refusal(path: Path, **settings: Any) -> str:
    """Returns the words with which training and evaluation refuse a file."""
    with pytest.raises(DataError) as caught:
        labelled(path, **settings)
    return str(caught.value)
