"""What the labels of the training rows look like: counted, compared, and refused if they cannot be meant."""

from collections import Counter
from collections.abc import Mapping, Sequence

from submillion.data.labels import number_of, short
from submillion.data.lookalikes import MISSING_WORDS, alike_groups, told_apart
from submillion.data.notes import Note
from submillion.data.tables import Table
from submillion.errors import DataError, escaped

ALL_LISTED = 15  # labels that are all listed; of more, the LARGEST and the SMALLEST
LARGEST, SMALLEST = 10, 5
MOST_NOTES = 10  # of one kind
# More different labels than half of the rows cannot be classes, but for a few rows: then there may be one row a class.
FEWEST_CODES, FEWEST_NAMES = 6, 10
MOST_FRACTIONS = 25  # different numbers with a fraction: ratings in half steps from 0 to 10 are 21


def label_notes(counts: Mapping[str, int], merged: bool, names_are_given: bool) -> list[Note]:
    """Returns the notes on the labels of the training rows.

    They tell the labels' counts, which labels look alike, and which are how a program writes a missing value. counts:
    rows by label. merged: whether data.merge_labels has joined look-alikes already. names_are_given: whether the names
    come from a list, in which only its author can join two.
    """
    notes = [Note("labels", _counted(counts))]
    groups = alike_groups(counts)
    for group in groups[:MOST_NOTES]:
        shown = ", ".join(f"{name} {counts[label]:,}" for name, label in zip(told_apart(group), group, strict=True))
        fix = "join them in the list of label names" if names_are_given or merged else "--data.merge-labels joins them"
        notes.append(Note("look alike", f"{shown}: {fix}"))
    if len(groups) > MOST_NOTES:
        notes.append(Note("look alike", f"and {len(groups) - MOST_NOTES:,} groups more"))
    for label in counts:
        if label.lower() in MISSING_WORDS:
            notes.append(
                Note(
                    "missing?",
                    f"the label {label!r} ({counts[label]:,} rows) is how programs write a missing value: if it is "
                    "one, empty these cells and leave the rows out with --data.skip-bad-rows",
                )
            )
    return notes


def _counted(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts, key=lambda label: (-counts[label], label))
    total = f"{len(ordered):,} in {sum(counts.values()):,} labelled rows"
    if len(ordered) <= ALL_LISTED:
        return f"{total}: {_listed(ordered, counts)}"
    smallest = _listed(ordered[-SMALLEST:], counts)
    return f"{total}: the largest {_listed(ordered[:LARGEST], counts)}; the smallest {smallest}"


def _listed(labels: Sequence[str], counts: Mapping[str, int]) -> str:
    return ", ".join(f"{escaped(short(label))} {counts[label]:,}" for label in labels)


def joined_notes(labels: Sequence[str | None], name_of: Mapping[str, str], why: str) -> list[Note]:
    """Returns a note on each label that is read as another one. name_of: {label: what it is read as}."""
    counts = Counter(labels)
    notes = []
    for label, name in sorted(name_of.items()):
        if counts[label]:
            shown, meant = told_apart([label, name])
            notes.append(Note("joined", f"{shown} ({counts[label]:,} rows) is read as {meant}: {why}"))
    more = [Note("joined", f"and {len(notes) - MOST_NOTES:,} labels more")] if len(notes) > MOST_NOTES else []
    return notes[:MOST_NOTES] + more


def repeats_header(table: Table) -> list[int]:
    """Returns the indices of the rows that hold the names of the columns: files put together with their headers."""
    text_column, label_column = table.columns
    text_name, label_name = text_column.replace(" + ", " ").lower(), label_column.lower()
    pairs = zip(table.columns[text_column], table.columns[label_column], strict=True)
    return [index for index, pair in enumerate(pairs) if _lower(pair[0]) == text_name and _lower(pair[1]) == label_name]


def _lower(value: object) -> str | None:
    return value.strip().lower() if isinstance(value, str) else None


def header_notes(rows_of: Mapping[str, Sequence[int]], tables: Mapping[str, Table]) -> list[Note]:
    """Returns a note for each split with rows that repeat the header. rows_of: their indices, by split."""
    notes = []
    for split, rows in rows_of.items():
        if rows:
            first = ", ".join(tables[split].at(row) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
            what = f"{len(rows):,} of the {split} rows repeat the header, and are read as rows: {first}"
            notes.append(Note("header", f"{what}; --data.skip-bad-rows leaves them out"))
    return notes


def check_meant(labels: Sequence[str | None], table: Table, few_rows_are_meant: bool) -> None:
    """Raises DataError for labels that cannot be classes, asking which column is meant: a measurement, an ID, a text.

    These have one label for nearly each row, or many different numbers with a fraction. few_rows_are_meant: whether the
    run is set up for a row or two of each label; then one name a row is no reason.
    """
    counts = Counter(label for label in labels if label is not None)
    rows, different = sum(counts.values()), len(counts)
    codes = sum(any(char.isdigit() for char in label) for label in counts) > 0.9 * different
    fewest = FEWEST_CODES if codes else FEWEST_NAMES
    one_a_row = 2 * different > rows and different >= fewest and (codes or not few_rows_are_meant)
    fractions = sum((number := number_of(label)) is not None and number != int(number) for label in counts)
    measured = different > MOST_FRACTIONS and 2 * fractions > different
    if not (one_a_row or measured):
        return
    _, column = table.columns
    first = ", ".join(repr(short(label)) for label in list(counts)[:4])
    what = "a measurement" if fractions else "an ID or a text"
    raise DataError(
        f"{table.problems.where}: expected labels that many rows share, found {different:,} different ones in "
        f"{rows:,} rows of column {column!r} ({first}, ...), as of {what}\n"
        "fix: which column holds the labels? name it with --data.label-column; if these are the labels, list them all "
        "with --data.label-names"
    )
