"""Excel workbooks (.xlsx) to columns: the first sheet that holds anything."""

import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from submillion.data.formats.grid import Line, grid_tables
from submillion.data.formats.options import ReadOptions
from submillion.data.tables import Pick, Problems, Table
from submillion.errors import DataError

MOST_BYTES = 2**30  # of a workbook's parts, unpacked: more is no table of texts, but a bomb
DAMAGED = "no xlsx workbook, or a damaged one"


def workbook_tables(
    path: Path, pick: Pick, problems: Problems, options: ReadOptions, chunk_rows: int
) -> Iterator[Table]:
    """Yields the picked columns of the first sheet with cells; line numbers are Excel's row numbers.

    Formulas count as what they last gave. Notes the sheets that are not read. Raises DataError without openpyxl, for a
    damaged workbook, and for one without cells.
    """
    try:
        import openpyxl
    except ImportError:
        raise DataError(
            f"{path.name}: Excel workbooks are read by openpyxl, which is not installed\n"
            "fix: pip install 'submillion[excel]', or save the sheet as csv"
        ) from None
    _check_size(path)
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            sheet = next((sheet for sheet in book.worksheets if any(_sheet_lines(sheet))), None)
            names = [other.title for other in book.worksheets if other is not sheet]
            if sheet is None:
                return
            if names:
                problems.note(f"{path.name}: the sheet {sheet.title!r} is read, and not {', '.join(map(repr, names))}")
            lines = partial(_sheet_lines, sheet)
            yield from grid_tables(lines, lines, pick, problems, options, chunk_rows)
        finally:
            book.close()
    except DataError:
        raise
    except Exception as error:  # what a damaged workbook does to zipfile, to the XML parser and to openpyxl
        raise problems.stop(f"{DAMAGED} ({type(error).__name__}: {error})") from None


def _check_size(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise DataError(f"{path.name}: {DAMAGED} ({error})\nfix: save it again as xlsx, or as csv") from None
    if size > MOST_BYTES:
        raise DataError(f"{path.name}: its parts unpack to {size:,} bytes, which is too much\nfix: save it as csv")


def _sheet_lines(sheet: Any) -> Iterator[Line]:
    """Yields the cells of each row that holds any, all as wide as the first one unless they hold more."""
    from openpyxl.utils.escape import unescape

    sheet.reset_dimensions()  # what the file claims of its size may be wrong
    width = 0
    for number, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
        values = [unescape(cell) if isinstance(cell, str) else cell for cell in cells]  # _x000D_ is a carriage return
        while values and values[-1] is None:
            values.pop()
        if not values:
            continue
        width = width or len(values)
        yield number, values + [None] * (width - len(values))
