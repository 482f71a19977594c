"""Texts and label indices from the tables of a source.

The names are agreed on, labels that are one are joined, and bad rows are refused or left out.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from submillion.config.schema import DataConfig
from submillion.data.columns import NO_COLUMNS, Columns
from submillion.data.label_notes import (
    check_meant,
    header_notes,
    joined_notes,
    label_notes,
    repeats_header,
)
from submillion.data.labels import (
    check_names,
    first_number,
    label_indices,
    label_text,
    number_of,
    one_spelling_a_number,
    raw_labels,
    sorted_names,
    without_points,
)
from submillion.data.lookalikes import alike_groups, alike_names
from submillion.data.notes import Note, place_notes, unlabelled_note
from submillion.data.skipping import Skipped, without_bad_rows
from submillion.data.sources import Source
from submillion.data.tables import Table, checked_texts
from submillion.errors import DataError

SPLITS = ("train", "validation", "test")
SKIP_FIX = "fix: correct or remove these rows, or leave them out with --data.skip-bad-rows"
NONE_LEFT_FIX = "fix: correct these rows, without them none is left"
MERGE_FIX = "or join labels that look alike with --data.merge-labels"


@dataclass(frozen=True)
class Rows:
    texts: list[str]
    labels: np.ndarray
    """int64 [rows]; indices into the corpus' label_names."""
    overlap: np.ndarray | None = None
    """bool [rows]: near duplicates of training rows, in a held-out split that the source itself has. None for other
    rows: what is cut from the training rows has none, and for other files it is not known."""
    notes: tuple[Note, ...] = ()
    """What the source of rows to measure on holds and is not used."""
    columns: Columns = NO_COLUMNS
    """The columns that the rows were read from, if `load_rows` read them."""

    @property
    def strata(self) -> np.ndarray:
        """Returns what a cut of the rows keeps the proportions of, int64 [rows]: the label of each."""
        return self.labels

    def named(self, label_names: Sequence[str]) -> list[str]:
        """Returns each row's label by its name."""
        return [label_names[label] for label in self.labels.tolist()]


@dataclass(frozen=True)
class Labelled:
    """The splits that a source has labels for."""

    names: tuple[str, ...]
    first: int | None
    """The integer that stood for the first name; None if the rows held names."""
    splits: Mapping[str, Rows]
    notes: tuple[Note, ...]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class _Split:
    """A split as it stands; texts and labels that cannot be used are among the table's problems."""

    table: Table
    texts: list[str]
    labels: list[str | None]


def labelled_rows(source: Source, config: DataConfig) -> Labelled:
    """Returns the checked rows of each split, and the label names.

    The names are the given ones, else the source's own, else those of the training rows. If they are known from the
    training rows alone, labels that are one number are one label; with config.merge_labels so are those that look
    alike. With config.skip_bad_rows a row that cannot be used is left out. Otherwise raises DataError with every
    problem of a split. Also raises DataError for labels that cannot be meant.
    """
    known_names = names = _agreed_names(source, config.label_names)
    tables, notes = _labelled_tables(source, names)
    for table in tables.values():
        table.problems.fix = NONE_LEFT_FIX if config.skip_bad_rows else SKIP_FIX
    splits: dict[str, _Split] = {}
    skipped: list[Skipped] = []
    if config.skip_bad_rows:  # before the names are taken from them
        for split, table in tables.items():
            splits[split], left_out = _read_usable(split, table)
            skipped += left_out
    else:
        notes += header_notes({split: repeats_header(table) for split, table in tables.items()}, tables)
        splits = {split: _read(table) for split, table in tables.items()}
    names, splits, label_changes = _agreed_labels(splits, names, config)
    notes += label_changes
    first = first_number(
        [label for split in splits.values() for label in split.labels], names, splits["train"].table.problems
    )
    notes += place_notes(names, first)
    rows_of: dict[str, Rows] = {}
    for split, part in splits.items():  # train first
        rows_of[split], left_out = _rows(split, part, names, first, config)
        skipped += left_out
        if split == "train":
            _check_two_labels(rows_of[split], names, part.table.problems.where)
    counts = Counter(names[index] for index in rows_of["train"].labels.tolist())
    listed = label_notes(counts, config.merge_labels, names_are_given=bool(known_names))
    return Labelled(names, first, rows_of, (*listed, *notes), tuple(skipped))


def rows_of_table(
    table: Table, names: Sequence[str], first: int | None, merge_labels: bool, skip_bad_rows: bool
) -> Rows:
    """Returns the rows of a table whose label names are known.

    first: the integer that stood for the first name in training, if these rows do not tell. merge_labels,
    skip_bad_rows: as in training. Raises DataError with every problem of the table.
    """
    table.problems.fix = "fix: give these rows one of the model's labels, or remove them"
    part = _read_usable("", table)[0] if skip_bad_rows else _read(table)
    labels: Sequence[str | None] = without_points(part.labels, names)
    if merge_labels:
        labels = _renamed(labels, alike_names(filter(None, labels), names))
    first = first_number(labels, names, part.table.problems, first)
    indices = label_indices(part.table, labels, names, first)
    notes = tuple(place_notes(names, first))
    if skip_bad_rows:
        return Rows(_usable("", part)[0].texts, indices[indices >= 0], notes=notes)
    part.table.problems.check()
    return Rows(part.texts, indices, notes=notes)


def is_unlabelled(table: Table, names: Sequence[str]) -> bool:
    """Returns whether no row of a table has a label: all are missing, or -1 if that is none of the names."""
    _, column = table.columns
    for value in table.columns[column]:
        try:
            label = label_text(value)
        except ValueError:
            return False
        if label is not None and (number_of(label) != -1 or "-1" in names):
            return False
    return True


def _labelled_tables(source: Source, names: Sequence[str]) -> tuple[dict[str, Table], list[Note]]:
    """Returns the splits of a source that have labels, train first, and a note on each of the others."""
    tables = {split: source.splits[split] for split in SPLITS if split in source.splits}
    notes = list(source.notes)
    _, column = tables["train"].columns
    known = (*names, *{str(value) for value in tables["train"].columns[column]})
    for split in SPLITS[1:]:
        if split in tables and is_unlabelled(tables[split], known):
            notes.append(unlabelled_note(split, source.files.get(split, ""), "no row has a label"))
            del tables[split]
    return tables, notes


def _read(table: Table) -> _Split:
    text_column, label_column = table.columns
    return _Split(table, checked_texts(table, text_column), raw_labels(table, label_column))


def _agreed_labels(
    splits: dict[str, _Split], names: tuple[str, ...], config: DataConfig
) -> tuple[tuple[str, ...], dict[str, _Split], list[Note]]:
    """Returns the names, the splits with their labels as they are meant, and a note on each label that was joined."""
    every = without_points([label for split in splits.values() for label in split.labels], names)
    sizes = np.cumsum([len(split.labels) for split in splits.values()])
    parts = dict(zip(splits, (every[start:end] for start, end in zip([0, *sizes], sizes, strict=False)), strict=True))
    train, notes = parts["train"], []
    if not names:
        few_rows_are_meant = bool(config.unlabelled) or not (config.validation_fraction or config.test_fraction)
        check_meant(train, splits["train"].table, few_rows_are_meant)
        same_number = one_spelling_a_number(train)
        notes += joined_notes(train, same_number, "the same number; if these are codes, list them: --data.label-names")
        parts["train"] = train = _renamed(train, same_number)
        if config.merge_labels:
            counts = Counter(filter(None, train))
            alike = {name: group[0] for group in alike_groups(counts) for name in group[1:]}
            notes += joined_notes(train, alike, "it looks alike (train rows): --data.merge-labels")
            parts["train"] = train = _renamed(train, alike)
        names = sorted_names(filter(None, train))
    if config.merge_labels:
        alike = alike_names(filter(None, (label for part in parts.values() for label in part)), names)
        for split, part in parts.items():
            notes += joined_notes(part, alike, f"it looks alike ({split} rows): --data.merge-labels")
        parts = {split: _renamed(part, alike) for split, part in parts.items()}
    agreed = {name: _Split(split.table, split.texts, parts[name]) for name, split in splits.items()}
    return names, agreed, notes


def _renamed(labels: Sequence[str | None], name_of: Mapping[str, str]) -> list[str | None]:
    return [label if label is None else name_of.get(label, label) for label in labels]


def _read_usable(split: str, table: Table) -> tuple[_Split, list[Skipped]]:
    """Returns the rows that can be used, but for unknown labels, and those that repeat the header or cannot be used."""
    for row in repeats_header(table):
        table.problems.add(f"{table.at(row)}: the row repeats the header")
    return _usable(split, _read(table))


def _usable(split: str, part: _Split) -> tuple[_Split, list[Skipped]]:
    """Returns the rows without a problem, and the others.

    Raises DataError if none is left, and for a problem that belongs to no row.
    """
    kept, skipped = without_bad_rows(part.table, split)
    if not kept:
        raise part.table.problems.error()
    texts, labels = [part.texts[row] for row in kept], [part.labels[row] for row in kept]
    return _Split(part.table.only(kept), texts, labels), skipped


def _rows(
    split: str, part: _Split, names: Sequence[str], first: int | None, config: DataConfig
) -> tuple[Rows, list[Skipped]]:
    """Returns the rows of a split, and those that were left out for their labels.

    Raises DataError for a bad row that may not be left out.
    """
    indices = label_indices(part.table, part.labels, names, first)
    if config.skip_bad_rows:
        part, skipped = _usable(split, part)
        return Rows(part.texts, indices[indices >= 0]), skipped
    if not config.merge_labels and alike_names(filter(None, part.labels), names):
        part.table.problems.fix = f"{SKIP_FIX}, {MERGE_FIX}"
    part.table.problems.check()
    return Rows(part.texts, indices), []


def _check_two_labels(train: Rows, names: Sequence[str], where: str) -> None:
    check_names(names, where)
    present = [names[index] for index in np.unique(train.labels)]
    if len(present) < 2:
        raise DataError(
            f"{where}: expected two labels or more in the rows, found {present[0]!r} only\n"
            "fix: is --data.label-column the right one?"
        )


def _agreed_names(source: Source, given: Sequence[str]) -> tuple[str, ...]:
    """Returns the names known beforehand, () if there are none. Raises DataError if two lists differ."""
    known, origin = tuple(given), "--data.label-names"
    if known:
        check_names(known, origin)
    for split, table in source.splits.items():
        _, label_column = table.columns
        own = table.label_names.get(label_column, ())
        if own and known and own != known:
            raise DataError(
                f"{table.problems.where}: its own label names are {', '.join(own)}, but {origin} has "
                f"{', '.join(known)}; leave --data.label-names empty, or give the same names in the same order"
            )
        if own and not known:
            known, origin = own, f"the {split} split"
    return known
