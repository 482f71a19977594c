"""Raw labels (integers, names, booleans) to indices into label_names."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from submillion.data.tables import Table, is_missing
from submillion.errors import DataError, did_you_mean


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
    """True for an integer as it is usually written: '7', '-1', not '07' (which may be a code, so a name)."""
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and str(int(digits)) == digits


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
        elif names and not isinstance(value, str):  # a ClassLabel's integers index, even where its names are digits
            inside = is_decimal(label) and 0 <= int(label) < len(names)
            if not inside:
                _outside(table, index, label, names, counted=True)
            label = names[int(label)] if inside else None
        found.append(label)
    return found


def label_indices(table: Table, labels: Sequence[str | None], names: Sequence[str]) -> np.ndarray:
    """int64 [rows]: the place of each label in names; -1, and a problem of the table, where it has none.

    An integer that is no name itself counts from 0, or from 1 where the labels are all of 1 to the number of names, as
    in AG News' own files. Where some names are integers too, only names count.
    """
    places = {name: place for place, name in enumerate(names)}
    counted = not any(map(is_decimal, names))
    if counted:
        first = int(set(labels) == {str(place) for place in range(1, len(names) + 1)})
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
