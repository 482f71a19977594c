"""Finds the rows in a JSON value: an array, a table by columns as pandas writes it, rows below a key."""

from typing import Any

from submillion.data.tables import Problems
from submillion.errors import DataError

DEEPEST = 5  # keys above the rows


def rows_in(value: Any, name: str, problems: Problems) -> list[Any]:
    """Returns the rows of a JSON value, in order; if they lie below a key, the key is noted.

    Raises DataError if there are none, or several arrays of rows.
    """
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        raise DataError(f"{name}: expected a JSON array of rows, found {type(value).__name__}")
    if (table := _by_columns(value)) is not None:
        problems.note(f"{name}: read as a table by columns: {', '.join(map(str, value))}")
        return table
    places = _places(value, "", 0)
    if len(places) == 1:
        ((key, rows),) = places.items()
        problems.note(f"{name}: the rows are read below the key {key!r}")
        return rows
    if places:
        raise DataError(
            f"{name}: expected one array of rows, found several: {', '.join(places)}\nfix: save one of them as a file"
        )
    return [value]


def _by_columns(value: dict[str, Any]) -> list[Any] | None:
    """Returns the rows of {"text": [...], "label": [...]}, {"text": {"0": ...}, ...} or {"columns": ..., "data": ...}.

    The last two are pandas' to_json and its orient="split". None for anything else.
    """
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
        names = [str(name) for name in value["columns"]]
        rows = value["data"]
        if all(isinstance(row, list) and len(row) == len(names) for row in rows):
            return [dict(zip(names, row, strict=True)) for row in rows]
    columns = list(value.values())
    if len(columns) > 1 and all(map(_is_plain_list, columns)) and len({len(column) for column in columns}) == 1:
        return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    if columns and all(isinstance(column, dict) and column.keys() == columns[0].keys() for column in columns):
        keys = list(columns[0])
        if keys and all(key.isdecimal() for key in keys):
            return [{name: value[name][key] for name in value} for key in keys]
    return None


def _is_plain_list(value: Any) -> bool:
    """Returns whether a value is a list of values that hold no others."""
    return isinstance(value, list) and bool(value) and not any(isinstance(item, dict | list) for item in value)


def _places(value: dict[str, Any], above: str, depth: int) -> dict[str, list[Any]]:
    """Returns the arrays of objects below an object, by their keys with dots between."""
    places: dict[str, list[Any]] = {}
    for key, inner in value.items():
        path = f"{above}{key}"
        if isinstance(inner, list) and inner and all(isinstance(item, dict) for item in inner):
            places[path] = inner
        elif isinstance(inner, dict) and depth < DEEPEST:
            places |= _places(inner, f"{path}.", depth + 1)
    return places
