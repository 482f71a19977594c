"""The rows of a file that a saved model is to label: texts, IDs, and columns that are copied to the answers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from submillion.data.columns import NO_COLUMNS, Columns, known_text, other_columns
from submillion.data.compression import data_name
from submillion.data.files import CHUNK_ROWS, DEFAULTS, read_chunks
from submillion.data.formats.options import ReadOptions
from submillion.data.tables import (
    OptionalColumn,
    Pick,
    Problems,
    Table,
    answerable_texts,
    blank_as_empty,
    join_texts,
    pick_text,
)
from submillion.data.values import as_cell
from submillion.errors import DataError, did_you_mean, encodable

ALL = ("all",)  # of `keep`: every column
FIX = "fix: correct or remove these rows; each needs a value that can be read as a text, which may be blank"


@dataclass(frozen=True)
class InputRows:
    """Some rows of an input, in its order; every list has an item for each of them."""

    texts: list[str]
    """"" for a blank one."""
    ids: list[Any] | None = None
    """The IDs as they stand in the input; None if the answers count their rows."""
    kept: dict[str, list[Any]] = field(default_factory=dict)
    """Values to copy, by the column's name."""


@dataclass(frozen=True)
class CheckedInput:
    """A file that can be labelled, and what is to be read of it."""

    path: Path
    rows: int
    texts: tuple[str, ...]
    """Names of the columns whose texts are read as one."""
    id: str
    """Name of the column that holds the IDs; "" if the answers count their rows."""
    kept: tuple[str, ...]
    """Names of the columns to copy, in the order of the file or as they were asked for."""
    pick: Pick
    """Picks these columns of the file, and maybe more."""
    notes: tuple[str, ...]
    """What was understood, in sentences to be printed."""
    stamps: Mapping[Path, tuple[int, int]]
    """Size and time of change, in bytes and ns, of the file when it was checked, or of each file of its folder."""
    options: ReadOptions = DEFAULTS
    """How the file is read."""


def check_input(
    path: Path,
    text_column: str = "",
    id_column: str = "",
    keep: Sequence[str] = (),
    trained: Columns = NO_COLUMNS,
    with_ids: bool = True,
    options: ReadOptions = DEFAULTS,
) -> CheckedInput:
    """Reads the whole file once, a chunk at a time, and returns what to read of it for its answers.

    text_column, id_column, keep: what the caller names. trained: the columns that the model was trained on. with_ids:
    whether a column called id is looked for if the caller names none; it is taken if its values are unique and
    not blank. options: how the file is read. Blank texts are texts. Memory grows by 8 bytes a row, and only if there
    are IDs to be compared. Raises DataError with all problems of the file.
    """
    given = Columns(text=text_column)
    pick = _InputPick(path.name, text_column, id_column, keep, trained, with_ids)
    # Taken before the file is read, so that a change while it is read is seen too.
    stamps = _stamps(path.rglob("*") if path.is_dir() else [path])
    problems = Problems(path.name, fix=FIX)
    ids, count = _IdCheck(), 0
    for table in read_chunks(path, pick, problems, options=options):
        if not pick.texts:  # a kind of file without columns, of which nothing was to be picked
            pick(list(table.columns), list(table.columns))
        answerable_texts(*_text_column(table, pick.texts))  # adds what is no text to the problems
        for name in table.columns:
            if name in pick.kept or name == id_column:
                _check_written(table, name)
        ids.add(table.columns[pick.id] if pick.id else [])
        count += len(table.rows)
    problems.check()
    usable = pick.id if id_column or not ids.flaws() else ""
    notes = _id_notes(pick, ids, id_column, usable)
    if data_name(path).suffix.lower() != ".txt":  # which has no columns
        notes = other_columns(Columns(",".join(pick.texts)), pick.trained, given) + notes
    kept = [name for name in pick.kept if name != usable or tuple(keep) != ALL]
    notes = [f"read as: {line}" for line in problems.notes] + notes
    return CheckedInput(path, count, tuple(pick.texts), usable, tuple(kept), pick, tuple(notes), stamps, options)


def iter_input(checked: CheckedInput, chunk_rows: int = CHUNK_ROWS) -> Iterator[InputRows]:
    """Yields the rows of the file in order, at most chunk_rows at a time.

    `check_input` has checked every text of the file, so none is checked again. Pickles and .json arrays are held whole.
    Raises DataError if the file has changed since it was checked.
    """
    _check_unchanged(checked)
    # The same pick as before: a reader that asks it whether the first line is a header gets the same answer.
    for table in read_chunks(checked.path, checked.pick, Problems(checked.path.name), chunk_rows, checked.options):
        _check_unchanged(checked)
        joined, column = _text_column(table, checked.texts)
        texts = blank_as_empty(joined.columns[column])
        ids = table.columns[checked.id] if checked.id else None
        yield InputRows(texts, ids, {name: table.columns[name] for name in checked.kept})
    _check_unchanged(checked)  # a file that was cut short ends here, like one that was read whole


class _InputPick:
    """Picks the columns of an input, and holds afterwards which it took for what."""

    def __init__(
        self, where: str, text_column: str, id_column: str, keep: Sequence[str], trained: Columns, with_ids: bool
    ) -> None:
        self.where, self.text_column, self.id_column = where, text_column, id_column
        self.keep, self.trained, self.with_ids = tuple(keep), trained, with_ids
        self.texts: list[str] = []
        self.id = ""
        self.kept: list[str] = []
        self.id_names: list[str] = []  # columns called id

    def __call__(self, columns: list[str], strings: list[str]) -> list[str]:
        broken = [ascii(name) for name in columns if not encodable(name)]
        if broken and self.keep:
            raise DataError(
                f"{self.where}: expected names of columns that a file of answers can hold, found half of a surrogate "
                f"pair in {', '.join(broken)}\nfix: rename the column, or name others with --keep"
            )
        self.id = ""  # a reader may ask several times; what it asks last is what it reads
        self.id_names = [name for name in columns if name.strip().lower() == "id"]
        # Of two columns of strings, one of which is called id, the other holds the texts.
        strings = [name for name in strings if name not in self.id_names] or strings
        text = known_text(columns, self.text_column, self.trained)
        expected = f"the model was trained on {self.trained.text!r}; " if self.trained.text else ""
        fix = f"{expected}name the column of the texts: --text-column NAME, or several to be joined: A,B"
        self.texts = pick_text(text, self.where, fix=fix)(columns, strings)
        self.id_names = [name for name in self.id_names if name not in self.texts]
        if self.id_column:
            self.id = self._named(columns, self.id_column, "--id-column")
        elif self.with_ids and len(self.id_names) == 1:
            self.id = self.id_names[0]
        named = columns if self.keep == ALL else [self._named(columns, name, "--keep") for name in self.keep]
        self.kept = list(dict.fromkeys(named))
        others = [OptionalColumn(name) for name in [self.id] * bool(self.id) + self.kept]
        return list(dict.fromkeys([*self.texts, *others]))

    def _named(self, columns: list[str], name: str, flag: str) -> str:
        if name in columns:
            return name
        raise DataError(
            f"{self.where}: no column {name!r} ({flag}); the columns are {', '.join(columns)}"
            f"{did_you_mean(name, columns)}"
        )


class _IdCheck:
    """Counts the blank, broken and repeated values of a column that comes in chunks, by a hash of 8 bytes each."""

    def __init__(self) -> None:
        self.blank = 0
        self.broken = 0  # values that hold half of a surrogate pair, which no file of answers can hold
        self._hashes: list[np.ndarray] = []
        self._repeated: int | None = None

    def add(self, values: Sequence[Any]) -> None:
        cells = [cell for cell in map(as_cell, values) if cell.strip()]
        self.blank += len(values) - len(cells)
        self.broken += sum(not encodable(cell) for cell in cells)
        self._hashes.append(np.fromiter(map(hash, cells), np.int64, len(cells)))

    @property
    def repeated(self) -> int:
        """Returns the number of rows whose value stands in an earlier row too."""
        if self._repeated is None:
            hashes = np.sort(np.concatenate(self._hashes))
            self._repeated = int((hashes[1:] == hashes[:-1]).sum())
            self._hashes = []
        return self._repeated

    def flaws(self) -> str:
        """Returns how many values are no IDs, and why: "1 repeated and 2 blank"; "" if all are."""
        counts = {"repeated": self.repeated, "blank": self.blank, "with half of a surrogate pair": self.broken}
        return " and ".join(f"{count:,} {flaw}" for flaw, count in counts.items() if count)


def _id_notes(pick: _InputPick, ids: _IdCheck, id_column: str, usable: str) -> list[str]:
    """Returns what is to be said about the IDs."""
    if pick.with_ids and len(pick.id_names) > 1 and not id_column:
        names = ", ".join(map(repr, pick.id_names))
        return [f"IDs are counted from 0: several columns are called id ({names}); --id-column NAME takes one of them"]
    if not pick.id:
        return []
    flaws = ids.flaws()
    if not usable:
        flawed = f"the column {pick.id!r} has values that are no IDs: {flaws}"
        return [f"IDs are counted from 0: {flawed}; --id-column {pick.id!r} takes them all the same"]
    return [f"IDs are those of the column {usable!r}" + (f", of which {flaws}" if flaws else "")]


def _stamps(paths: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """Returns size and time of change, in bytes and ns, of each path that is a file."""
    stats = {path: path.stat() for path in paths if path.is_file()}
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


def _check_unchanged(checked: CheckedInput) -> None:
    """Raises DataError if the file is no longer the one that was checked: it might hold what is no text."""
    if _stamps(checked.stamps) != checked.stamps:
        raise DataError(f"{checked.path}: the file has changed since it was checked\nfix: run it again")


def _text_column(table: Table, names: Sequence[str]) -> tuple[Table, str]:
    """Returns the table of the texts alone, those of several columns joined, and the name of its one column."""
    joined = join_texts(replace(table, columns={name: table.columns[name] for name in names}), len(names))
    (column,) = joined.columns
    return joined, column


def _check_written(table: Table, name: str) -> None:
    """Adds the values that no file of answers can hold to the table's problems."""
    for index, value in enumerate(table.columns[name]):
        try:
            is_written = encodable(as_cell(value))
        except RecursionError:
            table.problems.add(f"{table.at(index)}: the column {name!r} holds lists too deep within lists")
            continue
        if not is_written:
            problem = f"the column {name!r} holds half of a surrogate pair, which is no character"
            table.problems.add(f"{table.at(index)}: {problem}")
