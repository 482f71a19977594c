"""Tells whether the first line of a table names its columns or is a row of it."""

import re
from collections.abc import Sequence

from submillion.data.tables import LABEL_NAMES, TEXT_NAMES, Pick
from submillion.errors import DataError

HEADER_WORDS = {
    *TEXT_NAMES,
    *LABEL_NAMES,
    *("id", "title", "description", "subject", "body", "message", "comment", "question", "summary", "sentiment"),
    *("name", "date", "url", "score", "rating", "stars", "answer"),
}
MOST_WORDS = 4  # of a column's name
MOST_CHARACTERS = 40
_NUMBER = re.compile(r"\s*[+-]?[0-9]+([.,][0-9]+)*([eE][+-]?[0-9]+)?\s*")
_SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？")


def is_number(cell: str) -> bool:
    """Returns whether a cell is a number, with a decimal point or a decimal comma."""
    return bool(_NUMBER.fullmatch(cell))


def has_header(first: Sequence[str], others: Sequence[Sequence[str]], pick: Pick) -> bool:
    """Returns whether the first line, as cells, names the columns; `others` are some of the lines below.

    It does if `pick` finds its columns by name. It does not if a number stands above numbers. Else it does if
    a cell is a usual name of a column. Else it is compared with the lines below: what looks like them is a row.
    """
    names = [cell.strip() for cell in first]
    if asked_by_name(names, pick):
        return True
    below = [row for row in others if len(row) == len(first) and (len(first) == 1 or list(row) != list(first))]
    signs = [_sign(name, [row[column].strip() for row in below]) for column, name in enumerate(names)] if below else []
    if "number" in signs:
        return False
    if any(name.lower() in HEADER_WORDS for name in names) or "name above numbers" in signs:
        return True
    return "row" not in signs and "name" in signs


def asked_by_name(names: Sequence[str], pick: Pick) -> bool:
    """Returns whether the pick is satisfied by these names, and not by columns of any name, as with numbers.

    A cell that is a number is no name here: a column that is asked for as 2 is the second one.
    """
    names = [f"\0{name}" if name.isdecimal() else name for name in names]

    def picks(columns: list[str]) -> bool:
        try:
            return bool(pick(columns, []))
        except DataError:
            return False

    return picks(names) and not picks([f"\0{column}" for column in range(len(names))])


def _sign(name: str, below: list[str]) -> str:
    """Returns what one cell of the first line says: "name" that it is a name, "row" that it is a value, "" nothing.

    Above a column of numbers it says more: "number", or "name above numbers".
    """
    if not name:
        return ""
    numbers = sum(map(is_number, below)) >= 0.9 * len(below)
    if numbers or is_number(name):
        return ("number" if is_number(name) else "name above numbers") if numbers else "name"
    if name in below or name.endswith(_SENTENCE_ENDS):
        return "row"
    words = len(name.split())
    if words > MOST_WORDS or len(name) > MOST_CHARACTERS:
        return "row"
    sentences = sum(len(cell.split()) > 1 for cell in below)
    if words == 1 and 2 * sentences > len(below):
        return "name"
    capitals = sum(cell[:1].isupper() for cell in below)
    return "name" if name[:1].islower() and capitals >= 0.9 * len(below) else ""
