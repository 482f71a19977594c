"""JSON and JSON Lines to columns, whatever the file's name says: objects, arrays, tables, rows below a key."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from submillion.data.formats.annotation import AnnotationTool, tool_of
from submillion.data.formats.grid import Line, Row, chunked, grid_tables
from submillion.data.formats.json_shapes import rows_in
from submillion.data.formats.options import ReadOptions
from submillion.data.formats.text import TextFile, find_text_file
from submillion.data.tables import Pick, Problems, Table

PEEKED = 1000  # objects by which the keys and the annotation tool are told

Item = tuple[int, int, Any]
"""The number of a row, of its line (0 in a file that is one value), and the value."""


def json_tables(path: Path, pick: Pick, problems: Problems, options: ReadOptions, chunk_rows: int) -> Iterator[Table]:
    """Yields the picked columns of JSON Lines, read line by line, or of a file that is one value, held whole.

    The keys are those of the first 1,000 objects, in the order of their first appearance. Rows of an annotation tool
    are read as the tool means them, which is noted. Raises DataError for a file that is no JSON.
    """
    file = find_text_file(path, options, problems)
    whole = _whole(file, problems)
    unheard = Problems(path.name)

    def items(heard: Problems) -> Iterator[Item]:
        return _line_items(file, heard) if whole is None else ((number, 0, row) for number, row in enumerate(whole, 1))

    peeked = [value for _, _, value in islice(items(unheard), PEEKED)]
    if peeked and all(isinstance(value, list) for value in peeked) and not tool_of(peeked):
        lines: Callable[[Problems], Iterator[Line]] = lambda heard: _as_lines(items(heard), heard)  # noqa: E731
        return grid_tables(partial(lines, unheard), partial(lines, problems), pick, problems, options, chunk_rows)
    tool = tool_of(peeked)
    if tool:
        problems.note(f"{path.name}: read as an export of {tool.name}")
    return _object_tables(items, peeked, tool, pick, problems, chunk_rows)


def _whole(file: TextFile, problems: Problems) -> list[Any] | None:
    """Returns the rows of a file that is one JSON value; None for one that has a value on each line."""
    lines: Iterator[str] = (line for line in file.lines(Problems(file.path.name)) if line.strip())
    first, second = next(lines, ""), next(lines, "")
    first_value = _loaded(first)
    if first_value is not None and second:
        return None
    if first_value is None and not first.lstrip().startswith(("[", "{")):
        return None
    if second:
        lines = file.lines(problems)
        try:
            first_value = json.loads("".join(lines))
        except (ValueError, RecursionError) as error:
            if first.strip() == "[" or file.path.suffix.lower() == ".json":
                raise problems.stop(f"no JSON array ({error})") from None
            return None  # the lines that are no JSON are named one by one
    elif first_value is None and first.lstrip().startswith("["):
        raise problems.stop(f"no JSON array ({_error_of(first)})")
    elif first_value is None or (isinstance(first_value, list) and _is_row(first_value)):
        return None
    rows = rows_in(first_value, file.path.name, problems)
    is_one_line = not second and len(rows) == 1 and rows[0] is first_value
    return None if is_one_line else rows  # a file of one line is read as a line, whose number errors can name


def _is_row(value: list[Any]) -> bool:
    """Returns whether an array is one row, of scalars, and not an array of rows."""
    return len(value) > 1 and not any(isinstance(item, dict | list) for item in value) and not _all_texts(value)


def _all_texts(value: list[Any]) -> bool:
    return all(isinstance(item, str) for item in value)


def _loaded(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _error_of(line: str) -> str:
    try:
        json.loads(line)
    except (ValueError, RecursionError) as error:
        return str(error)
    return "null"


def _line_items(file: TextFile, problems: Problems) -> Iterator[Item]:
    blank = 0
    for number, line in enumerate(file.lines(problems), start=1):
        if not line.strip():  # accepted at the end of a file only
            blank = blank or number
            continue
        if blank:
            problems.add(f"line {blank}: a blank line between rows")
            blank = 0
        try:
            yield number, number, json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.add(f"line {number}: no JSON ({error})")


def _as_lines(items: Iterator[Item], problems: Problems) -> Iterator[Line]:
    for number, line, value in items:
        if isinstance(value, list):
            yield line or number, [None if cell is None else cell for cell in value]
        else:
            problems.add(f"{_at(number, line)}: expected a JSON array as above it, found {type(value).__name__}")


def _object_tables(
    items: Callable[[Problems], Iterator[Item]],
    peeked: list[Any],
    tool: AnnotationTool | None,
    pick: Pick,
    problems: Problems,
    chunk_rows: int,
) -> Iterator[Table]:
    as_object = tool.row if tool else _as_it_is
    first = [row for value in peeked if (row := as_object(value)) is not None]
    keys = list(dict.fromkeys(key for row in first for key in row))
    strings = [key for key in keys if all(isinstance(row.get(key), str | None) for row in first)]
    strings = [key for key in strings if any(isinstance(row.get(key), str) for row in first)]
    if not first:
        for _ in items(problems):
            pass
        found = f", found {type(peeked[0]).__name__}" if peeked else ""
        if peeked:
            raise problems.stop(f"row 1: expected a JSON object{found}")
        return
    wanted = pick(keys, strings)
    yield from chunked(_picked(items(problems), as_object, wanted, problems), wanted, problems, chunk_rows)


def _as_it_is(value: Any) -> dict[str, Any] | None:
    return {"text": value} if isinstance(value, str) else value if isinstance(value, dict) else None


def _picked(
    items: Iterator[Item], as_object: Callable[[Any], dict[str, Any] | None], wanted: list[str], problems: Problems
) -> Iterator[Row]:
    """Yields the wanted values. A row without its first column is a problem; another one that it lacks is None."""
    for number, line, value in items:
        row = as_object(value)
        if row is None:
            problems.add(f"{_at(number, line)}: expected a JSON object, found {type(value).__name__}")
        elif wanted[0] not in row:
            problems.add(f"row {number}: no key {wanted[0]!r}")
        else:
            yield number, line, [row.get(name) for name in wanted]


def _at(number: int, line: int) -> str:
    return f"line {line}" if line else f"row {number}"
