"""Random rows, written in each format, separator, encoding, quoting and line end, are read back as they were."""

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pyarrow import ipc
from reading import labelled

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
LABELS = st.sampled_from(["sport", "money", "world politics", "7", "é"])
Rows = list[tuple[str, str]]


def texts(excluded: str) -> st.SearchStrategy[str]:
    """Texts that are more than blanks, without some characters."""
    characters = st.characters(exclude_characters="\0\ufeff" + excluded, exclude_categories=("Cs", "Cc"))
    pieces = st.one_of(characters, st.sampled_from(sorted(set('",;|\t\n\r ab.') - set(excluded))))
    return st.lists(pieces, min_size=1, max_size=30).map("".join).filter(lambda text: text.strip())


def rows(excluded: str = "") -> st.SearchStrategy[Rows]:
    return st.lists(st.tuples(texts(excluded), LABELS), min_size=1, max_size=8)


def looks_swallowed(pairs: Rows, separator: str) -> bool:
    """Whether a text's lines are rows by themselves: then the file is refused or read by line, as it should be."""
    return any(
        "\n" in text.replace("\r", "\n") and all(separator in line for line in text.split("\n")[:-1])
        for text, _ in pairs
    )


def encoded(text: str, encoding: str) -> bytes:
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        assume(False)
        raise


@SETTINGS
@given(
    pairs=rows("\r"),
    separator=st.sampled_from([",", ";", "\t", "|"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "gb18030", "cp1252"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    ending=st.sampled_from([".csv", ".tsv", ".csv.gz", ".tsv.bz2", ".csv.xz"]),
    is_said=st.booleans(),
)
def test_separated_values(tmp_path: Path, pairs, separator, encoding, quoting, end, ending, is_said):
    assume(not looks_swallowed(pairs, separator))
    # Python's csv before 3.13 writes a line feed without quotes there, and such a file says nothing of its lines.
    assume(end != "\r" or quoting == csv.QUOTE_ALL or not any("\n" in text for text, _ in pairs))
    held = io.StringIO(newline="")
    writer = csv.writer(held, delimiter=separator, quoting=quoting, lineterminator=end)
    writer.writerows([("text", "label"), *pairs])
    packers: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    path = tmp_path / f"news{ending}"
    path.write_bytes(packers.get(path.suffix, bytes)(encoded(held.getvalue(), encoding)))
    said = {"separator": separator} if is_said else {}
    if encoding in ("gb18030", "cp1252", "utf-16-be"):
        said["encoding"] = encoding
    assert labelled(path, **said)[0] == pairs


@SETTINGS
@given(pairs=rows("\r\n\t"), encoding=st.sampled_from(["utf-8", "utf-16", "gb18030"]))
def test_a_tsv_without_quoting(tmp_path: Path, pairs, encoding):
    content = "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in pairs)
    path = tmp_path / "news.tsv"
    path.write_bytes(content.encode(encoding))
    assert labelled(path, quoting="no", encoding=encoding)[0] == pairs


def write_jsonl(path: Path, pairs: Rows) -> None:
    path.write_text("".join(json.dumps({"text": t, "label": label}) + "\n" for t, label in pairs))


def write_json(path: Path, pairs: Rows) -> None:
    value = {"rows": [{"text": text, "label": label} for text, label in pairs]}
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")


def write_parquet(path: Path, pairs: Rows) -> None:
    pq.write_table(pa.table({"text": [t for t, _ in pairs], "label": [label for _, label in pairs]}), path)


def write_arrow(path: Path, pairs: Rows) -> None:
    table = pa.table({"text": [t for t, _ in pairs], "label": [label for _, label in pairs]})
    with ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)


def write_workbook(path: Path, pairs: Rows) -> None:
    book = openpyxl.Workbook()
    for row in [("text", "label"), *pairs]:
        book.active.append(row)
        for cell in book.active[book.active.max_row]:
            cell.data_type = "s"  # a text that begins with = is no formula
    book.save(path)


def write_fasttext(path: Path, pairs: Rows) -> None:
    path.write_text("".join(f"__label__{label} {text}\n" for text, label in pairs), encoding="utf-8", newline="")


@pytest.mark.parametrize(
    ("name", "write", "excluded"),
    [
        ("a.jsonl", write_jsonl, ""),
        ("a.json", write_json, ""),
        ("a.parquet", write_parquet, ""),
        ("a.arrow", write_arrow, ""),
        ("a.xlsx", write_workbook, "\r\ufffe\uffff"),
    ],
)
def test_other_formats(tmp_path: Path, name, write, excluded):
    @SETTINGS
    @given(pairs=rows(excluded))
    def check(pairs: Rows) -> None:
        write(tmp_path / name, pairs)
        assert labelled(tmp_path / name)[0] == pairs

    check()


@SETTINGS
@given(pairs=st.lists(st.tuples(texts("\r\n"), st.sampled_from(["sport", "money", "é"])), min_size=1, max_size=8))
def test_fasttext_s_lines_but_for_blanks_around_the_text(tmp_path: Path, pairs):
    path = tmp_path / "a.txt"
    write_fasttext(path, pairs)
    assert labelled(path)[0] == [(text.strip(), label) for text, label in pairs]
