"""Parquet, Arrow, Feather, Excel, zip archives, save_to_disk's folders, and a folder for each label."""

import io
import zipfile
from decimal import Decimal

import datasets
import openpyxl
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import ipc
from reading import labelled, refusal, texts

from submillion.config.schema import DataConfig
from submillion.data.sources import read_source

COLUMNS = {"text": ["Goal.", "Bonus."], "label": ["sport", "money"]}
PAIRS = [("Goal.", "sport"), ("Bonus.", "money")]


@pytest.mark.parametrize("opened", [ipc.new_stream, ipc.new_file])
@pytest.mark.parametrize("name", ["a.arrow", "a.feather"])
def test_arrow_files_of_both_forms(tmp_path, opened, name):
    table = pa.table(COLUMNS)
    with opened(str(tmp_path / name), table.schema) as writer:
        writer.write_table(table)
        writer.write_table(table)
    assert labelled(tmp_path / name)[0] == PAIRS * 2
    assert texts(tmp_path / name)[0] == COLUMNS["text"] * 2


def test_pandas_and_polars_write_feather_that_is_read(tmp_path):
    pd.DataFrame(COLUMNS).to_feather(tmp_path / "a.feather")
    pl.DataFrame(COLUMNS).write_ipc(tmp_path / "b.feather")
    pl.DataFrame(COLUMNS).write_parquet(tmp_path / "c.parquet")
    for name in ("a.feather", "b.feather", "c.parquet"):
        assert labelled(tmp_path / name)[0] == PAIRS


def test_a_polars_frame_is_data():
    assert read_source(DataConfig(), pl.DataFrame(COLUMNS)).splits["train"].columns == COLUMNS


def test_feather_s_first_version_is_refused_by_name(write):
    error = refusal(write("a.feather", b"FEA1" + bytes(60) + b"FEA1"))
    assert "found version 1, which is not read" in error and "to_parquet" in error


@pytest.mark.parametrize(
    ("text", "label", "expected"),
    [
        (pa.array([b"Goal.", b"Bonus."]), pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array(["Goal.", "Bonus."]).dictionary_encode(), pa.array([Decimal("1"), Decimal("2")]), [1, 2]),
        (pa.array(["Goal.", "Bonus."], pa.large_string()), pa.array([Decimal("0.5"), Decimal("1.0")]), [0.5, 1]),
        (pa.array([b"Goal.", b"Bonus."], pa.large_binary()), pa.array([b"a", b"b"]), ["a", "b"]),
    ],
)
def test_parquet_of_binary_decimal_and_dictionary_columns(tmp_path, text, label, expected):
    pq.write_table(pa.table({"text": text, "label": label}), tmp_path / "a.parquet")
    assert labelled(tmp_path / "a.parquet")[0] == list(zip(["Goal.", "Bonus."], expected, strict=True))


@pytest.mark.parametrize("name", ["a.arrow", "a.parquet", "a.xlsx", "a.feather"])
@pytest.mark.parametrize(
    "content", [b"text,label\na,x\n", b"PAR1 no more", b"ARROW1\0\0 no more", b"PK\x03\x04 no more"]
)
def test_damaged_files_are_refused(write, name, content):
    error = refusal(write(name, content))
    assert "or a damaged one" in error


def test_excel_s_first_sheet_with_cells(tmp_path):
    book = openpyxl.Workbook()
    rows, other = book.create_sheet("rows"), book.create_sheet("other")
    for row in [(None,), ("text", "label", None), ("Goal.", "sport"), (), ("Bonus.", 3.0)]:
        rows.append(row)
    other.append(["nothing"])
    book.save(tmp_path / "a.xlsx")
    read, notes = labelled(tmp_path / "a.xlsx")
    assert read == [("Goal.", "sport"), ("Bonus.", 3)]
    assert notes == ("a.xlsx: the sheet 'rows' is read, and not 'Sheet', 'other'",)


def test_excel_without_a_header_and_without_rows(tmp_path):
    pd.DataFrame(PAIRS * 2).to_excel(tmp_path / "a.xlsx", index=False, header=False)
    assert labelled(tmp_path / "a.xlsx", text_column="1", label_column="2")[0] == PAIRS * 2
    openpyxl.Workbook().save(tmp_path / "b.xlsx")
    assert "no data rows in it" in refusal(tmp_path / "b.xlsx")


def test_without_openpyxl_the_error_names_the_extra(tmp_path, monkeypatch):
    pd.DataFrame(COLUMNS).to_excel(tmp_path / "a.xlsx", index=False)
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    assert "pip install 'submillion[excel]'" in refusal(tmp_path / "a.xlsx")


def archive(**files):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as written:
        for name, content in files.items():
            written.writestr(name.replace("__", "."), content)
    return held.getvalue()


def nameless():
    """Returns an archive whose one member has no name: its letter counts as the member's extra field."""
    raw = bytearray(archive(x="text,label\nGoal.,sport\n"))
    place = raw.index(b"PK\1\2") + 28
    raw[place : place + 4] = b"\0\0\1\0"
    return bytes(raw)


@pytest.mark.parametrize("name", ["a.zip", "a.csv.zip"])
def test_a_zip_of_one_file(write, name):
    assert labelled(write(name, archive(news__csv="text,label\nGoal.,sport\nBonus.,money\n")))[0] == PAIRS


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (archive(a__csv="text\n", b__csv="text\n"), "expected a zip archive of one file, found 2: a.csv, b.csv"),
        (archive(), "found none"),
        (nameless(), "found none"),
        (b"PK\x03\x04 no more", "cut or damaged"),
        (archive(a__parquet="PAR1"), "expected compressed text"),
        (archive(a__csv="text,label\n" + "Goal.,sport\n" * 99)[:-30], "cut or damaged"),
    ],
)
def test_another_zip_is_refused(write, content, words):
    assert words in refusal(write("a.zip", content))


def test_what_save_to_disk_writes(tmp_path):
    names = datasets.ClassLabel(names=["money", "sport"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    dataset = datasets.Dataset.from_dict({"text": COLUMNS["text"], "label": [1, 0]}, features=features)
    dataset.save_to_disk(str(tmp_path / "one"), num_shards=2)
    datasets.DatasetDict({"train": dataset, "test": dataset.select([0]), "unsupervised": dataset}).save_to_disk(
        str(tmp_path / "dict")
    )
    assert labelled(tmp_path / "one")[0] == [("Goal.", 1), ("Bonus.", 0)]
    assert texts(tmp_path / "one")[0] == COLUMNS["text"]
    source = read_source(DataConfig(source=str(tmp_path / "dict")))
    assert {name: len(table.rows) for name, table in source.splits.items()} == {"train": 2, "test": 1}
    assert source.splits["train"].label_names == {"label": ("money", "sport")}
    assert [note.text for note in source.notes] == ["dict: the splits unsupervised are not used"]


@pytest.mark.parametrize("listed", ['["../secret.arrow"]', "[3]", "[]", '"x"', "{"])
def test_a_saved_folder_that_leads_elsewhere_is_refused(write, listed):
    path = write("saved/state.json", f'{{"_data_files": {listed}}}')
    assert "state.json" in refusal(path.parent)


def test_a_folder_for_each_label(write, tmp_path):
    for label, name, content in [
        ("sport", "1.txt", b"Goal.\n"),
        ("sport", "2", "Été à Nîmes, très près du café.".encode("cp1252")),
        ("money", "1.txt", b"\xef\xbb\xbfBonus."),
        ("unsup", "1.txt", b"Whatever."),
        ("sport", ".hidden", b"x"),
    ]:
        write(f"texts/{label}/{name}", content)
    read, notes = labelled(tmp_path / "texts")
    assert sorted(read) == [("Bonus.", "money"), ("Goal.", "sport"), ("Été à Nîmes, très près du café.", "sport")]
    assert notes == (
        "texts: 1 texts below unsup are left out, for they have no label",
        "texts: read as a folder for each label: money, sport",
        "texts: 1 files are read as cp1252, which their bytes look like",
    )


def test_a_text_of_a_folder_is_named_by_its_file(write, tmp_path):
    write("texts/sport/1.txt", "Goal.")
    write("texts/money/bad.txt", b"a\0b")
    assert "money/bad.txt: holds NUL" in refusal(tmp_path / "texts")


@pytest.mark.parametrize("name", ["x.txt", "x.txt.gz", "x.txt.bz2", "x.txt.xz", "x.txt.zst", "folder"])
def test_texts_without_labels_are_refused_for_training_and_never_a_traceback(write, tmp_path, name):
    import bz2
    import gzip
    import lzma

    import zstandard

    packers = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress}
    content = b"Goal and coach.\nBank and bonds.\n"
    path = write("folder/train.txt", content) if name == "folder" else tmp_path / name
    path.write_bytes(packers.get(path.suffix, bytes)(content))
    error = refusal(path.parent if name == "folder" else path)
    assert "no label column" in error and "__label__sport" in error and "--data.separator tab" in error


@pytest.mark.parametrize("name", ["a.txt", "a.ft"])
def test_fasttext_s_lines(write, name):
    path = write(name, "__label__sport Goal.\n__label__money\tBonus.\n\n")
    assert labelled(path)[0] == PAIRS
    assert texts(path)[0] == COLUMNS["text"]
    path = write(name, "__label__sport Goal.\n__label__a __label__b Bonus.\n")
    assert "line 2: several labels (a, b), expected one label for each text" in refusal(path)
