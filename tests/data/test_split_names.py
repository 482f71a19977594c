"""Which files and names are which split, and what is said of the others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from submillion.config.schema import DataConfig
from submillion.data.corpus import load_corpus, load_rows
from submillion.data.split_names import Part, is_splits, part_of, split_of
from submillion.errors import DataError

Write = Callable[[str, str | bytes], Path]
TRAIN = "text,label\na goal,sport\na match,sport\na chip,tech\na phone,tech\n"
OTHER = "text,label\na cup,sport\na screen,tech\n"
WITHOUT = "text\na cup\na screen\n"


def loaded(data: Any) -> Any:
    return load_corpus(DataConfig(test_fraction=0, validation_fraction=0), 0, data)


def error_of(data: Any) -> str:
    with pytest.raises(DataError) as caught:
        loaded(data)
    return str(caught.value)


def unused(corpus: Any) -> list[str]:
    return [note.text for note in corpus.notes if note.heading == "not used"]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"), ("Training", "train"), ("TRAIN", "train"),
        ("val", "validation"), ("Valid", "validation"), ("dev", "validation"), ("VALIDATION", "validation"),
        ("test", "test"), ("testing", "test"), ("Eval", "test"), ("evaluation", "test"),
        ("unsupervised", None), ("trained", None), ("contest", None), ("text", None), (3, None), (None, None),
    ],
)  # fmt: skip
def test_the_names_of_splits(name: object, split: str | None) -> None:
    assert split_of(name) == split


@pytest.mark.parametrize(
    ("stem", "part"),
    [
        ("train-00000-of-00002", Part("train", 0, 2)),
        ("Validation-00001-of-00003", Part("validation", 1, 3)),
        ("test-00000-of-00001-a09b74b3ef9c3b56", Part("test", 0, 1)),
        ("dev", Part("validation", 0, 1)),
        ("extra-00000-of-00002", None),
        ("train-1", None),
    ],
)
def test_the_names_of_parts(stem: str, part: Part | None) -> None:
    assert part_of(stem) == part


@pytest.mark.parametrize("train", ["train", "Train", "training", "TRAINING"])
@pytest.mark.parametrize("validation", ["val", "valid", "validation", "dev", "Val", "DEV"])
@pytest.mark.parametrize("test", ["test", "Testing", "eval", "evaluation"])
def test_a_folders_splits_are_read_by_any_of_their_names(
    train: str, validation: str, test: str, write: Write, tmp_path: Path
) -> None:
    for name, rows in ((train, TRAIN), (validation, OTHER), (test, OTHER)):
        write(f"news/{name}.csv", rows)
    corpus = loaded(tmp_path / "news")
    sizes = [len(rows.texts) for rows in (corpus.train, corpus.validation, corpus.test)]
    assert sizes == [4, 2, 2] and not corpus.cut and not unused(corpus)


def test_what_lies_in_a_folder_and_is_not_used_is_named(write: Write, tmp_path: Path) -> None:
    for name in ("train.csv", "unsupervised.csv", "old_train.csv", "more.jsonl", "notes.txt"):
        write(f"news/{name}", TRAIN)
    for name in ("README.md", ".hidden.csv", "LICENSE"):
        write(f"news/{name}", "x")
    (told,) = unused(loaded(tmp_path / "news"))
    assert told.startswith("more.jsonl, notes.txt, old_train.csv, unsupervised.csv (not named as a split")


def test_many_unused_files_are_counted(write: Write, tmp_path: Path) -> None:
    write("news/train.csv", TRAIN)
    for number in range(14):
        write(f"news/extra{number:02}.csv", "x")
    assert "extra09.csv and 4 more (" in unused(loaded(tmp_path / "news"))[0]


def parts(folder: Path, count: int, split: str = "train", kind: str = "parquet", skip: tuple[int, ...] = ()) -> None:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        path = folder / f"{split}-{number:05}-of-{count:05}.{kind}"
        rows = {"text": [f"{split} text {number} {row}" for row in range(2)], "label": ["sport", "tech"]}
        if number in skip:
            continue
        if kind == "parquet":
            pq.write_table(pa.table(rows), path)
        else:
            pd.DataFrame(rows).to_csv(path, index=False)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("inside", ["", "data"])
def test_a_split_in_parts_is_read_in_order(kind: str, inside: str, tmp_path: Path) -> None:
    parts(tmp_path / inside, 12, kind=kind)
    parts(tmp_path / inside, 2, "validation", kind=kind)
    parts(tmp_path / inside, 1, "test", kind=kind)
    corpus = loaded(tmp_path)
    assert corpus.train.texts == [f"train text {number} {row}" for number in range(12) for row in range(2)]
    assert (len(corpus.validation.texts), len(corpus.test.texts)) == (4, 2)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    parts(tmp_path, 4, skip=(1, 2))
    error = error_of(tmp_path)
    assert "expected 4 parts of train, found 2" in error and "missing, counted from 0: 1, 2" in error


def test_a_problem_in_a_part_names_the_part(tmp_path: Path) -> None:
    parts(tmp_path, 2, kind="csv")
    path = tmp_path / "train-00001-of-00002.csv"
    path.write_text("text,label\nfine,sport\n,tech\nshort\n")
    error = error_of(tmp_path)
    assert "row 2 (line 3) of train-00001-of-00002.csv: the text is empty" in error
    assert "row 3 (line 4) of train-00001-of-00002.csv: 1 fields" in error
    corpus = load_corpus(
        DataConfig(source=str(tmp_path), repair=("skip-bad-rows",), test_fraction=0, validation_fraction=0), 0
    )
    assert len(corpus.train.texts) == 3
    assert {(row.place.part, row.place.row) for row in corpus.skipped} == {(path.name, 2), (path.name, 3)}


def test_parts_of_two_sets_and_of_other_columns_are_refused(tmp_path: Path) -> None:
    parts(tmp_path, 2)
    pq.write_table(pa.table({"text": ["x"], "category": ["sport"]}), tmp_path / "train-00001-of-00002.parquet")
    assert "expected the columns text, label with the same label names in every part" in error_of(tmp_path)
    parts(tmp_path, 3)
    assert "found several for train" in error_of(tmp_path)


@pytest.mark.parametrize("name", ["train.jsonl", "training.csv", "Train.tsv"])
def test_two_files_of_one_split_are_refused(name: str, write: Write, tmp_path: Path) -> None:
    write("news/train.csv", TRAIN)
    write(f"news/{name}", TRAIN)
    error = error_of(tmp_path / "news")
    assert "found several for train" in error and "fix: keep one of them there" in error


# Held-out rows without labels


EMPTY_LABELS = "text,label\na cup,\na screen,\n"
MINUS_ONE = "text,label\na cup,-1\na screen,-1\n"


@pytest.mark.parametrize("rows", [WITHOUT, "id,text\n1,a cup\n2,a screen\n", EMPTY_LABELS, MINUS_ONE])
@pytest.mark.parametrize("name", ["test", "Test", "eval", "val"])
def test_a_split_without_labels_is_told_and_does_not_stop_training(
    name: str, rows: str, write: Write, tmp_path: Path
) -> None:
    write("news/train.csv", TRAIN)
    path = write(f"news/{name}.csv", rows)
    config = DataConfig(source=str(tmp_path / "news"), test_fraction=0.25, validation_fraction=0)
    corpus = load_corpus(config, 0)
    (told,) = unused(corpus)
    assert str(path) in told and f"submillion predict {path}" in told and "nothing is measured on it" in told
    assert corpus.cut == ("test",) and len(corpus.train.texts) + len(corpus.test.texts) == 4
    rows_measured, is_test = load_rows(str(tmp_path / "news"), ("sport", "tech"))
    assert not is_test and len(rows_measured.texts) == 4
    if name != "val":  # whose rows no evaluation reads
        assert f"submillion predict {path}" in rows_measured.notes[0].text


def test_a_file_of_a_text_a_line_has_no_labels(write: Write, tmp_path: Path) -> None:
    write("news/train.csv", TRAIN)
    path = write("news/test.txt", "a cup\na screen\n")
    (told,) = unused(loaded(tmp_path / "news"))
    assert f"submillion predict {path}" in told and "no label column, it is a text a line" in told
    for source in (path, write("only/train.txt", "a cup\n").parent):
        assert "no label column" in error_of(source)


def test_a_label_column_that_is_named_and_only_in_train(write: Write, tmp_path: Path) -> None:
    write("news/train.csv", TRAIN.replace("label", "topic_of_it"))
    write("news/test.csv", WITHOUT)
    config = DataConfig(label_column="topic_of_it", source=str(tmp_path / "news"), test_fraction=0)
    assert "no column 'topic_of_it'" in unused(load_corpus(config, 0))[0]


def test_training_rows_without_labels_are_still_refused(write: Write, tmp_path: Path) -> None:
    write("news/train.csv", WITHOUT)
    write("news/test.csv", OTHER)
    assert "no label column" in error_of(tmp_path / "news")
    write("other/test.csv", WITHOUT)
    with pytest.raises(DataError, match="no label column"):
        load_rows(str(tmp_path / "other"), ("sport", "tech"))


def test_minus_one_is_a_label_where_training_has_it(write: Write, tmp_path: Path) -> None:
    write("news/train.csv", "text,label\nx,-1\ny,0\nz,1\n")
    write("news/test.csv", MINUS_ONE)
    corpus = loaded(tmp_path / "news")
    assert [corpus.label_names[label] for label in corpus.test.labels] == ["-1", "-1"] and not unused(corpus)


def test_a_few_test_rows_without_a_label_are_a_problem(write: Write, tmp_path: Path) -> None:
    write("news/train.csv", TRAIN)
    write("news/test.csv", "text,label\na cup,sport\na screen,\n")
    assert "row 2 (line 3): the label is missing" in error_of(tmp_path / "news")


# Dicts of splits


PAIRS = [("a goal", "sport"), ("a chip", "tech")]


@pytest.mark.parametrize("name", ["val", "dev", "valid", "VALIDATION", "validation"])
@pytest.mark.parametrize("more", [{}, {"unsupervised": [("x", None)]}, {"extra": pd.DataFrame({"text": ["x"]})}])
def test_a_dict_of_splits_by_any_name(name: str, more: dict[str, Any]) -> None:
    corpus = loaded({"train": PAIRS, name: PAIRS, "eval": PAIRS, **more})
    assert (len(corpus.validation.texts), len(corpus.test.texts)) == (2, 2)
    assert [text.partition(" (")[0] for text in unused(corpus)] == list(more)


def test_a_datasetdict_with_val_and_unsupervised() -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"text": ["a goal", "a chip"], "label": ["sport", "tech"]}
    parts = {name: datasets.Dataset.from_dict(rows) for name in ("train", "val", "unsupervised")}
    corpus = loaded(datasets.DatasetDict(parts))
    assert len(corpus.validation.texts) == 2 and "unsupervised" in unused(corpus)[0]


def test_a_datasetdict_whose_test_labels_are_minus_one() -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    made = {
        name: datasets.Dataset.from_dict({"text": ["x", "y"], "label": labels}, features=features)
        for name, labels in (("train", [0, 1]), ("test", [-1, -1]))
    }
    (told,) = unused(loaded(datasets.DatasetDict(made)))
    assert "the test split" in told and "no row has a label" in told and "submillion predict FILE" in told


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"text": ["a"], "label": ["b"]}, False),
        ({"test": ["a"], "text": ["b"]}, False),  # columns of these names
        ({"train": PAIRS}, True),
        ({"train": PAIRS, "unsupervised": PAIRS}, True),
        ({"train": {"text": ["a"]}, "more": {"text": ["a"]}}, True),
        ({}, False),
        ([1], False),
    ],
)
def test_what_is_a_dict_of_splits(data: object, expected: bool) -> None:
    assert is_splits(data) is expected


def test_a_hub_data_set_with_splits_of_other_names(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"text": ["a goal", "a chip"], "label": ["sport", "tech"]}
    parts = {name: datasets.Dataset.from_dict(rows) for name in ("training", "val", "dev", "Eval", "unsupervised")}
    monkeypatch.setattr("submillion.data.sources.load_from_hub", lambda name, revision: datasets.DatasetDict(parts))
    corpus = load_corpus(DataConfig(source="owner/name"), 0)
    assert corpus.source == "owner/name (train 2, validation 2, test 2 rows)" and corpus.hub_id == "owner/name"
    assert unused(corpus)[0].startswith("unsupervised, dev (")


def test_two_of_one_split_in_a_dict_are_refused(write: Write) -> None:
    assert "several validation splits in it" in error_of({"train": PAIRS, "val": PAIRS, "dev": PAIRS})
    assert "expected a train split, found test, more" in error_of({"test": PAIRS, "more": PAIRS})
