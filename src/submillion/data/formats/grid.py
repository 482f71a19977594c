"""Lines of cells to columns: the header or the lack of one, the width of every row, blank lines between rows."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from submillion.data.formats.header import asked_by_name, has_header, is_number
from submillion.data.formats.options import ReadOptions
from submillion.data.tables import Pick, Problems, Table
from submillion.errors import DataError

PEEKED = 200  # lines by which the header and the kinds of the columns are told
SHOWN_HEADER = 60  # characters

Line = tuple[int, list[Any] | str]
"""The number of a line and its cells; in their place a text that says why the file cannot be read any further."""

Row = tuple[int, int, list[Any]]
"""The number of a row, of its line (0 where there are no lines), and the picked values."""


def chunked(rows: Iterator[Row], names: list[str], problems: Problems, chunk_rows: int) -> Iterator[Table]:
    """Yields tables of at most chunk_rows rows."""
    while chunk := list(islice(rows, chunk_rows)):
        numbers, lines, values = zip(*chunk, strict=True)
        columns = {name: list(column) for name, column in zip(names, zip(*values, strict=True), strict=True)}
        yield Table(columns, problems, numbers, lines if lines[0] else None)


def grid_tables(
    peek: Callable[[], Iterator[Line]],
    lines: Callable[[], Iterator[Line]],
    pick: Pick,
    problems: Problems,
    options: ReadOptions,
    chunk_rows: int,
) -> Iterator[Table]:
    """Yields the picked columns of lines of cells, whose first line is the header or not, as the options say.

    `peek` and `lines` both give the lines from the first on; what `peek` finds wrong is not told. Columns without a
    header are named by number, from 1. Notes what was taken for granted about the header. Raises DataError.
    """
    peeked = [cells for _, cells in islice(peek(), PEEKED) if cells and not isinstance(cells, str)]
    first = [_text(cell) for cell in peeked[0]] if peeked else []
    texts = [[_text(cell) for cell in cells] for cells in peeked[1:]]
    guessed = has_header(first, texts, pick) if first else True
    is_header = guessed if options.header == "auto" else options.header == "yes"
    names = _names(first) if is_header else [str(number) for number in range(1, len(first) + 1)]
    strings = _string_columns(names, texts if is_header else [first, *texts])
    is_asked = asked_by_name(names, pick)  # before the pick itself, which may keep what it was asked last
    try:
        wanted = pick(names, strings) if first else []
    except DataError as error:
        _refuse_repeated(names, [name for name in names if names.count(name) > 1], problems.where)
        # It may be a NoLabelColumn, which a held-out split may have.
        raise type(error)(f"{error}{_advice(first, is_header, guessed, options)}") from None
    _refuse_repeated(names, wanted, problems.where)
    _note_header(first, is_header, is_asked, options, problems)
    rows = _rows(lines(), len(first), is_header, [names.index(name) for name in wanted], problems)
    yield from chunked(rows, wanted, problems, chunk_rows)


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)


def _names(first: list[str]) -> list[str]:
    """Returns the names of the columns; one without a name is called by its number."""
    return [name.strip() or f"column {number}" for number, name in enumerate(first, start=1)]


def _string_columns(names: list[str], rows: list[list[str]]) -> list[str]:
    """Returns the columns that hold something else than numbers and blanks, in the peeked rows of the right width."""
    whole = [row for row in rows if len(row) == len(names)]
    return [
        name
        for column, name in enumerate(names)
        if not whole or not all(is_number(row[column]) or not row[column].strip() for row in whole)
    ]


def _refuse_repeated(names: list[str], wanted: list[str], where: str) -> None:
    repeated = sorted({name for name in wanted if names.count(name) > 1})
    if repeated:
        raise DataError(f"{where}: each column needs its own name, found twice: {', '.join(map(repr, repeated))}")


def _advice(first: list[str], is_header: bool, looks_like_header: bool, options: ReadOptions) -> str:
    """Returns the line that an error about missing columns ends with."""
    by_number = f"{options.flag('text-column')} 1"
    if not is_header:
        return (
            f"\nthe first line ({_shown(first)}) is read as a row, so the columns are called by number\n"
            f"fix: {by_number} and so on; or --header, if that line names the columns"
        )
    like_a_row = "" if looks_like_header else f"the first line ({_shown(first)}) looks like a row\n"
    return f"\n{like_a_row}if the first line is a row: --no-header, and columns by number, such as {by_number}"


def _shown(first: list[str]) -> str:
    text = ", ".join(first)
    return text if len(text) <= SHOWN_HEADER else text[:SHOWN_HEADER] + " ..."


def _note_header(first: list[str], is_header: bool, is_asked: bool, options: ReadOptions, problems: Problems) -> None:
    """Notes what the first line was taken for, unless columns were asked for by names that are in it."""
    if options.header != "auto" or not first:
        return
    if not is_header:
        problems.note(
            f"{problems.where}: no header: the first line ({_shown(first)}) is read as a row; --header takes it for "
            "the names of the columns"
        )
    elif not is_asked:
        problems.note(
            f"{problems.where}: the first line ({_shown(first)}) is taken for the names of the columns; --no-header "
            "reads it as a row"
        )


def _rows(lines: Iterator[Line], width: int, is_header: bool, places: list[int], problems: Problems) -> Iterator[Row]:
    number, header_ahead = 0, is_header
    blank_lines: list[int] = []
    for line, cells in lines:
        if isinstance(cells, str):
            raise problems.stop(cells if header_ahead else f"row {number + 1} (line {line}): {cells}")
        if header_ahead:
            header_ahead = False
            continue
        if not cells:  # blank lines are accepted at the end of a file only
            blank_lines.append(line)
            continue
        if width == 1:  # an empty cell of a single column is a blank line, as spreadsheets write it
            for blank_line in blank_lines:
                number += 1
                yield number, blank_line, [""] * len(places)
        elif blank_lines:
            problems.add(f"line {blank_lines[0]}: a blank line between rows")
        blank_lines.clear()
        number += 1
        if len(cells) != width:
            expected = "as in the header" if is_header else "as in the first line"
            problems.add(f"row {number} (line {line}): {len(cells)} fields, expected {width} {expected}")
        else:
            yield number, line, [cells[place] for place in places]
