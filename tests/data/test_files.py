import csv
import json
import os
import pickle
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from submillion.data.files import check_texts, find_input, iter_texts, read_table
from submillion.data.tables import pick_text_and_label
from submillion.errors import DataError

TEXTS = ["Oil, gas; and coal", 'He said "no"', "two\nlines", "schön – 石油 🛢", "tab\there"]
LABELS = ["Business", "World", "Sports", "World", "Business"]


def write_all(folder: Path) -> list[Path]:
    """The same table in every format."""
    paths = [folder / f"news{suffix}" for suffix in (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".pkl", ".pickle")]
    for path, delimiter in zip(paths[:2], ",\t", strict=True):
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=delimiter).writerows([("text", "label"), *zip(TEXTS, LABELS, strict=True)])
    rows = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]
    paths[2].write_text("".join(json.dumps(row) + "\n" for row in rows))
    paths[3].write_text(json.dumps(rows, indent=1))
    pq.write_table(pa.table({"text": TEXTS, "label": LABELS}), paths[4])
    paths[5].write_bytes(pickle.dumps({"text": TEXTS, "label": LABELS}))
    paths[6].write_bytes(pickle.dumps(rows))
    return paths


def error_of(path, text_column="") -> str:
    """check_texts' error; iter_texts has to refuse the file too."""
    with pytest.raises(DataError) as caught:
        check_texts(path, text_column)
    with pytest.raises(DataError):
        list(iter_texts(path, text_column))
    return str(caught.value)


def test_all_formats_say_the_same(tmp_path):
    for path in write_all(tmp_path):
        assert [text for chunk in iter_texts(path) for text in chunk] == TEXTS, path.name
        assert check_texts(path) == len(TEXTS)
        if path.suffix not in (".pkl", ".pickle"):
            table = read_table(path, pick_text_and_label("", "", path.name))
            assert table.columns == {"text": TEXTS, "label": LABELS}, path.name


@pytest.mark.parametrize("chunk_rows", [1, 2, 5, 100])
def test_chunks_are_of_the_size_asked_for_and_in_order(tmp_path, chunk_rows):
    for path in write_all(tmp_path):
        chunks = list(iter_texts(path, chunk_rows=chunk_rows))
        assert [len(chunk) for chunk in chunks[:-1]] == [chunk_rows] * (len(chunks) - 1)
        assert [text for chunk in chunks for text in chunk] == TEXTS


csv_text = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=30)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(csv_text.filter(lambda text: text.strip()), csv_text), min_size=1, max_size=8))
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_what_the_csv_module_writes_is_read_back(tmp_path, suffix, rows):
    path, delimiter = tmp_path / f"news{suffix}", "\t" if suffix == ".tsv" else ","
    # A cell of several lines that hold the delimiter may be rows by themselves: test_quoting.py.
    assume(not any(delimiter in cell and ("\n" in cell or "\r" in cell) for row in rows for cell in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([("text", "label"), *rows])
    table = read_table(path, pick_text_and_label("", "", path.name))
    table.problems.check()
    assert list(zip(*table.columns.values(), strict=True)) == rows
    assert [text for chunk in iter_texts(path, chunk_rows=3) for text in chunk] == [text for text, _ in rows]


def test_streaming_holds_a_chunk_and_not_the_file(tmp_path):
    rows = 40_000
    text = "word " * 40  # 200 characters: 8 MB of texts, more as Python strings
    (tmp_path / "a.csv").write_text("text\n" + (text + "\n") * rows)
    (tmp_path / "a.jsonl").write_text((json.dumps({"text": text}) + "\n") * rows)
    (tmp_path / "a.txt").write_text((text + "\n") * rows)
    table = pa.table({"text": [f"{number} {text}" for number in range(rows)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=4096)
    del table
    for suffix in ("csv", "jsonl", "txt", "parquet"):
        tracemalloc.start()
        count = sum(len(chunk) for chunk in iter_texts(tmp_path / f"a.{suffix}", chunk_rows=500))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == rows
        assert peak < 2_000_000, (suffix, peak)


def test_a_single_column_is_taken_whatever_its_name(write):
    assert list(iter_texts(write("a.csv", "headlines of today\nOil climbs\n"))) == [["Oil climbs"]]
    assert list(iter_texts(write("a.jsonl", '{"id": 3, "words": "Oil climbs"}\n'))) == [["Oil climbs"]]


def test_a_txt_is_a_text_a_line(write):
    assert list(iter_texts(write("a.txt", "Oil climbs\r\nLate goal\n"))) == [["Oil climbs", "Late goal"]]
    assert "row 2 (line 2): the text is empty" in error_of(write("b.txt", "Oil\n\nGoal\n"))


def test_bom_crlf_and_blank_lines_at_the_end_are_accepted(write):
    path = write("a.csv", b"\xef\xbb\xbftext,label\r\nOil climbs,1\r\n\r\n\r\n")
    assert list(iter_texts(path)) == [["Oil climbs"]]
    path = write("a.jsonl", b'\xef\xbb\xbf{"text": "Oil climbs"}\r\n\r\n')
    assert list(iter_texts(path)) == [["Oil climbs"]]


def test_a_very_long_field_is_accepted(write):
    text = "word " * 100_000
    assert list(iter_texts(write("a.csv", f"text\n{text}\n"))) == [[text]]


def test_all_problems_of_a_file_in_one_error(write):
    path = write("a.csv", b"text,label\nfine,1\n,2\n  \t,2\nshort\na,b,c\nbad \xa3,1\nfine,2\n")
    assert error_of(path) == (
        "a.csv: 5 problems\n"
        "  row 4 (line 5): 1 fields, expected 2 as in the header\n"
        "  row 5 (line 6): 3 fields, expected 2 as in the header\n"
        "  line 7: byte 5 (0xa3) is not UTF-8; if the text is Windows-1252, save it as UTF-8\n"
        "  row 2 (line 3): the text is empty; 2 times in all, also row 3 (line 4)\n"
        "fix: correct or remove these rows"
    )


def test_one_cause_is_told_once_with_its_count_and_first_rows(write):
    error = error_of(write("a.csv", "text,label\n" + ",1\n" * 10_000))
    assert error == (
        "a.csv: 10,000 problems\n"
        "  row 1 (line 2): the text is empty; 10,000 times in all, also row 2 (line 3), row 3 (line 4), "
        "row 4 (line 5), row 5 (line 6), ...\n"
        "fix: correct or remove these rows"
    )


def test_line_numbers_count_the_lines_inside_quotes(write):
    path = write("a.csv", 'text,label\n"one\ntwo\nthree",1\n,2\n')
    assert "row 2 (line 5): the text is empty" in error_of(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "", "a.csv: the file is empty"),
        ("a.csv", "text,label\n", "no data rows in it"),
        ("a.csv", 'text,label\nfine,1\n"never closed,1\nmore,2\n', "row 2 (line 3): a quoted field is never closed"),
        ("a.csv", 'text,label\n"shut" too early,1\n', "row 1 (line 2): broken quoting"),
        ("a.csv", "text,text\nOil,1\n", "each column needs its own name, found twice: 'text'"),
        ("a.csv", b"text,label\nO\0il,1\n", "line 2: byte 2 is NUL"),
        ("a.csv", "text,label\nOil,1\n\nGas,2\n", "line 3: a blank line between rows"),
        ("a.csv", "words,label\nOil,Business\n", "no text column; expected one of text, sentence,"),
        ("a.csv", "content,review\nOil,1\n", "several columns could be the text: content, review"),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', "line 2: expected a JSON object, found list"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', "line 2: no JSON (Expecting value"),
        ("a.jsonl", '{"text": "a"}\n{"label": 1}\n', "row 2: no key 'text'"),
        ("a.jsonl", '{"text": "a"}\n{"text": null}\n', "row 2 (line 2): the text is missing"),
        ("a.jsonl", '{"text": "a"}\n{"text": 3}\n', "row 2 (line 2): the text is of type int, expected a string"),
        ("a.jsonl", '{"text": "a \\ud83d"}\n', "row 1 (line 1): the text holds half of a surrogate pair"),
        ("a.jsonl", "\n\n", "no data rows in it"),
        ("a.jsonl", "not json\n", "line 1: no JSON"),
        ("a.json", '[{"text": "a"}, 3]', "row 2: expected a JSON object, found int"),
        ("a.json", '[{"text": "a"}', "no JSON array"),
        ("a.parquet", "PAR1 no more", "no parquet file, or a damaged one"),
        ("a.pkl", pickle.dumps(["a b", "c d"])[:-9], "the pickle is cut short"),
        ("a.pkl", b"hello", "damaged, or no pickle of a table"),
        ("a.pkl", pickle.dumps({"text": ["a", "b", float("nan")]}), "row 3: the text is missing"),
        ("a.pkl", pickle.dumps({"text": []}), "no rows in it"),
        ("a.pkl", pickle.dumps({"train": ["a"], "test": ["b"]}), "expected one table, found a dict of splits"),
        ("a.xlsx", "PK", "no xlsx workbook, or a damaged one"),
        ("a.doc", "PK", "expected a file that ends in .csv, .tsv"),
    ],
)
def test_a_bad_file_is_refused_with_the_reason(write, name, content, words):
    assert words in error_of(write(name, content))


def test_a_missing_column_is_named_with_the_nearest(write):
    error = error_of(write("a.csv", "headlin,label\nOil,1\n"), "headline")
    assert "no column 'headline' (--text-column); the columns are headlin, label; did you mean headlin?" in error


def test_no_such_file(tmp_path):
    assert "nowhere.csv: no such file" in error_of(tmp_path / "nowhere.csv")
    assert "expected a file, found a folder" in error_of(tmp_path)
    os.mkfifo(tmp_path / "pipe.csv")
    assert "expected a file, found a pipe" in error_of(tmp_path / "pipe.csv")


def test_parquet_rows_are_counted_over_the_chunks(tmp_path):
    texts = ["fine"] * 5000 + [None] + ["fine"] * 10 + [""]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    error = error_of(tmp_path / "a.parquet")
    assert "row 5001: the text is missing" in error and "row 5012: the text is empty" in error


def test_parquet_strings_that_are_not_utf8_are_named_by_row(tmp_path):
    raw = pa.array([b"fine", b"bad \xa3", b"fine"], pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    pq.write_table(pa.table({"text": broken}), tmp_path / "a.parquet")
    assert "row 2: byte 5 of column 'text' (0xa3) is not UTF-8" in error_of(tmp_path / "a.parquet")


def test_iter_texts_yields_the_good_chunks_before_the_bad_one(write):
    texts = iter_texts(write("a.csv", "text,label\na,1\nb,1\n,1\n"), chunk_rows=2)
    assert next(texts) == ["a", "b"]
    with pytest.raises(DataError, match=r"row 3 \(line 4\)"):
        next(texts)


def test_find_input_takes_the_one_data_file(tmp_path):
    with pytest.raises(DataError, match=r"no data file in it; looked for \*\.pkl, \*\.pickle, \*\.csv"):
        find_input(tmp_path)
    for name in ("model.pt", "metrics.json", "history.jsonl", "config.toml", "README.md", "predictions.csv", ".x.csv"):
        (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match="no data file"):
        find_input(tmp_path)
    (tmp_path / "test_unlabelled.pkl").write_bytes(b"x")
    assert find_input(tmp_path) == tmp_path / "test_unlabelled.pkl"
    (tmp_path / "more.csv").write_text("text\na\n")
    with pytest.raises(DataError, match=r"name one: predict FILE\n  more.csv\n  test_unlabelled.pkl"):
        find_input(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        find_input(tmp_path / "nowhere")
