"""Raw labels (names, numbers, booleans) to indices into label_names."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

import numpy as np

from submillion.data.lookalikes import alike_names
from submillion.data.problems import SHOWN, Problems
from submillion.data.tables import Table, is_missing
from submillion.errors import DataError, did_you_mean, encodable

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_WITH_POINT = re.compile(_INTEGER.pattern + r"(\.0+)?")
_USUAL_NUMBER = re.compile(_INTEGER.pattern + r"(\.[0-9]+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]{1,2}", re.ASCII)  # with three digits behind it, it parts thousands
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-][0-9]{1,3})?")  # no bare 1e2: that is a code
_MOST_DIGITS = 40  # of a label that is read as a number; more is a code


class ListLabel(ValueError):
    """A label that is a list of labels."""


def label_text(value: Any) -> str | None:
    """Returns a label in one spelling, None for a missing one.

    Names are stripped; integers (3, 3.0, numpy's) are in decimal, other numbers as Python writes them, booleans "False"
    and "True". Raises ValueError, which says what it is, for anything else, such as a list or half a surrogate pair.
    """
    if is_missing(value):
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return _checked_name(value.strip())
    if isinstance(value, int):  # bool included
        return str(value)
    if isinstance(value, Decimal):
        value = int(value) if value.is_finite() and value == value.to_integral_value() else float(value)
    if isinstance(value, float) and np.isfinite(value):
        return str(int(value)) if value.is_integer() else _shortest(value)
    if isinstance(value, int):  # of a Decimal
        return str(value)
    if isinstance(value, list | tuple | set | frozenset | dict | np.ndarray):
        raise ListLabel(f"{short(repr(value))} is a list")
    raise ValueError(f"{short(repr(value))} is neither a number nor a name")


@lru_cache(maxsize=4096)  # a column holds few different names
def _checked_name(name: str) -> str | None:
    if not encodable(name):
        raise ValueError("holds half of a surrogate pair, which is no character")
    if name and not any(char.isprintable() and not char.isspace() for char in name):
        raise ValueError(f"{name!a} has no character that can be seen")
    if _is_list_in_a_string(name):
        raise ListLabel(f"{short(repr(name))} is a list")
    return name or None


def _shortest(value: float) -> str:
    """Returns a number as it was most likely written: 0.1 for the 0.10000000149 that a column of float32 gives."""
    single = np.float32(value)
    return str(single) if float(single) == value else repr(value)


def _is_list_in_a_string(name: str) -> bool:
    """Returns whether a name is how a program writes a list or a dict: "['a', 'b']", "{a,b}"."""
    if len(name) < 2 or name[0] + name[-1] not in ("[]", "{}", "()"):
        return False
    inside = name[1:-1].strip()
    if inside[:1] in ("'", '"'):
        return True
    if name[0] == "(":
        return bool(re.fullmatch(r"[-+0-9.\s]+,[-+0-9.,\s]*", inside))
    return not inside or "," in inside or bool(re.fullmatch(r"[-+.\s]*[0-9][-+0-9.\s]*", inside))


def short(text: str) -> str:
    """Returns a text of at most 60 characters, for a line that quotes it."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def is_decimal(text: str) -> bool:
    """Returns True for an integer as it is usually written: '7', '-1'.

    '07' is none: it may be a code, so a name. Nor is one of more than 18 digits.
    """
    return bool(_INTEGER.fullmatch(text))


def number_of(label: str) -> Decimal | None:
    """Returns the number that a label is, however it is written: 1 for '1', '1.0', '01', '1e0' and, as spreadsheets of
    many countries write it, '1,0'. None for a name."""
    label = label.replace("\u2212", "-")  # the sign that is no hyphen
    if _DECIMAL_COMMA.fullmatch(label):
        label = label.replace(",", ".")
    return Decimal(label) if len(label) <= _MOST_DIGITS and _NUMBER.fullmatch(label) else None


def has_numbers(names: Iterable[str]) -> bool:
    """Returns whether any name is a number: then labels are compared as numbers, and none is a place in the list."""
    return any(number_of(name) is not None for name in names)


def sorted_names(labels: Iterable[str]) -> tuple[str, ...]:
    """Returns the distinct labels in order: by number if all are numbers as usually written, else as strings."""
    distinct = set(labels)
    by_number = all(map(_USUAL_NUMBER.fullmatch, distinct))
    return tuple(sorted(distinct, key=Decimal) if by_number else sorted(distinct))


def one_spelling_a_number(labels: Sequence[str | None]) -> dict[str, str]:
    """Returns {label: the spelling to read it as} for labels that are one number written in several ways.

    That is the most frequent one, and of two as frequent the one that comes first.
    """
    counts = Counter(label for label in labels if label is not None)
    spelling_of: dict[Decimal, str] = {}
    for label, _ in counts.most_common():
        number = number_of(label)
        if number is not None:
            spelling_of.setdefault(number, label)
    return {
        label: spelling_of[number]
        for label in counts
        if (number := number_of(label)) is not None and spelling_of[number] != label
    }


def raw_labels(table: Table, column: str) -> list[str | None]:
    """Returns the column in label_text's spelling; a ClassLabel's integers are replaced by their names.

    What is missing or unusable is None here and among the table's problems.
    """
    names = table.label_names.get(column)
    labels: list[str | None] = []
    for index, value in enumerate(table.columns[column]):
        try:
            label = label_text(value)
        except ValueError as error:
            _add_unusable(table, index, error)
            labels.append(None)
            continue
        if label is None:
            table.problems.add(f"{table.at(index)}: the label is missing")
        elif not encodable(label):
            table.problems.add(f"{table.at(index)}: the label holds half of a surrogate pair, which is no character")
            label = None
        elif names and not isinstance(value, str):  # a ClassLabel's integers index, even if its names are digits
            inside = is_decimal(label) and 0 <= int(label) < len(names)
            if not inside:
                table.problems.add(f"{table.at(index)}: {_outside(label, names, counted=True)}")
            label = names[int(label)] if inside else None
        labels.append(label)
    return labels


def _add_unusable(table: Table, index: int, error: ValueError) -> None:
    problem = f"{table.at(index)}: the label {error}"
    if isinstance(error, ListLabel):
        fix = "fix: one label a row, or another column with --data.label-column"
        table.problems.add(f"{problem}: several labels a text are not supported yet", "a label is a list", fix)
    else:
        table.problems.add(problem, kind=f"label {str(error).rpartition(' is ')[2]}")


def without_points(labels: Sequence[str | None], names: Sequence[str]) -> list[str | None]:
    """Returns the labels, '3' for '3.0' if all are such numbers: integers that some tool wrote as floats.

    If a label as it is stands among the names, it stays.
    """
    present = {label for label in labels if label is not None}
    if present & set(names) or not all(map(_WITH_POINT.fullmatch, present)):
        return list(labels)
    return [label and label.partition(".")[0] for label in labels]


def first_number(
    labels: Iterable[str | None], names: Sequence[str], problems: Problems, known: int | None = None
) -> int | None:
    """Returns the integer that stands for the first name; None if no integer stands for a name.

    It is 0, or 1 if the labels are all of 1 to the number of names, as in AG News' own files. It is None if no label is
    an integer, or if some names are numbers themselves: then only names count.

    known: what it was in the rows that a model was trained on. If neither it nor the labels tell, that is a problem.
    """
    integers = {label for label in labels if label is not None and is_decimal(label)}
    if not integers or has_numbers(names):
        return None
    from_one = {str(number) for number in range(1, len(names) + 1)}
    if integers == from_one:
        return 1
    if "0" in integers or not integers <= from_one:  # what lies outside is told row by row
        return 0
    if known is None:
        problems.add(
            f"the labels {', '.join(sorted(integers, key=int)[:10])} stand for some of the {len(names)} names: from 0 "
            f"or from 1? There is neither a 0 nor all of 1 to {len(names)}",
            fix="fix: write the names themselves as labels",
        )
    return known or 0


def label_indices(
    table: Table, labels: Sequence[str | None], names: Sequence[str], first: int | None = None
) -> np.ndarray:
    """Returns the place of each label in names, int64 [rows]; -1, and a problem of the table, if it has none.

    A label that is no name is compared with the names as a number: '1' is the name '1.0', never its place. first: as
    `first_number` returns it.
    """
    places = {name: place for place, name in enumerate(names)}
    if first is not None:
        places |= {str(place + first): place for place in range(len(names))}
    places |= {label: places[name] for label, name in names_by_number(filter(None, labels), names).items()}
    indices = np.fromiter((-1 if label is None else places.get(label, -1) for label in labels), np.int64, len(labels))
    unknown = [label for label in dict.fromkeys(labels) if label is not None and label not in places]
    wordings = {
        label: _outside(label, names, counted=first is not None, with_hint=number < SHOWN)
        for number, label in enumerate(unknown)
    }
    for index in np.flatnonzero(indices < 0).tolist():
        label = labels[index]
        if label is not None:
            table.problems.add(f"{table.at(index)}: {wordings[label]}")
    return indices


def names_by_number(labels: Iterable[str], names: Sequence[str]) -> dict[str, str]:
    """Returns {label: name} for labels that are no name, but the same number as one name alone: '1' for '1.0'."""
    numbers = {name: number_of(name) for name in names}
    counts = Counter(numbers.values())
    name_of = {number: name for name, number in numbers.items() if number is not None and counts[number] == 1}
    return {label: name_of[number] for label in set(labels) - set(names) if (number := number_of(label)) in name_of}


def _outside(label: str, names: Sequence[str], counted: bool, with_hint: bool = True) -> str:
    """Returns what to say of a label that is none of the names.

    counted: integers stand for places among the names. with_hint: look for the name that is meant, which takes a
    hundredth of a second.
    """
    listed = ", ".join(names[:10]) + (f" ... ({len(names)} names)" if len(names) > 10 else "")
    hint = did_you_mean(label, list(names)) if with_hint and not is_decimal(label) else ""
    if label == "-1":
        hint = "; -1 marks a row without a label"
    elif label == str(len(names)) and counted:
        hint = "; labels count from 0, or are all of 1 to the number of names"
    elif with_hint and (alike := alike_names([label], names)):
        hint = f"; it looks like {alike[label]!r}, and is spelled otherwise"
    relation = f"outside 0 to {len(names) - 1}:" if counted and is_decimal(label) else "none of"
    return f"label {label!r} is {relation} {listed}{hint}"


def check_names(names: Sequence[str], where: str) -> None:
    """Raises DataError unless the names are two or more, distinct, not empty, and text that UTF-8 can hold."""
    if not all(map(encodable, names)):
        raise DataError(f"{where}: a label name holds half of a surrogate pair, which is no character")
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
