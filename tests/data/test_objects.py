import copy

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from submillion.data.objects import table_from_object
from submillion.data.tables import Problems, pick_text, pick_text_and_label
from submillion.errors import DataError

TEXTS = ["Oil climbs", "Late goal wins", "Chips sell"]
LABELS = ["Business", "Sports", "Business"]


class Streamed:
    """A table that shows its columns as an Arrow stream alone, as those of polars and duckdb do."""

    def __init__(self, columns):
        self.columns = columns

    def __arrow_c_stream__(self, requested_schema=None):
        return pa.table(self.columns).__arrow_c_stream__(requested_schema)

    def __repr__(self):
        return repr(self.columns)


def read(data, pick=None):
    table = table_from_object(data, pick or pick_text_and_label("", "", "data"), Problems("data"))
    table.problems.check()
    return table.columns


@pytest.mark.parametrize(
    "data",
    [
        pd.DataFrame({"id": [1, 2, 3], "text": TEXTS, "label": LABELS}),
        {"text": TEXTS, "label": LABELS},
        {"text": np.array(TEXTS), "label": pd.Series(LABELS)},
        {"text": tuple(TEXTS), "label": pd.Categorical(LABELS)},
        [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)],
        list(zip(TEXTS, LABELS, strict=True)),
        [[text, label] for text, label in zip(TEXTS, LABELS, strict=True)],
        pa.table({"label": LABELS, "text": TEXTS}),
        np.array(list(zip(TEXTS, LABELS, strict=True)), dtype=object),
        {"text": np.array(TEXTS, dtype=object), "label": pd.Series(LABELS, index=[2.5, 1.5, 0.5])},
        Streamed({"label": LABELS, "text": TEXTS}),
    ],
)
def test_every_kind_of_object_says_the_same_and_is_left_as_it_is(data):
    before = copy.deepcopy(data)
    columns = read(data)
    assert columns == {"text": TEXTS, "label": LABELS}
    columns["text"].append("more")
    assert repr(data) == repr(before)


def test_a_dataset_and_its_label_names():
    datasets = pytest.importorskip("datasets")
    kinds = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b"])})
    rows = datasets.Dataset.from_dict({"text": TEXTS, "label": [1, 0, 1]}, features=kinds).select([2, 0])
    table = table_from_object(rows, pick_text_and_label("", "", "data"), Problems("data"))
    assert table.columns == {"text": [TEXTS[2], TEXTS[0]], "label": [1, 1]}
    assert table.label_names == {"label": ("a", "b")}


def test_a_table_and_a_column_of_polars():
    polars = pytest.importorskip("polars")
    table = polars.DataFrame({"text": TEXTS, "label": LABELS}, schema_overrides={"label": polars.Categorical})
    assert read(table) == read({"text": table["text"], "label": table["label"]}) == {"text": TEXTS, "label": LABELS}


def test_texts_alone_for_prediction():
    for data in (
        TEXTS,
        np.array(TEXTS),
        pa.array(TEXTS),
        pd.Series(TEXTS),
        {"words": TEXTS, "id": [1, 2, 3]},
        pd.DataFrame({"words": TEXTS}),
    ):
        assert list(read(data, pick_text("", "data")).values()) == [TEXTS]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (3, "expected a DataFrame, a dict of columns"),
        ((row for row in [("a", 1)]), "found a generator: wrap it in list(...)"),
        ({("a", 1), ("b", 2)}, "found a set, which has no order: give a list"),
        (b"a", "found bytes: decode it"),
        (np.array("a"), "or a path; found ndarray"),
        (
            {"text": (text for text in "ab"), "label": [1, 2]},
            "in column 'text', found a generator: wrap it in list(...)",
        ),
        ({"text": ["a", "b"], "label": {1, 2}}, "in column 'label', found a set, which has no order: give a list"),
        ([None, ("a", 1)], "no label column"),
        ([b"a", ("a", 1)], "row 1: expected a (text, label) pair, found bytes"),
        ([], "no rows in it"),
        ({"text": [], "label": []}, "no rows in it"),
        ({"text": ["a"], "label": [1, 2]}, "expected columns of one length, found text 1, label 2"),
        ({"text": "abc", "label": [1, 2, 3]}, "expected a list in column 'text', found str"),
        ([{"text": "a", "label": 1}, {"text": "b"}, 3], "row 2: no key 'label'\n  row 3: expected a dict, found int"),
        ([("a", 1), ("b", 1, 2), "cc"], "row 2: expected a (text, label) pair, found tuple\n  row 3: expected"),
        ([1, 2], "row 1: expected a (text, label) pair, found int"),
        (["a", "b"], "no label column"),
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), "each column needs its own name, found twice: text"),
        (pa.table([["a"], ["b"]], names=["text", "text"]), "found twice: text"),
    ],
)
def test_what_is_no_table_is_refused_with_the_reason(data, words):
    with pytest.raises(DataError) as caught:
        read(data)
    assert words in str(caught.value)
