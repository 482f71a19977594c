"""The rows of a file to be labelled: a chunk at a time, with IDs and columns."""

import json
import pickle
import tracemalloc
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from submillion.data.columns import Columns
from submillion.data.inputs import check_input, iter_input
from submillion.data.values import as_cell, as_json
from submillion.errors import DataError

TEXT = "word " * 40


def write_rows(path, rows):
    """Writes rows of 400 characters with an ID each."""
    if path.suffix == ".csv":
        path.write_text("id,note,text\n" + "".join(f"{row},{TEXT},{TEXT}\n" for row in range(rows)))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"id": row, "note": TEXT, "text": TEXT}) + "\n" for row in range(rows)))
    else:
        table = pa.table({"id": range(rows), "note": [TEXT] * rows, "text": [f"{row} {TEXT}" for row in range(rows)]})
        pq.write_table(table, path, row_group_size=4096, use_dictionary=False)


def peaks(path, rows):
    """The most memory that checking the file takes, and reading it, in bytes."""
    write_rows(path, rows)
    tracemalloc.start()
    checked = check_input(path, keep=["note"])
    checking = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    count = sum(len(chunk.texts) for chunk in iter_input(checked, chunk_rows=500))
    reading = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (count, checked.rows, checked.id) == (rows, rows, "id")
    return checking, reading


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_memory_does_not_grow_with_the_texts(tmp_path, suffix):
    """Not with 12 MB more of them: only by the 8 bytes that compare an ID with the others, twice while they are."""
    (checking, reading), (more_checking, more_reading) = (
        peaks(tmp_path / f"a.{suffix}", rows) for rows in (30_000, 60_000)
    )
    assert more_checking - checking < 30_000 * 20 and more_reading - reading < 100_000
    assert more_reading < 8_000_000  # a csv's quotes are looked through first, with the values of 20,000 rows


def test_ids_and_copies_come_with_their_rows_over_all_chunks(tmp_path):
    (tmp_path / "a.csv").write_text("text,id,x\n" + "".join(f"t{row},i{row},x{row}\n" for row in range(10)))
    checked = check_input(tmp_path / "a.csv", keep=["x", "id"])
    chunks = list(iter_input(checked, chunk_rows=3))
    assert [len(rows.texts) for rows in chunks] == [3, 3, 3, 1]
    columns = zip(*((rows.texts, rows.ids, rows.kept["x"], rows.kept["id"]) for rows in chunks), strict=True)
    for name, column in zip("tixi", columns, strict=True):
        assert list(chain(*column)) == [f"{name}{row}" for row in range(10)]


def test_a_file_that_has_changed_since_it_was_checked_is_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "oil"}\n')
    checked = check_input(path)
    path.write_text('{"text": "oil"}\n{"text": 3}\n')
    with pytest.raises(DataError, match="the file has changed since it was checked"):
        list(iter_input(checked))


@pytest.mark.parametrize("rows_after", [2, 5])
def test_one_that_changes_while_it_is_read_is_refused_too(tmp_path, rows_after):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "oil"}\n' * 4)
    chunks = iter_input(check_input(path), chunk_rows=2)
    assert next(chunks).texts == ["oil", "oil"]
    path.write_text('{"text": "oil"}\n' * rows_after)
    with pytest.raises(DataError, match="the file has changed since it was checked"):
        list(chunks)


def test_answers_that_are_written_into_a_saved_dataset_s_folder_are_no_change_of_it(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"text": ["oil", "war"]}).save_to_disk(tmp_path / "saved")
    checked = check_input(tmp_path / "saved")
    (tmp_path / "saved" / "predictions.csv").write_text("id,label\n")
    assert [rows.texts for rows in iter_input(checked)] == [["oil", "war"]]
    next((tmp_path / "saved").glob("*.arrow")).unlink()
    with pytest.raises(DataError, match="the file has changed since it was checked"):
        list(iter_input(checked))


@pytest.mark.parametrize("after", ["title,text,id\na,oil,1\n", "text\noil\n", "review,id,x\noil,1,x\n"])
def test_so_is_one_whose_columns_have_changed(tmp_path, after):
    path = tmp_path / "a.csv"
    path.write_text("text,id,x\noil,1,x\n")
    checked = check_input(path, keep=["x"])
    path.write_text(after)
    with pytest.raises(DataError, match="the file has changed since it was checked"):
        list(iter_input(checked))


def test_every_problem_of_the_file_is_in_one_error(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": 1, "id": "a"}\n{"text": "oil", "id": "\\udc00"}\n[]\n{"text": "", "id": "b"}\n')
    with pytest.raises(DataError, match="3 problems") as caught:
        check_input(path, id_column="id")
    assert "which may be blank" in str(caught.value)


def test_columns_of_no_text_are_not_looked_for_in_vain(tmp_path):
    (tmp_path / "a.csv").write_text("text,id\noil,5\n")
    assert check_input(tmp_path / "a.csv", with_ids=False).id == ""
    (tmp_path / "b.csv").write_text("id\noil\n")  # a column of strings alone holds the texts, whatever its name
    checked = check_input(tmp_path / "b.csv", trained=Columns("body"))
    assert (checked.texts, checked.id) == (("id",), "")


def test_dicts_whose_keys_are_no_strings_are_read_by_their_names(tmp_path):
    (tmp_path / "a.pickle").write_bytes(pickle.dumps([{"text": "oil", 7: "x"}, {"text": "war", 7: "y"}]))
    [rows] = iter_input(check_input(tmp_path / "a.pickle", keep=["7"]))
    assert rows.kept == {"7": ["x", "y"]}


@pytest.mark.parametrize(
    ("value", "json_value", "cell"),
    [
        (None, None, ""),
        (float("nan"), None, ""),
        (True, True, "true"),
        ("007", "007", "007"),
        (10**25, 10**25, "10000000000000000000000000"),
        (0.1, 0.1, "0.1"),
        (float("-inf"), "-inf", "-inf"),
        (b"raw", "raw", "raw"),
        ((1, None), [1, None], "[1, null]"),
        ({1: float("inf")}, {"1": "inf"}, '{"1": "inf"}'),
    ],
)
def test_values_as_files_of_answers_hold_them(value, json_value, cell):
    assert as_json(value) == json_value and as_cell(value) == cell
    json.loads(json.dumps(as_json(value), allow_nan=False))
