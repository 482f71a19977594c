import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from submillion.config.schema import DataConfig
from submillion.data.corpus import load_corpus, load_rows
from submillion.data.files import check_texts, iter_texts
from submillion.data.splits import near_duplicate_groups
from submillion.errors import DataError

WORDS = [f"word{number}" for number in range(20)]


def news(count=200, seed=0):
    """Distinct texts of ten words, each fourth of them with a near duplicate, labels by turns."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, 10)) for _ in range(count)]
    texts += [text + " again" for text in texts[::4]]
    return {"text": texts, "label": [["a", "b"][index % 2] for index in range(len(texts))]}


def error_of(data, **config) -> str:
    with pytest.raises(DataError) as caught:
        load_corpus(DataConfig(**config), 0, data)
    return str(caught.value)


def test_three_splits_are_cut_from_one_table():
    data = news()
    corpus = load_corpus(DataConfig(validation_fraction=0.1, test_fraction=0.2), 0, data)
    assert corpus.label_names == ("a", "b")
    parts = (corpus.train, corpus.validation, corpus.test)
    rows = [
        (text, corpus.label_names[label]) for part in parts for text, label in zip(part.texts, part.labels, strict=True)
    ]
    assert sorted(rows) == sorted(zip(data["text"], data["label"], strict=True))
    assert all(part.labels.dtype == np.int64 for part in parts)
    assert [len(part.texts) for part in parts] == [180, 20, 50]
    assert corpus.source == "data (train 250 rows); cut from train: test 50, validation 20"
    # No near duplicates on two sides.
    groups = near_duplicate_groups([text for part in parts for text in part.texts])
    sides = np.repeat([0, 1, 2], [len(part.texts) for part in parts])
    assert len(set(zip(groups.tolist(), sides.tolist(), strict=True))) == len(set(groups.tolist())) == 200


def test_the_cut_depends_on_the_seed_alone():
    cuts = [load_corpus(DataConfig(), seed, news()).test.texts for seed in (0, 0, 1)]
    assert cuts[0] == cuts[1] != cuts[2]


def test_held_out_rows_that_the_training_rows_hold_nearly_stay_and_are_marked():
    data = news()
    given = {"train": data, "test": [(data["text"][0] + " says a report", "a"), ("nothing like it", "b")]}
    corpus = load_corpus(DataConfig(validation_fraction=0.1), 0, given)
    assert corpus.test.overlap.tolist() == [True, False] and len(corpus.test.texts) == 2
    assert corpus.train.overlap is None and corpus.validation.overlap is None  # cut so that there is none


def test_a_source_says_which_of_its_test_rows_the_model_has_nearly_seen(write, tmp_path):
    write("news/train.csv", "text,label\na goal in the last minute of extra time,Sports\na vote,World\n")
    write("news/test.csv", "text,label\nA goal in the last minute of extra time!,Sports\na match,Sports\n")
    folder, names = str(tmp_path / "news"), ("World", "Sports")
    sha256 = load_corpus(DataConfig(source=folder, validation_fraction=0, label_names=names), 0).sha256
    assert load_rows(folder, names, trained_on=sha256)[0].overlap.tolist() == [True, False]
    assert load_rows(folder, names)[0].overlap is load_rows(folder, names, trained_on="other")[0].overlap is None
    write("news/train.csv", "text,label\n,Sports\n")  # rows that no model was trained on are no error here
    rows, _ = load_rows(folder, names, trained_on=sha256)
    assert rows.overlap is None and len(rows.texts) == 2


def test_splits_that_the_source_brings_are_kept():
    data = {"train": news(), "test": [("cup", "b")], "valid": [("oil", "a")]}
    corpus = load_corpus(DataConfig(), 0, data)
    assert corpus.train.texts == data["train"]["text"]
    assert (corpus.validation.texts, corpus.test.texts) == (["oil"], ["cup"])
    assert corpus.test.labels.tolist() == [1]
    assert "cut" not in corpus.source


def test_fractions_of_0_leave_empty_splits():
    corpus = load_corpus(DataConfig(validation_fraction=0, test_fraction=0), 0, news())
    assert len(corpus.train.texts) == 250
    assert corpus.test.texts == corpus.validation.texts == [] and corpus.test.labels.dtype == np.int64


def test_unlabelled_texts_are_read_once_each_and_without_those_whose_label_is_known(write):
    data = news()
    path = write("more.csv", "text,source\nnew one,x\nnew two,x\nnew one,y\n" + f"{data['text'][0]},z\n")
    config = DataConfig(text_column="text", label_column="label", unlabelled=str(path))
    assert load_corpus(config, 0, data).unlabelled == ["new one", "new two"]
    assert load_corpus(DataConfig(), 0, data).unlabelled == []


def test_unlabelled_texts_hold_no_near_duplicate_of_a_held_out_row(write):
    data = {"text": [f"story number {row} of a long and winding tale {row}" for row in range(80)], "label": [0, 1] * 40}
    held_out = load_corpus(DataConfig(test_fraction=0.25, validation_fraction=0.1), 0, data)
    copies = [f"{text.upper()} ." for text in held_out.test.texts + held_out.validation.texts]
    path = write("more.csv", "\n".join(["text", *copies, f"{held_out.train.texts[0]} and more", "something new"]))
    config = DataConfig(test_fraction=0.25, validation_fraction=0.1, unlabelled=str(path))
    assert load_corpus(config, 0, data).unlabelled == [f"{held_out.train.texts[0]} and more", "something new"]


def test_an_unlabelled_file_that_gives_nothing_is_refused(write):
    path = write("same.csv", f"text\n{news()['text'][0]}\n")
    assert "expected texts beyond those of the labelled rows, found none" in error_of(news(), unlabelled=str(path))
    assert "no such file" in error_of(news(), unlabelled="missing.csv")
    bad = write("bad.csv", 'text\nfine\n" "\n" "\n')
    assert "bad.csv: 2 problems" in error_of(news(), unlabelled=str(bad))
    other = write("other.csv", "body,more\na,b\n")
    assert "other.csv: no text column" in error_of(news(), unlabelled=str(other))
    assert "--data.text-column NAME" in error_of(news(), unlabelled=str(other))


def test_label_names_given():
    corpus = load_corpus(DataConfig(label_names=("b", "c", "a")), 0, news())
    assert corpus.label_names == ("b", "c", "a")
    assert set(corpus.train.labels.tolist()) == {0, 2}
    error = error_of([("x", "Sport"), ("y", "World"), ("z", "Sprots")], label_names=("World", "Sports"))
    assert "row 1: label 'Sport' is none of World, Sports; did you mean Sports?" in error
    assert "row 3: label 'Sprots'" in error
    assert "label names must differ, found twice: a" in error_of(news(), label_names=("a", "a", "b"))


def test_integers_from_1_become_names_in_order(write):
    path = write("news.csv", "text,label\n" + "".join(f"text {n},{n % 10 + 1}\n" for n in range(40)))
    corpus = load_corpus(DataConfig(test_fraction=0, validation_fraction=0), 0, path)
    assert corpus.label_names == tuple(map(str, range(1, 11)))
    assert corpus.train.labels[:10].tolist() == list(range(10))


def test_a_test_label_that_training_does_not_have():
    data = {"train": [("x", "a"), ("y", "b")], "test": [("z", "c")]}
    for splits in (data, dict(reversed(data.items()))):  # whichever comes first, the training rows say what labels are
        assert "data['test']: 1 problem\n  row 1: label 'c' is none of a, b" in error_of(splits)


def test_the_sources_own_names(tmp_path):
    features = '{"info": {"features": {"label": {"_type": "ClassLabel", "names": ["World", "Sports"]}}}}'
    table = pa.table({"text": ["x", "y", "z"], "label": [1, 0, 1]}).replace_schema_metadata({"huggingface": features})
    pq.write_table(table, tmp_path / "train.parquet")
    config = DataConfig(source=str(tmp_path / "train.parquet"), test_fraction=0, validation_fraction=0)
    corpus = load_corpus(config, 0)
    assert corpus.label_names == ("World", "Sports") and corpus.train.labels.tolist() == [1, 0, 1]
    error = error_of(tmp_path / "train.parquet", label_names=("Sports", "World"))
    assert "its own label names are World, Sports, but --data.label-names has Sports, World" in error
    pq.write_table(table.replace_schema_metadata(None), tmp_path / "test.parquet")  # integers of the same names
    assert load_corpus(DataConfig(source=str(tmp_path)), 0).test.labels.tolist() == [1, 0, 1]


def test_all_problems_of_texts_and_labels_in_one_error(write):
    path = write("news.csv", "text,label\nfine,a\n,b\nfine,\nfine,b,c\n")
    error = error_of(path)
    assert error.startswith("news.csv: 3 problems\n")
    assert "row 4 (line 5): 3 fields" in error and "row 2 (line 3): the text is empty" in error
    assert "row 3 (line 4): the label is missing" in error


@pytest.mark.parametrize("names", [(), ("a", "b")])
def test_a_lone_class_is_refused(names):
    assert "expected two labels or more" in error_of([("x", "a"), ("y", "a")], label_names=names)


def test_booleans_and_given_columns():
    data = [{"review": "x", "words": "y", "spam": True}, {"review": "z", "words": "y", "spam": False}]
    config = DataConfig(text_column="words", label_column="spam", test_fraction=0, validation_fraction=0)
    corpus = load_corpus(config, 0, data)
    assert corpus.label_names == ("False", "True") and corpus.train.labels.tolist() == [1, 0]
    assert corpus.train.texts == ["y", "y"]


def test_titles_and_descriptions_are_joined_in_files_and_in_memory(write):
    csv = "Class Index,Title,Description\n3,Oil climbs,OPEC meets\n2,Late goal,\n"
    config = {"text_column": "Title,Description", "test_fraction": 0, "validation_fraction": 0}
    path = write("news.csv", csv)
    corpus = load_corpus(DataConfig(source=str(path), **config), 0)
    assert corpus.train.texts == ["Oil climbs OPEC meets", "Late goal"] and corpus.label_names == ("2", "3")
    frame = [
        {"Class Index": 3, "Title": "Oil climbs", "Description": "OPEC meets"},
        {"Class Index": 2, "Title": "Late goal", "Description": None},
    ]
    assert load_corpus(DataConfig(**config), 0, frame).train.texts == corpus.train.texts
    assert list(iter_texts(path, "Title,Description")) == [corpus.train.texts]
    assert check_texts(path, "Title,Description") == 2
    names = ("World", "Sports", "Business")
    assert "the labels 2, 3 stand for some of the 3 names: from 0 or from 1?" in error_of(
        path, label_names=names, **config
    )
    path = write("all.csv", csv + "1,Talks,Treaty\n")
    corpus = load_corpus(DataConfig(source=str(path), label_names=names, **config), 0)
    assert corpus.label_names == names and corpus.train.labels.tolist() == [2, 1, 0]


def test_agnews_as_files(agnews):
    corpus = load_corpus(DataConfig(source=str(agnews), validation_fraction=0), 0)
    assert corpus.label_names == ("World", "Sports", "Business", "Sci/Tech")
    assert np.bincount(corpus.train.labels).tolist() == [17963, 17661, 17482, 18170]
    assert np.bincount(corpus.test.labels).tolist() == [1900] * 4


def test_a_folder_with_test_rows_alone_is_measured_on_but_not_trained_on(write, tmp_path):
    write("news/test.csv", "text,label\na goal,Sports\na vote,World\na match,Sports\n")
    rows, own_test = load_rows(str(tmp_path / "news"), ("World", "Sports"))
    assert own_test and rows.texts == ["a goal", "a vote", "a match"] and rows.labels.tolist() == [1, 0, 1]
    with pytest.raises(DataError, match="expected training rows, found test alone"):
        load_corpus(DataConfig(source=str(tmp_path / "news")), seed=0)
