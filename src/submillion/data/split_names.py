"""Which split a name stands for, and which files are one split in parts."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from submillion.data.texts import listed

SPLIT_OF = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_PART = re.compile(r"(?P<split>.+)-(?P<number>[0-9]{1,9})-of-(?P<total>[0-9]{1,9})(?:-[0-9a-f]{8,})?")


class Part(NamedTuple):
    """One of several files of a split: train-00001-of-00002 is number 1 of 2, counted from 0."""

    split: str
    number: int
    total: int


def split_of(name: object) -> str | None:
    """Returns "train", "validation" or "test" for a split's name in any case; None for any other name."""
    return SPLIT_OF.get(name.strip().lower()) if isinstance(name, str) else None


def part_of(stem: str) -> Part | None:
    """Returns which part of which split a file is, by its name without endings, such as train-00000-of-00002.

    None for a name that is no split's. A whole split is part 0 of 1.
    """
    if whole := split_of(stem):
        return Part(whole, 0, 1)
    match = _PART.fullmatch(stem)
    split = split_of(match["split"]) if match else None
    return Part(split, int(match["number"]), int(match["total"])) if match and split else None


def is_splits(data: object) -> bool:
    """Returns whether data is a dict of splits: its keys are names of splits, or some are and all values are tables."""
    if not isinstance(data, Mapping) or not any(map(split_of, data)):
        return False
    return all(map(split_of, data)) or all(map(_is_table, data.values()))


def _is_table(value: Any) -> bool:
    """Returns whether a value is a table, or a sequence of dicts or pairs: not a column."""
    if isinstance(value, Mapping) or hasattr(value, "columns") or hasattr(value, "column_names"):
        return True
    rows = listed(value) or [None]
    return isinstance(rows[0], Mapping) or (isinstance(rows[0], tuple | list) and len(rows[0]) == 2)
