"""Labelled texts in three splits, checked: what training reads."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from submillion.config import DataConfig
from submillion.data.files import check_texts, iter_texts
from submillion.data.formats.options import ReadOptions
from submillion.data.labels import (
    check_names,
    first_number,
    label_indices,
    raw_labels,
    sorted_names,
    without_points,
)
from submillion.data.sources import Source, read_options, read_source, with_options
from submillion.data.splits import near_duplicate_groups, near_duplicates, stratified_group_split
from submillion.data.tables import Table, checked_texts
from submillion.errors import DataError
from submillion.seeds import numpy_generator


@dataclass(frozen=True)
class Rows:
    texts: list[str]
    labels: np.ndarray
    """int64 [rows]; indices into the corpus' label_names."""
    overlap: np.ndarray | None = None
    """Of a held-out split that the source itself has, bool [rows]: near duplicates of training rows. None of others:
    what is cut from the training rows has none, and of other files it is not known."""


@dataclass(frozen=True)
class Corpus:
    train: Rows
    validation: Rows
    test: Rows
    label_names: tuple[str, ...]
    source: str
    """What was read, and what was cut from it, for the run's printout."""
    notice: str
    """Licence terms that the texts carry; empty where they are not known."""
    hub_id: str
    """Of the data set, owner/name; empty where the rows did not come from the hub."""
    cut: tuple[str, ...]
    """The splits that were cut from the training rows, because the source has none of its own."""
    sha256: str
    """Of the training rows before anything was cut from them: `rows_sha256`."""
    first_label: int | None
    """The integer that stood for the first label name, 0 or 1; None where the rows held names."""
    unlabelled: list[str]
    """Texts of config.unlabelled, each once, without those of the three splits."""
    notes: tuple[str, ...] = ()
    """How the files were understood where that is not obvious, a line each, for the run's printout."""


def load_corpus(config: DataConfig, seed: int, data: object | None = None) -> Corpus:
    """Read config.source, or data where it is given, check every row and complete the splits.

    data: a pandas DataFrame, a dict of columns, a dict of splits ("train", "test", "validation"), a list of dicts or of
    (text, label) pairs, or a path; it is never changed. A missing test split is cut from the training rows
    (test_fraction), then a missing validation split (validation_fraction); near duplicates stay on one side. A
    fraction of 0 leaves that split empty. Rows of a split of the source's own that are near duplicates of training rows
    stay in it, marked (`Rows.overlap`). The file config.unlabelled is read for its texts alone.

    Raises DataError: for a source that cannot be read, and for all unusable rows of a file at once.
    """
    source = read_source(config, data)
    if "train" not in source.splits:
        raise DataError(f"{source.described}: expected training rows, found {', '.join(source.splits)} alone")
    label_names, first_label, splits = _rows_of(source, config.label_names)
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
        rest, cut = stratified_group_split(train.labels, groups, fractions[split], rng)
        splits[split], train, groups = _at(train, cut), _at(train, rest), groups[rest]
        cuts.append(f"{split} {len(cut):,}")
    described = source.described + (f"; cut from train: {', '.join(cuts)}" if cuts else "")
    cut_splits = tuple(split for split in missing if len(splits[split].texts))
    notes = list(source.notes)
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
        first_label,
        unlabelled,
        tuple(dict.fromkeys(notes)),
    )


def _unlabelled(config: DataConfig, splits: Sequence[Rows], notes: list[str]) -> list[str]:
    """The texts of the file, each once: none that a split holds, whose label would be guessed where it is known, and no
    near duplicate of a held-out row, which would be measured on what it was trained on. Adds to the notes how the file
    was understood."""
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
    """What `load_corpus` cuts from these training rows first, by config.test_fraction, above 0."""
    groups = near_duplicate_groups(train.texts)
    _, cut = stratified_group_split(train.labels, groups, fraction, numpy_generator(seed, "split"))
    return _at(train, cut)


def load_rows(
    source: str,
    label_names: Sequence[str],
    text_column: str = "",
    label_column: str = "",
    first_label: int | None = None,
    trained_on: str = "",
    options: ReadOptions | None = None,
    notes: list[str] | None = None,
) -> tuple[Rows, bool]:
    """Labelled rows to measure a model on: the source's test split, or all its rows where it has no splits; and whether
    they are a test split.

    Labels are indices into label_names, the model's own; a source that orders its names otherwise is matched by name.
    first_label: `Corpus.first_label` of the rows it was trained on, where these do not tell. trained_on: their
    `rows_sha256`; where the source's training rows are these, its test rows' `overlap` is told. options: how files are
    read. notes: a list to which `Source.notes` are added. Raises DataError as `load_corpus` does.
    """
    config = DataConfig(source=source, text_column=text_column, label_column=label_column)
    found = read_source(with_options(config, options or ReadOptions()))
    if notes is not None:
        notes += found.notes

    def rows_of(table: Table) -> Rows:
        texts, labels = _columns(table)
        labels = without_points(labels, label_names)
        first = first_number(labels, label_names, table.problems, first_label)
        return _checked_rows(table, texts, labels, label_names, first)

    train, test = found.splits.get("train"), found.splits.get("test")
    if test is None:
        return rows_of(found.splits["train"]), False
    rows = rows_of(test)
    if not trained_on or train is None:
        return rows, True
    try:
        known = rows_of(train)
    except DataError:  # then no model was trained on these rows
        return rows, True
    return (_with_overlap(rows, known) if rows_sha256(known, label_names) == trained_on else rows), True


def rows_sha256(rows: Rows, label_names: Sequence[str]) -> str:
    """Of the texts and the names of their labels, in order."""
    digest = hashlib.sha256()
    for text, label in zip(rows.texts, rows.labels.tolist(), strict=True):
        digest.update(f"{len(text)} {text}\n{label_names[label]}\n".encode())
    return digest.hexdigest()


def _with_overlap(rows: Rows, train: Rows) -> Rows:
    return replace(rows, overlap=near_duplicates(rows.texts, train.texts))


def _at(rows: Rows, indices: np.ndarray) -> Rows:
    return Rows([rows.texts[index] for index in indices], rows.labels[indices])


def _rows_of(source: Source, given: Sequence[str]) -> tuple[tuple[str, ...], int | None, dict[str, Rows]]:
    """Label names (the given ones, else the source's own, else those of the training rows), what integer stands for the
    first, and the checked splits."""
    names = _agreed_names(source, given)
    columns = {
        split: _columns(source.splits[split]) for split in ("train", "validation", "test") if split in source.splits
    }
    every = without_points([label for _, labels in columns.values() for label in labels], names)
    names = names or sorted_names(filter(None, every[: len(columns["train"][1])]))
    first = first_number(every, names, source.splits["train"].problems)
    splits: dict[str, Rows] = {}
    rest = iter(every)
    for split, (texts, _) in columns.items():  # train first
        table, labels = source.splits[split], list(islice(rest, len(texts)))
        splits[split] = _checked_rows(table, texts, labels, names, first)
        if split == "train":
            check_names(names, table.problems.where)
            present = [names[index] for index in np.unique(splits[split].labels)]
            if len(present) < 2:
                raise DataError(
                    f"{table.problems.where}: expected two labels or more in the rows, found {present[0]!r} only"
                )
    return names, first, splits


def _columns(table: Table) -> tuple[list[str], list[str | None]]:
    """Texts and labels as they stand, what is wrong with them among the table's problems."""
    text_column, label_column = table.columns
    return checked_texts(table, text_column), raw_labels(table, label_column)


def _checked_rows(
    table: Table, texts: list[str], labels: Sequence[str | None], names: Sequence[str], first: int | None
) -> Rows:
    """Raises DataError with every problem of the table."""
    indices = label_indices(table, labels, names, first)
    table.problems.check()
    return Rows(texts, indices)


def _agreed_names(source: Source, given: Sequence[str]) -> tuple[str, ...]:
    """The names known beforehand, () where there are none. Raises DataError where two lists differ."""
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
