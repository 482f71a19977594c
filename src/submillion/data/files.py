"""Data files to columns of Python values: csv, tsv, jsonl, json, parquet, txt, pickle. Text files are UTF-8, and may be
compressed with gzip or zstd."""

import csv
import json
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from submillion.data.compression import CODECS, codec_of, data_name, open_data
from submillion.data.objects import table_from_object
from submillion.data.pickles import read_pickle
from submillion.data.split_names import is_splits
from submillion.data.tables import (
    Pick,
    Problems,
    Table,
    answerable_texts,
    checked_texts,
    from_arrow,
    join_texts,
    lacks,
    pick_text,
)
from submillion.errors import DataError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".pkl", ".pickle")
INPUT_SUFFIXES = (".pkl", ".pickle", ".csv", ".tsv", ".jsonl", ".parquet", ".txt")
ARTEFACT_FILES = (
    "model.pt",
    "metrics.json",
    "history.jsonl",
    "config.toml",
    "README.md",
    "predictions.csv",
    "skipped.csv",
)
COMPRESSIBLE = (".csv", ".tsv", ".jsonl", ".json", ".txt")  # parquet compresses its own columns
CHUNK_ROWS = 4096
STREAM_BYTES = 65_536  # of a stream at a time, about what a pipe holds


def iter_texts(path: str | Path, text_column: str = "", chunk_rows: int = CHUNK_ROWS) -> Iterator[list[str]]:
    """The texts of a file in order, at most chunk_rows at a time; pickles and .json arrays are held whole.

    A single column of strings is taken whatever its name; the first line of a csv or tsv is its header. Raises
    DataError at the first chunk with an unusable row, so whoever must not work in vain asks check_texts first.
    """
    path = Path(path)
    problems = _problems_of(path)
    for table in _texts(path, text_column, problems, chunk_rows):
        (column,) = table.columns
        texts = checked_texts(table, column)
        problems.check()
        yield texts


def check_texts(path: str | Path, text_column: str = "", flag: str = "--text-column") -> int:
    """Number of rows, after one pass over the whole file. Raises DataError with all problems of the file; it names
    `flag` as what gives the text column."""
    path = Path(path)
    problems = _problems_of(path)
    count = 0
    for table in _texts(path, text_column, problems, CHUNK_ROWS, flag):
        (column,) = table.columns
        count += len(checked_texts(table, column))
    problems.check()
    return count


def _texts(
    path: Path, text_column: str, problems: Problems, chunk_rows: int, flag: str = "--text-column"
) -> Iterator[Table]:
    """Chunks of the one column of texts."""
    for table in _stream(path, pick_text(text_column, path.name, flag), problems, chunk_rows):
        yield join_texts(table, len(table.columns))


def stream_texts(stream: BinaryIO, name: str = "standard input") -> Iterator[list[str]]:
    """The lines of a stream as they come: what has arrived by now, at most STREAM_BYTES and one line, is a chunk.

    So a slow writer has each line answered at once, and a fast one has them computed many at a time. A blank
    line is the text "". Raises DataError at a line that is not UTF-8, naming it, after the lines before it.
    """
    read = getattr(stream, "read1", stream.read)  # returns with what a pipe holds already, and does not wait for more
    done, rest, ended = 0, b"", False
    while not ended:
        block = read(STREAM_BYTES)
        ended = not block
        *lines, rest = (rest + block).split(b"\n")
        if ended and rest:
            lines = [rest]
        texts, problems = _texts_of(lines, done, name)
        if problems.count:
            good = next(index for index in range(len(lines)) if _texts_of(lines[: index + 1], done, name)[1].count)
            if good:
                yield texts[:good]
            raise problems.error()
        if texts:
            yield texts
        done += len(lines)


def _texts_of(lines: list[bytes], before: int, name: str) -> tuple[list[str], Problems]:
    problems = Problems(name, fix="fix: correct or remove these lines; each is a text in UTF-8")
    numbers = range(before + 1, before + len(lines) + 1)
    texts = [_decoded(raw, number, name, problems).rstrip("\r\n") for number, raw in zip(numbers, lines, strict=True)]
    return answerable_texts(Table({"text": texts}, problems, numbers, numbers), "text"), problems


def find_input(folder: str | Path) -> Path:
    """The one data file that lies in a folder, beside the artefact's own files.

    Raises DataError where there is none, saying what was looked for, or several, listing them.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; name the texts: predict FILE")
    found = sorted(
        path
        for path in folder.iterdir()
        if _input_suffix(path) and path.name not in ARTEFACT_FILES and not path.name.startswith(".") and path.is_file()
    )
    if len(found) == 1:
        return found[0]
    if not found:
        raise DataError(
            f"{folder}: no data file in it; looked for *{', *'.join(INPUT_SUFFIXES)} (text also "
            f"as {', '.join(f'*{suffix}' for suffix in CODECS)}), apart from the model's own "
            f"{', '.join(ARTEFACT_FILES)}; put one there or name it: predict FILE"
        )
    listed = "\n  ".join(path.name for path in found)
    raise DataError(f"{folder}: several data files in it; name one: predict FILE\n  {listed}")


def _input_suffix(path: Path) -> bool:
    suffix = data_name(path).suffix.lower()
    return suffix in (COMPRESSIBLE if codec_of(path) else INPUT_SUFFIXES) and suffix != ".json"


def read_chunks(path: Path, pick: Pick, problems: Problems, chunk_rows: int = CHUNK_ROWS) -> Iterator[Table]:
    """Yields the picked columns of a file, at most chunk_rows rows at a time; pickles and .json arrays are held whole.

    What is wrong with rows is added to `problems`. Raises DataError for a file that cannot be read at all.
    """
    check_exists(path)
    yield from _stream(path, pick, problems, chunk_rows)


def read_table(path: Path, pick: Pick) -> Table:
    """The picked columns of a whole file; its row problems are in the table, not raised yet.

    Raises DataError for a file that cannot be read at all. Not for pickles, which may hold several splits.
    """
    problems = _problems_of(path)
    chunks = list(_stream(path, pick, problems, chunk_rows=65_536))
    whole = chunks[0]
    if len(chunks) > 1:
        whole.columns = {name: [value for chunk in chunks for value in chunk.columns[name]] for name in whole.columns}
        whole.rows = [row for chunk in chunks for row in chunk.rows]
        if whole.lines is not None:
            whole.lines = [line for chunk in chunks for line in chunk.lines or ()]
    return whole


def check_exists(path: Path) -> None:
    """Raise DataError for a missing or empty file, and for what is no file: it may be read more than once."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_dir():
        raise DataError(f"{path}: expected a file, found a folder")
    if not path.is_file():
        raise DataError(
            f"{path}: expected a file, found a pipe or a device; save what comes out of it as a file (predict - reads "
            "a text a line from a pipe)"
        )
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")


def _problems_of(path: Path) -> Problems:
    check_exists(path)
    return Problems(path.name)


def _stream(path: Path, pick: Pick, problems: Problems, chunk_rows: int) -> Iterator[Table]:
    """Chunks of the picked columns, at least one row in all."""
    suffix = data_name(path).suffix.lower()
    if codec_of(path) and suffix not in COMPRESSIBLE:
        raise DataError(
            f"{path.name}: expected compressed text, a name that ends in "
            f"{', '.join(f'{suffix}{codec}' for suffix in COMPRESSIBLE for codec in CODECS)}"
            + ("; unpack it first" if suffix in SUFFIXES else "")
        )
    if suffix in (".csv", ".tsv"):
        chunks = _csv_chunks(path, pick, problems, chunk_rows)
    elif suffix == ".txt":
        chunks = _chunked(_txt_rows(path, problems), ["text"], problems, chunk_rows)
    elif suffix in (".jsonl", ".json"):
        chunks = _json_chunks(path, pick, problems, chunk_rows)
    elif suffix == ".parquet":
        chunks = _parquet_chunks(path, pick, problems, chunk_rows)
    elif suffix in (".pkl", ".pickle"):
        chunks = _pickle_chunks(path, pick, problems, chunk_rows)
    else:
        raise DataError(
            f"{path.name}: expected a file that ends in {', '.join((*SUFFIXES, '.txt'))}, "
            f"text also with {' or '.join(CODECS)} after it"
        )
    empty = True
    for chunk in chunks:
        empty = False
        yield chunk
    if empty:
        problems.check()
        raise DataError(f"{path.name}: no data rows in it, expected one or more (below the header, where there is one)")


Row = tuple[int, int, list[Any]]  # row number, line number (0 where there are no lines), the picked values


def _chunked(rows: Iterator[Row], names: list[str], problems: Problems, chunk_rows: int) -> Iterator[Table]:
    while chunk := list(islice(rows, chunk_rows)):
        numbers, lines, values = zip(*chunk, strict=True)
        columns = {name: list(column) for name, column in zip(names, zip(*values, strict=True), strict=True)}
        yield Table(columns, problems, numbers, lines if lines[0] else None)


def _lines(path: Path, problems: Problems) -> Iterator[str]:
    """Lines with their ends, decoded one by one so that every broken one is found."""
    number = 0
    with open_data(path) as file:
        try:
            for number, raw in enumerate(file, start=1):
                yield _decoded(raw, number, path.name, problems)
        except OSError as error:
            if not codec_of(path):
                raise
            raise problems.stop(f"after line {number}: the {codec_of(path)} file is cut or damaged ({error})") from None


def _decoded(raw: bytes, number: int, name: str, problems: Problems) -> str:
    """A line as text; what is wrong with it is added to the problems. Raises DataError for UTF-16."""
    if number == 1 and raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{name}: expected UTF-8, found UTF-16 (byte order mark); save it as UTF-8")
    if number == 1:
        raw = raw.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in raw:
        problems.add(f"line {number}: byte {raw.index(0) + 1} is NUL, which no text file holds")
        raw = raw.replace(b"\0", b"?")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        byte = f"byte {error.start + 1} (0x{raw[error.start]:02x})"
        problems.add(f"line {number}: {byte} is not UTF-8; if the text is Windows-1252, save it as UTF-8")
        return raw.decode(errors="replace")


def _txt_rows(path: Path, problems: Problems) -> Iterator[Row]:
    for number, line in enumerate(_lines(path, problems), start=1):
        yield number, number, [line.rstrip("\r\n")]


def _csv_chunks(path: Path, pick: Pick, problems: Problems, chunk_rows: int) -> Iterator[Table]:
    csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))  # the default refuses a text of 131,073 characters
    delimiter = "\t" if data_name(path).suffix.lower() == ".tsv" else ","
    reader = csv.reader(_lines(path, problems), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise problems.stop(f"line 1: the header is no {data_name(path).suffix[1:]} ({error})") from None
    others = [name for name, mark in (("','", ","), ("';'", ";"), ("a tab", "\t")) if mark in "".join(header)]
    if len(header) == 1 and others:
        expected = "a tab" if delimiter == "\t" else "','"
        raise DataError(
            f"{path.name}: expected {expected} between the columns, found {others[0]} in the header; save it with "
            f"{expected}" + (", or rename it to .tsv" if others[0] == "a tab" else "")
        )
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise DataError(f"{path.name}: each column needs its own name, found twice: {', '.join(map(repr, repeated))}")
    wanted = pick(header, header)
    yield from _chunked(_csv_rows(reader, header, wanted, problems), wanted, problems, chunk_rows)


def _csv_rows(reader: Any, header: list[str], wanted: list[str], problems: Problems) -> Iterator[Row]:
    places = [header.index(name) for name in wanted]
    number = 0
    blank_lines: list[int] = []
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            unclosed = "a quoted field is never closed" if "end of data" in str(error) else f"broken quoting ({error})"
            raise problems.stop(f"row {number + 1} (line {line}): {unclosed}") from None
        if row is None:
            return
        if not row:  # blank lines are accepted at the end of a file only
            blank_lines.append(line)
            continue
        if len(header) == 1:  # an empty cell of a single column is a blank line, as spreadsheets write it
            for blank_line in blank_lines:
                number += 1
                yield number, blank_line, [""] * len(places)
        elif blank_lines:
            problems.add(f"line {blank_lines[0]}: a blank line between rows")
        blank_lines.clear()
        number += 1
        if len(row) != len(header):
            problems.add(f"row {number} (line {line}): {len(row)} fields, expected {len(header)} as in the header")
        else:
            yield number, line, [row[place] for place in places]


def _json_chunks(path: Path, pick: Pick, problems: Problems, chunk_rows: int) -> Iterator[Table]:
    items = _json_array(path, problems) if data_name(path).suffix.lower() == ".json" else None
    numbered = _jsonl_objects(path, problems) if items is None else items
    first = next(numbered, None)
    if first is None:
        return
    wanted = pick(list(first[2]), [name for name, value in first[2].items() if isinstance(value, str)])
    yield from _chunked(_json_rows(chain([first], numbered), wanted, problems), wanted, problems, chunk_rows)


JsonObject = tuple[int, int, dict[str, Any]]


def _jsonl_objects(path: Path, problems: Problems) -> Iterator[JsonObject]:
    blank = 0
    for number, line in enumerate(_lines(path, problems), start=1):
        if not line.strip():  # accepted at the end of a file only
            blank = blank or number
            continue
        if blank:
            problems.add(f"line {blank}: a blank line between rows")
            blank = 0
        try:
            item = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.add(f"line {number}: no JSON ({error})")
            continue
        if isinstance(item, dict):
            yield number, number, item
        else:
            problems.add(f"line {number}: expected a JSON object, found {type(item).__name__}")


def _json_array(path: Path, problems: Problems) -> Iterator[JsonObject] | None:
    """The objects of a .json file that is one array; None for one that has an object a line."""
    try:
        with open_data(path) as file:
            start = file.read(1024)
            if not start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
                return None
            items = json.loads(start + file.read())
    except (ValueError, RecursionError) as error:
        raise problems.stop(f"no JSON array ({error})") from None
    except OSError as error:
        if not codec_of(path):
            raise
        raise problems.stop(f"the {codec_of(path)} file is cut or damaged ({error})") from None

    def objects() -> Iterator[JsonObject]:
        for number, item in enumerate(items, start=1):
            if isinstance(item, dict):
                yield number, 0, item
            else:
                problems.add(f"row {number}: expected a JSON object, found {type(item).__name__}")

    return objects()


def _json_rows(objects: Iterator[JsonObject], wanted: list[str], problems: Problems) -> Iterator[Row]:
    for number, line, item in objects:
        lacking = lacks(item, wanted)
        if lacking:
            problems.add(f"row {number}: no key {' and no key '.join(map(repr, lacking))}")
        else:
            yield number, line, [item.get(name) for name in wanted]


def _parquet_chunks(path: Path, pick: Pick, problems: Problems, chunk_rows: int) -> Iterator[Table]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            # An empty table first: the pick, and its errors, come before any row is read.
            wanted = list(from_arrow(file.schema_arrow.empty_table(), pick, problems).columns)
            row = 1
            for batch in file.iter_batches(batch_size=chunk_rows, columns=wanted):
                table = pa.Table.from_batches([batch]).replace_schema_metadata(file.schema_arrow.metadata)
                yield from_arrow(table, lambda columns, strings: wanted, problems, first_row=row)
                row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise problems.stop(f"no parquet file, or a damaged one ({error})") from None


def _pickle_chunks(path: Path, pick: Pick, problems: Problems, chunk_rows: int) -> Iterator[Table]:
    found = read_pickle(path)
    if is_splits(found):
        names = ", ".join(map(str, found))
        raise DataError(f"{path.name}: expected one table, found a dict of splits ({names}); save one of them alone")
    whole = table_from_object(found, pick, problems)
    for start in range(0, len(whole.rows), chunk_rows):
        part = slice(start, start + chunk_rows)
        columns = {name: values[part] for name, values in whole.columns.items()}
        yield Table(columns, problems, whole.rows[part], label_names=whole.label_names)
