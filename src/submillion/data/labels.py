"""Raw labels (integers, names, booleans) to indices into label_names."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from submillion.data.tables import Problems, Table, is_missing
from submillion.errors import DataError, did_you_mean, encodable

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_WITH_POINT = re.compile(_INTEGER.pattern + r"(\.0+)?")


def label_text(value: Any) -> str | None:
    """A label in one spelling: names stripped, integers (3, 3.0, numpy's) in decimal, booleans 'False' and 'True'.

    None for a missing label. Raises ValueError for what is neither, such as 0.5 or a list.
    """
    if is_missing(value):
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, int):  # bool included
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    raise ValueError(f"{value!r} is neither an integer nor a name")


def is_decimal(text: str) -> bool:
    """True for an integer as it is usually written: '7', '-1', not '07' (which may be a code, so a name), nor one of
    more than 18 digits."""
    return bool(_INTEGER.fullmatch(text))


def sorted_names(labels: Iterable[str]) -> tuple[str, ...]:
    """Distinct labels in order: by number where all are integers, else as strings."""
    distinct = set(labels)
    return tuple(sorted(distinct, key=int) if all(map(is_decimal, distinct)) else sorted(distinct))


def raw_labels(table: Table, column: str) -> list[str | None]:
    """The column in label_text's spelling; a ClassLabel's integers are replaced by their names.

    What is missing or unusable is None here and among the table's problems.
    """
    names = table.label_names.get(column)
    found: list[str | None] = []
    for index, value in enumerate(table.columns[column]):
        try:
            label = label_text(value)
        except ValueError as error:
            table.problems.add(f"{table.at(index)}: the label {error}")
            found.append(None)
            continue
        if label is None:
            table.problems.add(f"{table.at(index)}: the label is missing")
        elif not encodable(label):
            table.problems.add(f"{table.at(index)}: the label holds half of a surrogate pair, which is no character")
            label = None
        elif names and not isinstance(value, str):  # a ClassLabel's integers index, even where its names are digits
            inside = is_decimal(label) and 0 <= int(label) < len(names)
            if not inside:
                _outside(table, index, label, names, counted=True)
            label = names[int(label)] if inside else None
        found.append(label)
    return found


def without_points(labels: Sequence[str | None], names: Sequence[str]) -> list[str | None]:
    """The labels, '3' for '3.0' where all are such numbers: integers, in a file that some tool wrote as floats.

    Where a label as it is stands among the names, it stays.
    """
    present = {label for label in labels if label is not None}
    if present & set(names) or not all(map(_WITH_POINT.fullmatch, present)):
        return list(labels)
    return [label and label.partition(".")[0] for label in labels]


def first_number(
    labels: Iterable[str | None], names: Sequence[str], problems: Problems, known: int | None = None
) -> int | None:
    """The integer that stands for the first name: 0, or 1 where the labels are all of 1 to the number of names, as in
    AG News' own files. None where no integer stands for a name: there is none, or some names are integers themselves,
    and then only names count.

    known: what it was in the rows that a model was trained on. Where neither it nor the labels tell, that is a problem.
    """
    found = {label for label in labels if label is not None and is_decimal(label)}
    if not found or any(map(is_decimal, names)):
        return None
    from_one = {str(number) for number in range(1, len(names) + 1)}
    if found == from_one:
        return 1
    if "0" in found or not found <= from_one:  # what lies outside is told row by row
        return 0
    if known is None:
        problems.add(
            f"the labels {', '.join(sorted(found, key=int)[:10])} stand for some of the {len(names)} names: from 0 or "
            f"from 1? There is neither a 0 nor all of 1 to {len(names)}; write the names themselves"
        )
    return known or 0


def label_indices(
    table: Table, labels: Sequence[str | None], names: Sequence[str], first: int | None = None
) -> np.ndarray:
    """int64 [rows]: the place of each label in names; -1, and a problem of the table, where it has none.

    first: of `first_number`.
    """
    places = {name: place for place, name in enumerate(names)}
    counted = first is not None
    if first is not None:
        places |= {str(place + first): place for place in range(len(names))}
    indices = np.fromiter((-1 if label is None else places.get(label, -1) for label in labels), np.int64, len(labels))
    for index in np.flatnonzero(indices < 0).tolist():
        label = labels[index]
        if label is not None:
            _outside(table, index, label, names, counted)
    return indices


def _outside(table: Table, index: int, label: str, names: Sequence[str], counted: bool) -> None:
    """Adds the problem. counted: integers stand for places among the names."""
    listed = ", ".join(names[:10]) + (f" ... ({len(names)} names)" if len(names) > 10 else "")
    hint = "" if is_decimal(label) else did_you_mean(label, list(names))
    if label == "-1":
        hint = "; -1 marks a row without a label"
    if label == str(len(names)) and counted:
        hint = "; labels count from 0, or are all of 1 to the number of names"
    relation = f"outside 0 to {len(names) - 1}:" if counted and is_decimal(label) else "none of"
    table.problems.add(f"{table.at(index)}: label {label!r} is {relation} {listed}{hint}")


def check_names(names: Sequence[str], where: str) -> None:
    """Raise DataError unless the names are two or more, distinct and not empty."""
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if repeated:
        raise DataError(f"{where}: label names must differ, found twice: {', '.join(repeated)}")
    if any(not name.strip() for name in names):
        raise DataError(f"{where}: a label name is empty")
    if len(names) < 2:
        raise DataError(
            f"{where}: expected two labels or more, found {'only ' + repr(names[0]) if names else 'none'}; "
            "is --data.label-column the right one?"
        )
