"""Sequences of texts of every kind that Python programs hold, and what is none."""

from collections import deque
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from submillion.data.texts import texts_of
from submillion.errors import DataError

TEXTS = ["Oil climbs", "Late goal wins", ""]


class Positions:
    """A sequence that is registered as none, as the columns of several libraries are."""

    def __len__(self) -> int:
        return len(TEXTS)

    def __getitem__(self, at: int) -> str:
        return TEXTS[at]


def column_of_datasets() -> Any:
    import datasets

    return datasets.Dataset.from_dict({"text": TEXTS})["text"]


@pytest.mark.parametrize(
    "values",
    [
        TEXTS,
        tuple(TEXTS),
        deque(TEXTS),
        Positions(),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        np.array(TEXTS, dtype=np.dtypes.StringDType()),
        [np.str_(text) for text in TEXTS],
        pd.Series(TEXTS),
        pd.Series(TEXTS, index=[2.5, 0.5, 1.5]),
        pd.Series(TEXTS, index=["c", "a", "b"], dtype="category"),
        pd.Series(TEXTS, index=[7, 7, 0], dtype="string"),
        pd.Index(TEXTS),
        pa.array(TEXTS),
        pa.chunked_array([TEXTS[:1], TEXTS[1:]]),
        pa.array(TEXTS).dictionary_encode(),
        column_of_datasets(),
    ],
    ids=lambda values: type(values).__name__,
)
def test_every_sequence_of_texts_is_read_in_its_order(values: Any) -> None:
    assert texts_of(values) == TEXTS


def test_a_column_of_polars() -> None:
    polars = pytest.importorskip("polars")
    assert texts_of(polars.Series(TEXTS)) == TEXTS
    assert texts_of(polars.DataFrame({"text": TEXTS}, schema={"text": polars.Categorical})["text"]) == TEXTS
    with pytest.raises(TypeError, match="found DataFrame: give one column of it"):
        texts_of(polars.DataFrame({"text": TEXTS}))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (None, "found None"),
        (3, "found int"),
        (str, "found type"),
        ("Oil climbs", "found str: wrap it in a list"),
        (b"Oil climbs", "found bytes: decode it, and wrap it in a list"),
        (bytearray(b"Oil"), "found bytearray: decode it, and wrap it in a list"),
        ((text for text in TEXTS), "found a generator: wrap it in list(...)"),
        (map(str, TEXTS), "found a map: wrap it in list(...)"),
        (dict.fromkeys(TEXTS).keys(), "found a dict_keys: wrap it in list(...)"),
        (dict(enumerate(TEXTS)).values(), "found a dict_values: wrap it in list(...)"),
        (set(TEXTS), "found a set, which has no order: give a list"),
        (frozenset(TEXTS), "found a frozenset, which has no order: give a list"),
        ({"text": TEXTS}, "found dict: give one column of it"),
        (pd.DataFrame({"text": TEXTS}), "found DataFrame: give one column of it"),
        (pa.table({"text": TEXTS}), "found Table: give one column of it"),
        (np.array([TEXTS]), "found ndarray: give one column of it"),
        (np.array("Oil climbs"), "found ndarray"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_sequence_is_named_with_the_fix(values: Any, problem: str) -> None:
    with pytest.raises(TypeError) as caught:
        texts_of(values)
    assert str(caught.value) == f"expected a sequence of texts, {problem}"


@pytest.mark.parametrize(
    ("values", "rows"),
    [
        (["fine", None], "row 1: expected a str, found NoneType"),
        ([b"Oil", "fine"], "row 0: expected a str, found bytes"),
        (np.array([b"Oil"]), "row 0: expected a str, found bytes"),
        ([["Oil"], ["war"]], "row 0: expected a str, found list\nrow 1: expected a str, found list"),
        ([("Oil", "Business")], "row 0: expected a str, found tuple"),
        ([{"text": "Oil"}], "row 0: expected a str, found dict"),
        (
            np.array(["a", 3, np.nan], dtype=object),
            "row 1: expected a str, found int\nrow 2: expected a str, found float",
        ),
        (pd.Series(["a", None], dtype="string"), "row 1: expected a str, found NAType"),
        (pa.array(["a", None]), "row 1: expected a str, found NoneType"),
        (np.ma.array(["a", "b"], mask=[False, True]), "row 1: expected a str, found NoneType"),
        (["a", "half \ud800 pair"], "row 1: half a surrogate pair, which no UTF-8 text holds"),
        ([None] * 23, "\n".join(f"row {row}: expected a str, found NoneType" for row in range(20)) + "\nand 3 more"),
    ],
    ids=str,
)
def test_rows_that_are_no_text_are_named(values: Any, rows: str) -> None:
    with pytest.raises(DataError) as caught:
        texts_of(values)
    assert str(caught.value) == rows
