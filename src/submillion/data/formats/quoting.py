"""Tells whether the quotes of a file of separated values hold fields together, or are part of the texts.

A quote that opens a field and is closed some lines later makes one row of them all. That is right for a text of several
lines, and wrong if each of these lines is a row by itself: then rows would be lost without a word.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field

from submillion.data.formats.header import is_number
from submillion.data.formats.options import ReadOptions
from submillion.data.formats.text import TextFile
from submillion.data.tables import Problems
from submillion.errors import DataError

KEPT_ROWS = 20_000  # of one line, whose values the lines of a longer row are compared with
KEPT_SPANS = 1000
LONGEST_VALUE = 60  # characters of a value that is remembered: longer ones are texts, and no labels
MOST_KNOWN = 0.8  # of the values of a column, in lines that look like rows
MOST_FIT = 0.9  # of the lines, for a file that is read without quoting


@dataclass
class Span:
    """A row that runs over several lines, most of which have the right number of columns by themselves."""

    first_line: int
    lines: list[str]
    column: int
    """The place of the column whose field holds the line breaks."""


@dataclass
class Scan:
    """What the quotes of a whole file are like."""

    width: int = 0
    values: list[set[str]] = field(default_factory=list)
    """The short values of each column, in rows of one line."""
    numeric: list[bool] = field(default_factory=list)
    rows: int = 0
    lines: int = 0
    fitting_lines: int = 0
    spans: list[Span] = field(default_factory=list)
    is_broken: bool = False
    has_proof: bool = False
    """True if some field can only have been written with quoting: it holds the separator, or doubled quotes."""


def is_quoted(file: TextFile, separator: str, options: ReadOptions, problems: Problems) -> bool:
    """Returns whether the file is read with quoting; options.quoting says so, or the whole file is looked through.

    A tab-separated file whose quotes do not balance is read without quoting, which is noted. Raises DataError, naming
    the lines, if rows of any other file would be swallowed by a quoted field.
    """
    if options.quoting != "auto":
        return options.quoting == "yes"
    scan = _scanned(file, separator)
    swallowing = [span for span in scan.spans if _swallows(span, scan, separator)]
    name, flag = file.path.name, options.flag("quoting")
    is_unbalanced = (bool(swallowing) or scan.is_broken) and not scan.has_proof
    if separator == "\t" and is_unbalanced and scan.fitting_lines >= MOST_FIT * scan.lines:
        problems.note(
            f"{name}: read without quoting, for its quotes do not balance field by field; {flag} yes reads them as "
            "quoting"
        )
        return False
    if swallowing:
        raise DataError(_swallowed(name, swallowing, flag))
    if scan.spans:
        first = scan.spans[0]
        problems.note(
            f"{name}: {len(scan.spans):,} quoted texts run over several lines (the first on lines {_range(first)}); "
            f"{flag} no reads each line as a row"
        )
    return True


def _range(span: Span) -> str:
    return f"{span.first_line} to {span.first_line + len(span.lines) - 1}"


def _swallowed(name: str, spans: list[Span], flag: str) -> str:
    shown = [
        f"lines {_range(span)}: one quoted field would hold them all, and each of them is a row by itself"
        for span in spans[:5]
    ]
    more = [f"and {len(spans) - 5:,} more"] if len(spans) > 5 else []
    return "\n  ".join([f"{name}: quotes that would swallow rows", *shown, *more]) + (
        f'\nfix: if each line is a row, write the quote inside a field as "" or use {flag} no; if these lines are one '
        f"text, {flag} yes"
    )


def _scanned(file: TextFile, separator: str) -> Scan:
    """Reads the whole file with quoting, keeping the lines of the row at hand."""
    scan, kept = Scan(), []
    lines = file.lines(Problems(file.path.name))

    def kept_lines() -> Iterator[str]:
        for line in lines:
            kept.append(line)
            yield line

    reader = csv.reader(kept_lines(), delimiter=separator, strict=True)
    try:
        for cells in reader:
            _look_at(scan, cells, kept, reader.line_num, separator)
            kept.clear()
    except csv.Error:
        scan.is_broken = True
        _count_lines(scan, [*kept, *lines], separator)
    return scan


def _count_lines(scan: Scan, lines: list[str], separator: str) -> list[bool]:
    """Returns for each line whether it has the right number of columns by itself; blank lines have none."""
    scan.width = scan.width or (lines[0].count(separator) + 1 if lines else 0)
    fitting = [bool(line.strip()) and line.count(separator) + 1 == scan.width for line in lines]
    scan.lines += sum(1 for line in lines if line.strip())
    scan.fitting_lines += sum(fitting)
    return fitting


def _look_at(scan: Scan, cells: list[str], lines: list[str], last_line: int, separator: str) -> None:
    scan.width = scan.width or len(cells)
    fitting = _count_lines(scan, lines, separator)
    text = "".join(lines)
    if '"' in text and not scan.has_proof:
        doubled = '""' in text and any('"' in cell for cell in cells)
        # In a row of several lines a separator proves nothing: it may be one of a row that was swallowed.
        scan.has_proof = doubled or (len(lines) == 1 and len(cells) != text.count(separator) + 1)
    if len(lines) == 1:
        _remember(scan, cells)
    elif len(cells) == scan.width and _may_be_rows(lines, fitting) and len(scan.spans) < KEPT_SPANS:
        column = next((place for place, cell in enumerate(cells) if "\n" in cell or "\r" in cell), 0)
        scan.spans.append(Span(last_line - len(lines) + 1, list(lines), column))


def _may_be_rows(lines: list[str], fitting: list[bool]) -> bool:
    """Returns whether the lines of one row may be rows by themselves: the first, the last and most of them fit.

    Between them a line may be blank, or hold a separator too many: a row that was broken anyway.
    """
    return fitting[0] and fitting[-1] and 2 * sum(fitting) >= sum(1 for line in lines if line.strip())


def _remember(scan: Scan, cells: list[str]) -> None:
    if len(cells) != scan.width or scan.rows >= KEPT_ROWS:
        return
    if not scan.values:  # the first line, which may be the header: its names are no values
        scan.values, scan.numeric = [set() for _ in cells], [True] * len(cells)
        return
    scan.rows += 1
    for column, cell in enumerate(cells):
        scan.numeric[column] = scan.numeric[column] and is_number(cell)
        if len(cell) <= LONGEST_VALUE:
            scan.values[column].add(cell.strip())


def _swallows(span: Span, scan: Scan, separator: str) -> bool:
    """Returns whether the lines of a row look like rows: another column of theirs holds what the file's rows hold.

    Columns before the quoted field are looked at from the second line on, columns behind it up to the last line but
    one: there a text of several lines holds pieces of itself. Without anything to compare, they look like rows, unless
    the file shows elsewhere that it is written with quoting.
    """
    if scan.width == 1 or not scan.rows:
        return not scan.has_proof
    lines = [[cell.strip().strip('"') for cell in line.rstrip("\r\n").split(separator)] for line in span.lines]
    return any(_is_known(span, scan, lines, column) for column in range(scan.width) if column != span.column)


def _is_known(span: Span, scan: Scan, lines: list[list[str]], column: int) -> bool:
    """Returns whether the lines hold, in this column, what other rows hold there."""
    compared = lines[1:] if column < span.column else lines[:-1]
    cells = [line[column] for line in compared if len(line) == scan.width]
    known = [cell in scan.values[column] or (scan.numeric[column] and is_number(cell)) for cell in cells]
    return bool(known) and sum(known) >= MOST_KNOWN * len(known)
