"""Labelled texts in three splits, checked: what training reads."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from submillion.config.schema import DataConfig
from submillion.data.columns import NO_COLUMNS, Columns, pick_trained
from submillion.data.files import check_texts, iter_texts
from submillion.data.formats.options import ReadOptions
from submillion.data.labelled import Rows, is_unlabelled, labelled_rows, rows_of_table
from submillion.data.notes import Note, reading_notes, unlabelled_note
from submillion.data.skipping import Skipped
from submillion.data.sources import read_options, read_source
from submillion.data.splits import near_duplicate_groups, near_duplicates, stratified_group_split
from submillion.data.tables import Table
from submillion.errors import DataError
from submillion.seeds import numpy_generator


@dataclass(frozen=True)
class Corpus:
    train: Rows
    validation: Rows
    test: Rows
    label_names: tuple[str, ...]
    source: str
    """What was read, and what was cut from it, for the run's printout."""
    notice: str
    """Licence terms that the texts carry; empty if they are not known."""
    hub_id: str
    """The data set's id on the hub, owner/name; empty if the rows did not come from the hub."""
    cut: tuple[str, ...]
    """The splits that were cut from the training rows, because the source has none of its own."""
    sha256: str
    """The `rows_sha256` of the training rows before anything was cut from them."""
    first_label: int | None
    """The integer that stood for the first label name, 0 or 1; None if the rows held names."""
    unlabelled: list[str]
    """Texts of config.unlabelled, each once, without those of the three splits."""
    notes: tuple[Note, ...] = ()
    """What to know of the rows before training: their labels, and what was not read as it stands."""
    skipped: tuple[Skipped, ...] = ()
    """The rows that data.repair left out."""
    columns: Columns = NO_COLUMNS
    """The columns that the training rows were read from; empty if they stood in none."""

    def splits(self) -> dict[str, Rows]:
        """Returns the rows of each split by the name that a person reads."""
        return {"training": self.train, "validation": self.validation, "test": self.test}

    def skipped_counts(self) -> dict[str, int]:
        """Returns how many rows data.repair left out, by split."""
        return dict(Counter(row.split for row in self.skipped))


def load_corpus(config: DataConfig, seed: int, data: object | None = None) -> Corpus:
    """Reads config.source, or data if it is given, checks every row and completes the splits.

    data: a pandas DataFrame, a dict of columns, a dict of splits ("train", "test", "validation"), a list of dicts or of
    (text, label) pairs, or a path; it is never changed.

    A missing test split is cut from the training rows (test_fraction), then a missing validation split
    (validation_fraction). Near duplicates stay on one side. A fraction of 0 leaves that split empty. In a split that
    the source brings, rows that are near duplicates of training rows stay, marked (`Rows.overlap`). Only the texts of
    the file config.unlabelled are read.

    Raises DataError for a source that cannot be read, and for all unusable rows of a file at once.
    """
    source = read_source(config, data)
    if "train" not in source.splits:
        raise DataError(f"{source.described}: expected training rows, found {', '.join(source.splits)} alone")
    labelled = labelled_rows(source, config)
    label_names, splits = labelled.names, dict(labelled.splits)
    train, cuts = splits["train"], []
    splits |= {name: _with_overlap(rows, train) for name, rows in splits.items() if name != "train"}
    sha256 = rows_sha256(train, label_names)
    missing = [split for split in ("test", "validation") if split not in splits]
    fractions = {"test": config.test_fraction, "validation": config.validation_fraction}
    groups = near_duplicate_groups(train.texts) if any(fractions[split] for split in missing) else None
    rng = numpy_generator(seed, "split")
    for split in missing:
        if groups is None or not fractions[split]:
            splits[split] = _at(train, np.empty(0, dtype=np.int64))
            continue
        rest, cut = stratified_group_split(train.strata, groups, fractions[split], rng)
        splits[split], train, groups = _at(train, cut), _at(train, rest), groups[rest]
        cuts.append(f"{split} {len(cut):,}")
    described = source.described + (f"; cut from train: {', '.join(cuts)}" if cuts else "")
    cut_splits = tuple(split for split in missing if len(splits[split].texts))
    notes: list[str] = []
    unlabelled = _unlabelled(config, [train, splits["validation"], splits["test"]], notes) if config.unlabelled else []
    return Corpus(
        train,
        splits["validation"],
        splits["test"],
        label_names,
        described,
        source.notice,
        source.hub_id,
        cut_splits,
        sha256,
        labelled.first,
        unlabelled,
        tuple(dict.fromkeys((*labelled.notes, *reading_notes(notes)))),
        labelled.skipped,
        source.columns.get("train", NO_COLUMNS),
    )


def _unlabelled(config: DataConfig, splits: Sequence[Rows], notes: list[str]) -> list[str]:
    """Returns the texts of the file config.unlabelled that training can use, each once.

    splits: train first. A text that a split holds is left out: its label is known and must not be guessed. So is a near
    duplicate of a held-out row, which would be measured on what it was trained on. Adds to the notes how the file was
    understood. Raises DataError for the problems of the file, and if no text is left.
    """
    options = read_options(config)
    # First all problems of the file at once.
    check_texts(config.unlabelled, config.text_column, "--data.text-column", options, notes)
    train, *held_out = splits
    held_out_texts = [text for rows in held_out for text in rows.texts]
    known = {*train.texts, *held_out_texts}
    read = (text for chunk in iter_texts(config.unlabelled, config.text_column, options=options) for text in chunk)
    texts = [text for text in dict.fromkeys(read) if text not in known]
    groups = near_duplicate_groups(held_out_texts + texts)
    seen, own = np.split(groups, [len(held_out_texts)])
    texts = [texts[index] for index in np.flatnonzero(~np.isin(own, seen))]
    if not texts:
        raise DataError(
            f"{config.unlabelled}: expected texts beyond those of the labelled rows, found none\n"
            "fix: another file, or leave --data.unlabelled out"
        )
    return texts


def held_out_rows(train: Rows, fraction: float, seed: int) -> Rows:
    """Returns the rows that `load_corpus` cuts first from these training rows.

    fraction: config.test_fraction, above 0.
    """
    groups = near_duplicate_groups(train.texts)
    _, cut = stratified_group_split(train.strata, groups, fraction, numpy_generator(seed, "split"))
    return _at(train, cut)


def load_rows(
    source: str,
    label_names: Sequence[str],
    text_column: str = "",
    label_column: str = "",
    first_label: int | None = None,
    trained_on: str = "",
    merge_labels: bool = False,
    skip_bad_rows: bool = False,
    trained_columns: Columns = NO_COLUMNS,
    options: ReadOptions | None = None,
) -> tuple[Rows, bool]:
    """Returns labelled rows to measure a model on, and whether they are a test split.

    They are the source's test split, or all its rows if it has no splits or no labels in that one. Labels are indices
    into label_names, the model's own; a source that orders its names otherwise is matched by name.

    first_label: `Corpus.first_label` of the rows that the model was trained on, used if these rows do not tell it.
    trained_on: the `rows_sha256` of those rows; if the source's training rows are the same, the test rows' `overlap` is
    marked. merge_labels, skip_bad_rows: as in the model's own config, the second for the source that it was trained on.
    trained_columns: the columns that the model was trained on; they are read here too if the source has them and the
    caller names no others. options: how files are read. Raises DataError as `load_corpus` does.
    """
    pick = partial(pick_trained, text_column, label_column, trained_columns)
    read = read_source(DataConfig(source=source), pick=pick, options=options)

    def rows_of(table: Table) -> Rows:
        return rows_of_table(table, label_names, first_label, merge_labels, skip_bad_rows)

    train, test = read.splits.get("train"), read.splits.get("test")
    notes = list(read.notes)
    if test is not None and train is not None and is_unlabelled(test, label_names):
        notes.append(unlabelled_note("test", read.files.get("test", ""), "no row has a label"))
        test = None
    columns = read.columns.get("train" if test is None else "test", NO_COLUMNS)
    if test is None:
        rows = rows_of(read.splits["train"])
        return replace(rows, notes=(*notes, *rows.notes), columns=columns), False
    rows = rows_of(test)
    rows = replace(rows, notes=(*notes, *rows.notes), columns=columns)
    if not trained_on or train is None:
        return rows, True
    try:
        known = rows_of(train)
    except DataError:  # then no model was trained on these rows
        return rows, True
    return (_with_overlap(rows, known) if rows_sha256(known, label_names) == trained_on else rows), True


def rows_sha256(rows: Rows, label_names: Sequence[str]) -> str:
    """Returns the SHA-256 of the texts and the names of their labels, in order."""
    digest = hashlib.sha256()
    for text, label in zip(rows.texts, rows.named(label_names), strict=True):
        digest.update(f"{len(text)} {text}\n{label}\n".encode())
    return digest.hexdigest()


def _with_overlap(rows: Rows, train: Rows) -> Rows:
    return replace(rows, overlap=near_duplicates(rows.texts, train.texts))


def _at(rows: Rows, indices: np.ndarray) -> Rows:
    return Rows([rows.texts[index] for index in indices], rows.labels[indices], columns=rows.columns)
