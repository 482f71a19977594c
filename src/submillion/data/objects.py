"""Tables that a caller holds in memory (or a pickle held) to columns: pandas, datasets, pyarrow, dicts and lists."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from submillion.data.tables import Pick, Problems, Table, from_arrow, lacks, with_class_labels
from submillion.data.texts import described, listed
from submillion.errors import DataError


def table_from_object(data: Any, pick: Pick, problems: Problems) -> Table:
    """Returns the picked columns of a table, a dict of columns, or a sequence of dicts, (text, label) pairs or texts.

    A table is a pandas DataFrame or Series, a datasets.Dataset, a pyarrow.Table or whatever else gives its columns as
    an Arrow stream, as polars does. A sequence is what `listed` takes, or a numpy array of two columns. The object
    itself is left as it is. Raises DataError for anything else.
    """
    if _is_a(data, "datasets", "Dataset"):
        data = arrow_from_dataset(data)
    if _is_a(data, "pyarrow", "Table"):
        return from_arrow(data, pick, problems)
    if _is_a(data, "pandas", "DataFrame"):
        repeated = sorted({str(name) for name in data.columns if list(data.columns).count(name) > 1})
        if repeated:
            raise DataError(f"{problems.where}: each column needs its own name, found twice: {', '.join(repeated)}")
        data = {str(name): data[name].tolist() for name in data.columns}
    elif _is_a(data, "pandas", "Series"):
        data = {"text" if data.name is None else str(data.name): data.tolist()}
    if isinstance(data, Mapping):
        return _from_columns(data, pick, problems)
    if hasattr(data, "__arrow_c_stream__") and hasattr(data, "columns"):  # a series has a stream too, and no columns
        return from_arrow(_arrow_table(data), pick, problems)
    rows = listed(data.tolist() if _is_a(data, "numpy", "ndarray") else data)
    if rows is not None:
        return _from_rows(rows, pick, problems)
    raise DataError(
        f"{problems.where}: expected a DataFrame, a dict of columns, a dict of splits, a list of dicts or of "
        f"(text, label) pairs, or a path; found {described(data)}"
    )


def _arrow_table(data: Any) -> Any:
    """Returns a pyarrow.Table of a table that gives its columns as an Arrow stream."""
    import pyarrow as pa

    return pa.table(data)


def arrow_from_dataset(dataset: Any) -> Any:
    """Returns the rows of a datasets.Dataset, in its order, as a pyarrow.Table.

    The names of its ClassLabel columns are in the schema.
    """
    table = dataset.with_format("arrow")[:]
    names = {column: kind.names for column, kind in dataset.features.items() if type(kind).__name__ == "ClassLabel"}
    return with_class_labels(table, names)


def _is_a(data: object, module: str, name: str) -> bool:
    """Returns what isinstance does, for a class whose module need not be imported.

    If its module is not imported, nobody can hold an instance.
    """
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(data, kind)


def _from_columns(data: Mapping[Any, Any], pick: Pick, problems: Problems) -> Table:
    columns = {str(name): _as_list(values, str(name), problems) for name, values in data.items()}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"{problems.where}: expected columns of one length, found {shown}")
    strings = [name for name, values in columns.items() if values and all(_is_text(value) for value in values[:100])]
    wanted = pick(list(columns), strings)
    count = len(columns[wanted[0]])
    if not count:
        raise DataError(f"{problems.where}: no rows in it")
    return Table({name: columns[name] for name in wanted}, problems, range(1, count + 1))


def _as_list(values: Any, name: str, problems: Problems) -> list[Any]:
    column = listed(values)
    if column is None:
        raise DataError(f"{problems.where}: expected a list in column {name!r}, found {described(values)}")
    return column


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _from_rows(data: Sequence[Any], pick: Pick, problems: Problems) -> Table:
    if not data:
        raise DataError(f"{problems.where}: no rows in it")
    first = data[0]
    if isinstance(first, Mapping):
        if not all(isinstance(name, str) for name in first):
            data = [{str(name): row[name] for name in row} if isinstance(row, Mapping) else row for row in data]
        names = [str(name) for name in first]
        wanted = pick(names, [str(name) for name, value in first.items() if isinstance(value, str)])
        good = [number for number, row in enumerate(data, 1) if _has(row, wanted, number, problems)]
        return Table({name: [data[number - 1].get(name) for number in good] for name in wanted}, problems, good)
    if isinstance(first, str) or first is None:
        return _from_columns({"text": list(data)}, pick, problems)
    good = [number for number, row in enumerate(data, 1) if _is_pair(row, number, problems)]
    if not good:
        raise problems.error()
    pairs = [data[number - 1] for number in good]
    wanted = pick(["text", "label"], ["text"])
    columns = {"text": [pair[0] for pair in pairs], "label": [pair[1] for pair in pairs]}
    return Table({name: columns[name] for name in wanted}, problems, good)


def _has(row: Any, wanted: list[str], number: int, problems: Problems) -> bool:
    if not isinstance(row, Mapping):
        problems.add(f"row {number}: expected a dict, found {type(row).__name__}")
        return False
    lacking = lacks(row, wanted)
    if lacking:
        problems.add(f"row {number}: no key {' and no key '.join(map(repr, lacking))}")
    return not lacking


def _is_pair(row: Any, number: int, problems: Problems) -> bool:
    pair = isinstance(row, Sequence) and not isinstance(row, str | bytes) and len(row) == 2
    if not pair:
        problems.add(f"row {number}: expected a (text, label) pair, found {type(row).__name__}")
    return pair
