"""A split that lies in several files, as one table."""

from collections.abc import Sequence
from pathlib import Path

from submillion.data.compression import data_name
from submillion.data.problems import Problems
from submillion.data.split_names import part_of
from submillion.data.tables import Table
from submillion.errors import DataError


def ordered_parts(folder: Path, split: str, paths: Sequence[Path]) -> list[Path]:
    """Returns the files of a split in order: one whole, or all parts of one set.

    Raises DataError for two wholes, for parts of several sets, and for a part that is not there.
    """
    numbered = sorted((part, path) for path in paths if (part := part_of(data_name(path).stem)))
    totals = {part.total for part, _ in numbered}
    numbers = [part.number for part, _ in numbered]
    if len(totals) > 1 or len(set(numbers)) < len(numbers):
        shown = ", ".join(sorted(path.name for path in paths))
        raise DataError(
            f"{folder}: expected one file a split, or its parts, found several for {split}: {shown}\n"
            "fix: keep one of them there"
        )
    missing = [number for number in range(max(totals)) if number not in numbers]
    if missing or len(numbers) > max(totals):
        first = ", ".join(map(str, missing[:5])) or "none"
        raise DataError(
            f"{folder}: expected {max(totals)} parts of {split}, found {len(numbers)}: {numbered[0][1].name} ...; "
            f"missing, counted from 0: {first}\nfix: copy all of them there"
        )
    return [path for _, path in numbered]


def joined_parts(tables: Sequence[Table], names: Sequence[str], where: str) -> Table:
    """Returns the tables of a split's parts as one.

    names: their files, in the same order. where: the split, for errors. Raises DataError if the parts have other
    columns or other names of labels.
    """
    first = tables[0]
    for table, name in zip(tables, names, strict=True):
        if list(table.columns) != list(first.columns) or table.label_names != first.label_names:
            raise DataError(
                f"{where}: expected the columns {', '.join(first.columns)} with the same label names in every part, "
                f"found others in {name}: {', '.join(table.columns)}\nfix: the parts of one data set"
            )
    problems = Problems(where)
    for table, name in zip(tables, names, strict=True):
        problems.take(table.problems, name)
    columns = {column: [value for table in tables for value in table.columns[column]] for column in first.columns}
    rows = [row for table in tables for row in table.rows]
    lines = None if first.lines is None else [line for table in tables for line in table.lines or ()]
    parts = [name for table, name in zip(tables, names, strict=True) for _ in table.rows]
    return Table(columns, problems, rows, lines, dict(first.label_names), parts=parts)
