"""Parquet, Arrow and Feather files, and folders of datasets' save_to_disk, to columns."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from submillion.data.tables import Pick, Problems, Table, from_arrow
from submillion.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

STATE, DICT = "state.json", "dataset_dict.json"  # what save_to_disk writes beside the rows, and above several splits


def parquet_tables(path: Path, pick: Pick, problems: Problems, chunk_rows: int) -> Iterator[Table]:
    """Yields the picked columns of a Parquet file, at most chunk_rows rows at a time. Raises DataError."""
    import pyarrow.parquet as pq

    with _damage_told("no parquet file, or a damaged one", problems), pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        # An empty table first: the pick, and its errors, come before any row is read.
        wanted = list(from_arrow(schema.empty_table(), pick, problems).columns)
        yield from _tables(file.iter_batches(batch_size=chunk_rows, columns=wanted), schema, wanted, problems)


def arrow_tables(path: Path, pick: Pick, problems: Problems, chunk_rows: int) -> Iterator[Table]:
    """Yields the picked columns of an Arrow file (a stream, or a file with a footer) or a Feather file.

    The file is mapped into memory, not read whole. Raises DataError.
    """
    with _damage_told("no arrow file, or a damaged one", problems):
        schema, batches = _opened(path)
        wanted = list(from_arrow(schema.empty_table(), pick, problems).columns)
        yield from _tables(_cut(batches, wanted, chunk_rows), schema, wanted, problems)


def is_saved_dataset(folder: Path) -> bool:
    """Returns whether a folder is what save_to_disk of a datasets.Dataset has written."""
    return (folder / STATE).is_file() and not (folder / DICT).is_file()


def saved_splits(folder: Path) -> dict[str, Path] | None:
    """Returns the folder of each split that save_to_disk of a DatasetDict has written; None for another folder.

    Raises DataError if the list of splits cannot be read.
    """
    if not (folder / DICT).is_file():
        return None
    names = _names(folder / DICT, "splits")
    return {name: folder / name for name in names}


def saved_tables(folder: Path, pick: Pick, problems: Problems, chunk_rows: int) -> Iterator[Table]:
    """Yields the picked columns of a Dataset that save_to_disk has written. Raises DataError."""
    names = _names(folder / STATE, "_data_files")
    row = 1
    for name in names:
        path = folder / name
        if not path.is_file():
            raise DataError(f"{folder}: {STATE} names {name}, which is not there\nfix: copy the whole folder again")
        for table in arrow_tables(path, pick, problems, chunk_rows):
            table.rows = range(row, row + len(table.rows))
            row += len(table.rows)
            yield table


def _names(path: Path, key: str) -> list[str]:
    """Returns the names that a file of save_to_disk lists: files or folders right beside it.

    Raises DataError for another content, and for a name that leads out of the folder.
    """
    try:
        listed = json.loads(path.read_bytes())[key]
        names = [item["filename"] if isinstance(item, dict) else item for item in listed]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: expected what save_to_disk writes, found something else ({error!r})") from None
    wrong = [name for name in names if not isinstance(name, str) or Path(name).name != name or name in (".", "..")]
    if wrong or not names or "\0" in "".join(names):
        raise DataError(f"{path}: expected names of files beside it, found {wrong or 'none'}")
    return names


@contextmanager
def _damage_told(what: str, problems: Problems) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        message = " ".join(str(error).split())[:200]
        raise problems.stop(f"{what} ({message})") from None


def _opened(path: Path) -> tuple["pa.Schema", Iterator["pa.RecordBatch"]]:
    import pyarrow as pa
    from pyarrow import ipc

    with path.open("rb") as file:
        magic = file.read(6)
    if magic[:4] == b"FEA1":  # pyarrow gives this version up, and a damaged file of it ends the process
        raise DataError(
            f"{path.name}: expected Feather's version 2, found version 1, which is not read\n"
            "fix: pandas.read_feather(FILE).to_parquet(OTHER)"
        )
    source = pa.memory_map(str(path))
    if magic == b"ARROW1":
        reader = ipc.open_file(source)
        return reader.schema, (reader.get_batch(index) for index in range(reader.num_record_batches))
    stream = ipc.open_stream(source)
    return stream.schema, iter(stream)


def _cut(batches: Iterator["pa.RecordBatch"], wanted: list[str], rows: int) -> Iterator["pa.RecordBatch"]:
    """Yields the wanted columns in batches of at most so many rows, each checked in full: offsets can lie in a file."""
    for batch in batches:
        picked = batch.select(wanted)
        picked.validate(full=True)
        for start in range(0, picked.num_rows, rows):
            yield picked.slice(start, rows)


def _tables(
    batches: Iterator["pa.RecordBatch"], schema: "pa.Schema", wanted: list[str], problems: Problems
) -> Iterator[Table]:
    import pyarrow as pa

    row = 1
    for batch in batches:
        table = pa.Table.from_batches([batch]).replace_schema_metadata(schema.metadata)
        if table.num_rows:
            yield from_arrow(table, lambda columns, strings: wanted, problems, first_row=row)
        row += table.num_rows
