"""Data files to columns of Python values. The ending of a file's name says which of `data.formats` reads it."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from submillion.data.compression import CODECS, codec_of, data_name, open_data
from submillion.data.formats.arrow_files import arrow_tables, is_saved_dataset, parquet_tables, saved_tables
from submillion.data.formats.json_files import json_tables
from submillion.data.formats.options import ReadOptions
from submillion.data.formats.pickles import read_pickle
from submillion.data.formats.plain import plain_tables
from submillion.data.formats.separated import separated_tables
from submillion.data.formats.text import decoded_line
from submillion.data.formats.workbook import workbook_tables
from submillion.data.objects import table_from_object
from submillion.data.split_names import is_splits
from submillion.data.tables import Pick, Problems, Table, answerable_texts, checked_texts, join_texts, pick_text
from submillion.errors import DataError

SEPARATED, PLAIN, JSON = (".csv", ".tsv", ".tab"), (".txt", ".ft"), (".jsonl", ".json", ".ndjson")
BINARY = (".parquet", ".arrow", ".feather", ".xlsx", ".pkl", ".pickle")
SUFFIXES = (*SEPARATED, *JSON, *BINARY, *PLAIN)
INPUT_SUFFIXES = (".pkl", ".pickle", *(suffix for suffix in SUFFIXES if suffix not in (".pkl", ".pickle", ".json")))
ARTEFACT_FILES = (
    "model.pt",
    "metrics.json",
    "history.jsonl",
    "config.toml",
    "README.md",
    "predictions.csv",
    "skipped.csv",
)
COMPRESSIBLE = (*SEPARATED, *JSON, *PLAIN)  # the others compress their own columns
CHUNK_ROWS = 4096
DEFAULTS = ReadOptions(prefix="--")  # as predict spells them
STREAM_BYTES = 65_536  # of a stream at a time, about what a pipe holds


def iter_texts(
    path: str | Path, text_column: str = "", chunk_rows: int = CHUNK_ROWS, options: ReadOptions = DEFAULTS
) -> Iterator[list[str]]:
    """Yields the texts of a file in order, at most chunk_rows at a time; pickles and .json arrays are held whole.

    A single column of strings is taken whatever its name. Raises DataError at the first chunk with an unusable row, so
    whoever must not work in vain asks check_texts first.
    """
    path = Path(path)
    problems = _problems_of(path)
    for table in _texts(path, text_column, problems, chunk_rows, options=options):
        (column,) = table.columns
        texts = checked_texts(table, column)
        problems.check()
        yield texts


def check_texts(
    path: str | Path,
    text_column: str = "",
    flag: str = "--text-column",
    options: ReadOptions = DEFAULTS,
    notes: list[str] | None = None,
) -> int:
    """Returns the number of rows, after a pass over the whole file.

    notes: a list to which the lines of `Problems.notes` are added. Raises DataError with all problems of the file; it
    names `flag` as what gives the text column.
    """
    path = Path(path)
    problems = _problems_of(path)
    count = 0
    for table in _texts(path, text_column, problems, CHUNK_ROWS, flag, options):
        (column,) = table.columns
        count += len(checked_texts(table, column))
    problems.check()
    if notes is not None:
        notes += problems.notes
    return count


def _texts(
    path: Path,
    text_column: str,
    problems: Problems,
    chunk_rows: int,
    flag: str = "--text-column",
    options: ReadOptions = DEFAULTS,
) -> Iterator[Table]:
    """Yields chunks of the one column of texts."""
    for table in _stream(path, pick_text(text_column, path.name, flag), problems, chunk_rows, options):
        yield join_texts(table, len(table.columns))


def stream_texts(stream: BinaryIO, name: str = "standard input") -> Iterator[list[str]]:
    """Yields the lines of a stream in chunks, as they arrive.

    A chunk is what has arrived by now, at most STREAM_BYTES and one line. So each line of a slow writer is answered at
    once, and many lines of a fast one are computed together. A blank line is the text "". Raises DataError at a line
    that is not UTF-8, naming it, after the lines before it were yielded.
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
    texts = [_line(raw, number, name, problems).rstrip("\r\n") for number, raw in zip(numbers, lines, strict=True)]
    return answerable_texts(Table({"text": texts}, problems, numbers, numbers), "text"), problems


def _line(raw: bytes, number: int, name: str, problems: Problems) -> str:
    """Returns a line of a stream as text; adds what is wrong with it. Raises DataError for UTF-16."""
    if number == 1 and raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{name}: expected UTF-8, found UTF-16 (byte order mark); save it as UTF-8")
    if number == 1:
        raw = raw.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in raw:
        problems.add(f"line {number}: byte {raw.index(0) + 1} is NUL, which no text file holds")
        raw = raw.replace(b"\0", b"?")
    return decoded_line(raw, number, problems)


def find_input(folder: str | Path) -> Path:
    """Returns the one data file that lies in a folder, apart from the artefact's own files.

    Raises DataError if there is no such folder, if it holds no data file, saying what was looked for, or if it holds
    several, listing them.
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


def read_chunks(
    path: Path, pick: Pick, problems: Problems, chunk_rows: int = CHUNK_ROWS, options: ReadOptions = DEFAULTS
) -> Iterator[Table]:
    """Yields the picked columns of a file, at most chunk_rows rows at a time; pickles and .json arrays are held whole.

    What is wrong with rows is added to `problems`, and what is not obvious about the file to its notes. Raises
    DataError for a file that cannot be read at all.
    """
    check_exists(path)
    yield from _stream(path, pick, problems, chunk_rows, options)


def read_table(path: Path, pick: Pick, options: ReadOptions | None = None) -> Table:
    """Returns the picked columns of a whole file; its row problems are in the table, not raised yet.

    Raises DataError for a file that cannot be read at all. Not for pickles, which may hold several splits.
    """
    problems = _problems_of(path)
    chunks = list(_stream(path, pick, problems, 65_536, options or ReadOptions()))
    whole = chunks[0]
    if len(chunks) > 1:
        whole.columns = {name: [value for chunk in chunks for value in chunk.columns[name]] for name in whole.columns}
        whole.rows = [row for chunk in chunks for row in chunk.rows]
        if whole.lines is not None:
            whole.lines = [line for chunk in chunks for line in chunk.lines or ()]
    return whole


def check_exists(path: Path) -> None:
    """Raises DataError if the path is missing, an empty file, or no file at all.

    A folder that save_to_disk wrote counts as a file. A pipe or a device does not: a file may be read more than once.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if is_saved_dataset(path):
        return
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


def _stream(
    path: Path, pick: Pick, problems: Problems, chunk_rows: int, options: ReadOptions = DEFAULTS
) -> Iterator[Table]:
    """Yields chunks of the picked columns, at least one row in all. Raises DataError."""
    empty = True
    for chunk in _chunks(path, pick, problems, chunk_rows, options):
        empty = False
        yield chunk
    if empty:
        problems.check()
        raise DataError(f"{path.name}: no data rows in it, expected one or more (below the header, where there is one)")


def _chunks(path: Path, pick: Pick, problems: Problems, chunk_rows: int, options: ReadOptions) -> Iterator[Table]:
    if path.is_dir():
        return saved_tables(path, pick, problems, chunk_rows)
    suffix = data_name(path).suffix.lower()
    if codec_of(path) and suffix not in COMPRESSIBLE:
        open_data(path).close()  # an archive that cannot be opened has an error of its own
        raise DataError(
            f"{path.name}: expected compressed text, a name that ends in "
            f"{', '.join(f'{suffix}{codec}' for suffix in COMPRESSIBLE for codec in CODECS)}"
            + ("; unpack it first" if suffix in SUFFIXES else "")
        )
    for endings, read in (
        (SEPARATED, separated_tables),
        (PLAIN, plain_tables),
        (JSON, json_tables),
        ((".xlsx",), workbook_tables),
    ):
        if suffix in endings:
            return read(path, pick, problems, options, chunk_rows)
    for endings, read_binary in (
        ((".parquet",), parquet_tables),
        ((".arrow", ".feather"), arrow_tables),
        ((".pkl", ".pickle"), _pickle_chunks),
    ):
        if suffix in endings:
            return read_binary(path, pick, problems, chunk_rows)
    raise DataError(
        f"{path.name}: expected a file that ends in {', '.join(SUFFIXES)}, "
        f"text also with {' or '.join(CODECS)} after it"
    )


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
