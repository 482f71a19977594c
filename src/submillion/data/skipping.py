"""Leaves out rows that cannot be used, if data.repair says so, and lists them in a file."""

import csv
import io
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from submillion.data.problems import Place
from submillion.data.tables import Table

FILE_NAME = "skipped.csv"


@dataclass(frozen=True)
class Skipped:
    """A row that was left out. text and label are empty if the row could not be read at all."""

    split: str
    place: Place
    reason: str
    text: Any = ""
    label: Any = ""


def without_bad_rows(table: Table, split: str) -> tuple[list[int], list[Skipped]]:
    """Returns the indices of the rows without a problem, in order, and the others with all their reasons.

    Raises DataError if a problem belongs to no row: then it is not known what to leave out.
    """
    if any(cause.count > len(cause.places) for cause in table.problems.causes.values()):
        raise table.problems.error()
    places = table.places()
    index_of, rows_of_part = {place: index for index, place in enumerate(places)}, _rows_by_part(places)
    reasons: dict[Place, list[str]] = {}
    bad: dict[Place, int | None] = {}
    for place, reason in table.problems.by_place():
        index = index_of.get(place)
        if index is None and reason.startswith("byte "):
            # A line that was not decoded is part of a row all the same. Any other problem of a line has no row.
            index = _row_of_line(rows_of_part.get(place.part, []), place.line)
            place = place if index is None else places[index]
        bad[place] = index
        reasons.setdefault(place, []).append(reason)
    text_column, label_column = table.columns
    texts, labels = table.columns[text_column], table.columns[label_column]
    skipped = [
        Skipped(split, place, "; ".join(reasons[place]))
        if (index := bad[place]) is None
        else Skipped(split, place, "; ".join(reasons[place]), texts[index], labels[index])
        for place in sorted(bad, key=lambda place: (place.part, place.line, place.row))
    ]
    left_out = {index for index in bad.values() if index is not None}
    return [index for index in range(len(texts)) if index not in left_out], skipped


def _rows_by_part(places: Sequence[Place]) -> dict[str, list[tuple[int, int]]]:
    """Returns the line and the index of each row, by the file that it stands in."""
    rows: dict[str, list[tuple[int, int]]] = {}
    for index, place in enumerate(places):
        rows.setdefault(place.part, []).append((place.line, index))
    return rows


def _row_of_line(rows: Sequence[tuple[int, int]], line: int) -> int | None:
    """Returns the index of the last row that begins on a line or before it.

    rows: as `_rows_by_part` returns them.
    """
    place = bisect_right(rows, line, key=lambda row: row[0]) - 1
    return rows[place][1] if place >= 0 else None


def skipped_csv(skipped: Sequence[Skipped]) -> bytes:
    """Returns the rows that were left out as a CSV file in UTF-8: split, file, row, line, reason, text, label.

    What UTF-8 cannot hold is escaped.
    """
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["split", "file", "row", "line", "reason", "text", "label"])
    for row in skipped:
        place = [row.place.part, row.place.row or "", row.place.line or ""]
        shown = ["" if value is None else str(value) for value in (row.text, row.label)]
        writer.writerow([row.split, *place, row.reason, *shown])
    return lines.getvalue().encode("utf-8", "backslashreplace")
