"""Texts and columns that a caller gives from Python, as lists."""

from collections.abc import Iterable, Mapping
from typing import Any

from submillion.errors import DataError, encodable

_SHOWN = 20  # rows worded in an error; the rest are counted


def listed(values: Any) -> list[Any] | None:
    """Returns the items of a one-dimensional sequence in its order; None for anything else.

    A sequence is a list, a tuple, a column of pandas, polars, pyarrow or datasets, an array of numpy, and whatever else
    has a length and positions. A str or bytes is one text and no sequence. A table, a set and a generator are none
    either: a table has no items that are texts, a set no order, and a generator can be read once alone.
    """
    if isinstance(values, str | bytes | bytearray | Mapping | type) or len(_shape(values)) != 1:
        return None
    for name in ("tolist", "to_pylist"):  # plain Python values in place of numpy's, pandas' and pyarrow's own
        if hasattr(values, name):
            return list(getattr(values, name)())
    return list(values) if hasattr(values, "__len__") and hasattr(values, "__getitem__") else None


def described(values: Any) -> str:
    """Returns, for an error, what `values` is that `listed` does not take, and the fix if one is known."""
    name = type(values).__name__
    if values is None:
        return "None"
    if isinstance(values, str):
        return f"{name}: wrap it in a list"
    if isinstance(values, bytes | bytearray):
        return f"{name}: decode it, and wrap it in a list"
    if isinstance(values, set | frozenset):
        return f"a {name}, which has no order: give a list"
    if isinstance(values, Mapping) or len(_shape(values)) > 1:
        return f"{name}: give one column of it"
    if not isinstance(values, Iterable) or isinstance(values, type) or not _shape(values):
        return name
    return f"a {name}: wrap it in list(...)"


def texts_of(values: Any) -> list[str]:
    """Returns a sequence of texts as a list. Empty texts are texts.

    Raises TypeError if `values` is no sequence, DataError naming the first rows, counted from 0, that are no text.
    """
    texts = listed(values)
    if texts is None:
        raise TypeError(f"expected a sequence of texts, found {described(values)}")
    wrong = [
        f"row {row}: expected a str, found {type(text).__name__}"
        if not isinstance(text, str)
        else f"row {row}: half a surrogate pair, which no UTF-8 text holds"
        for row, text in enumerate(texts)
        if not isinstance(text, str) or not encodable(text)
    ]
    if wrong:
        more = [f"and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
        raise DataError("\n".join(wrong[:_SHOWN] + more))
    return texts


def _shape(values: Any) -> tuple[Any, ...]:
    """Returns the shape that an array or a table says it has; that of a list for anything else."""
    shape = getattr(values, "shape", None)
    return tuple(shape) if isinstance(shape, tuple) else (0,)
