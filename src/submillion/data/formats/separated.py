"""Separated values (csv, tsv): the separator and the quoting are found in the file, and rows come by line number."""

import csv
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from submillion.data.compression import data_name
from submillion.data.formats.grid import Line, grid_tables
from submillion.data.formats.header import HEADER_WORDS
from submillion.data.formats.options import ReadOptions
from submillion.data.formats.quoting import is_quoted
from submillion.data.formats.text import TextFile, find_text_file
from submillion.data.tables import Pick, Problems, Table
from submillion.errors import DataError

SAMPLE_LINES = 200
SEPARATORS = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'"}
MOST_FIT = 0.8  # of the rows, for a separator that some rows do not fit


def separated_tables(
    path: Path, pick: Pick, problems: Problems, options: ReadOptions, chunk_rows: int
) -> Iterator[Table]:
    """Yields the picked columns of a file of separated values.

    Notes the separator, the quoting and the header wherever these are not what the file's name says. Raises DataError
    for a field that cannot be told from several rows.
    """
    csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))  # the default refuses a text of 131,073 characters
    file = find_text_file(path, options, problems)
    separator = _separator(file, options, problems)
    quoted = is_quoted(file, separator, options, problems)
    rows = partial(_lines, file, separator, quoted)
    unheard = Problems(path.name)  # by the peek; the same lines are read again, and heard then
    yield from grid_tables(partial(rows, unheard), partial(rows, problems), pick, problems, options, chunk_rows)


def _lines(file: TextFile, separator: str, quoted: bool, problems: Problems) -> Iterator[Line]:
    """Yields lines of cells; a line that ends the reading has the reason in place of its cells."""
    lines = file.lines(problems)
    if not quoted:
        for number, line in enumerate(lines, start=1):
            text = line.rstrip("\r\n")
            yield number, text.split(separator) if text else []
        return
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield number, _broken(error, number, file.path)
            return
        if cells is None:
            return
        yield number, cells


def _broken(error: csv.Error, line: int, path: Path) -> str:
    if "end of data" in str(error):
        return "a quoted field is never closed"
    if "new-line character" in str(error):
        return "broken quoting (a carriage return stands inside a field without quotes)"
    return f"broken quoting ({error})"


# ---- the separator ----


def _separator(file: TextFile, options: ReadOptions, problems: Problems) -> str:
    usual = "\t" if data_name(file.path).suffix.lower() in (".tsv", ".tab") else ","
    lines = list(islice(file.lines(Problems(file.path.name)), SAMPLE_LINES))
    if asked := options.separator_character:
        _check_asked(asked, lines, file.path.name, options)
        return asked
    separator = _counted(lines, usual)
    if separator != usual:
        problems.note(
            f"{file.path.name}: columns separated by {SEPARATORS[separator]}, found by counting; "
            f"{options.flag('separator')} names another separator"
        )
    return separator


def _check_asked(asked: str, lines: list[str], name: str, options: ReadOptions) -> None:
    """Raises DataError if the separator that was asked for is not in the first line, and another one is."""
    header = lines[0] if lines else ""
    others = [word for separator, word in SEPARATORS.items() if separator != asked and separator in header]
    if asked not in header and others:
        raise DataError(
            f"{name}: expected {SEPARATORS.get(asked, repr(asked))} between the columns, as "
            f"{options.flag('separator')} says, found {others[0]} in the first line\n"
            f"fix: leave {options.flag('separator')} out, and the separator is found by counting"
        )


def _counted(lines: list[str], usual: str) -> str:
    """Returns the separator that gives the lines one width of two columns or more; `usual` if none does.

    Of several it is the one whose first line holds a usual column name, then one that is no punctuation of a text (a
    comma before a space, or between digits), then the usual one.
    """
    fitting = [separator for separator in SEPARATORS if _fits(lines, separator)]
    if len(fitting) < 2:
        return fitting[0] if fitting else usual
    best: Callable[[str], tuple[Any, ...]] = lambda separator: (  # noqa: E731
        any(cell.strip(' "\r\n').lower() in HEADER_WORDS for cell in lines[0].split(separator)),
        not _is_punctuation(lines, separator),
        separator == usual,
    )
    return max(fitting, key=best)


def _fits(lines: list[str], separator: str) -> bool:
    """Returns whether most lines have the first line's number of columns, two or more, read with quotes or without."""
    blind = [line.count(separator) + 1 for line in lines if line.strip()]
    try:
        quoted = [len(row) for row in csv.reader(lines, delimiter=separator) if row]
    except csv.Error:
        quoted = []
    return any(
        widths and widths[0] > 1 and widths.count(widths[0]) >= MOST_FIT * len(widths) for widths in (blind, quoted)
    )


def _is_punctuation(lines: list[str], separator: str) -> bool:
    """Returns whether every separator stands before a space, or between two digits as a decimal comma does."""
    text = "".join(lines)
    places = [place for place, character in enumerate(text) if character == separator]
    decimal = [text[place - 1 : place].isdigit() and text[place + 1 : place + 2].isdigit() for place in places]
    spaced = [text[place + 1 : place + 2] == " " for place in places]
    return bool(places) and all(one or other for one, other in zip(decimal, spaced, strict=True))
