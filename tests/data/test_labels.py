from decimal import Decimal

import numpy as np
import pytest

from submillion.data.labels import (
    first_number,
    is_decimal,
    label_indices,
    label_text,
    raw_labels,
    sorted_names,
    without_points,
)
from submillion.data.tables import Problems, Table


def table_of(labels, names=()):
    own = {"label": tuple(names)} if names else {}
    return Table({"label": labels}, Problems("a.csv"), range(1, len(labels) + 1), label_names=own)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (3.0, "3"),
        (np.int32(3), "3"),
        (np.float64(3), "3"),
        (-1, "-1"),
        (True, "True"),
        (np.bool_(False), "False"),
        (0.5, "0.5"),
        (np.float32(0.1), "0.1"),
        (0.1, "0.1"),
        (-2.25, "-2.25"),
        (Decimal("3.0"), "3"),
        (Decimal("0.5"), "0.5"),
        (" World ", "World"),
        ("", None),
        ("  ", None),
        (None, None),
        (float("nan"), None),
    ],
)
def test_one_spelling(value, text):
    assert label_text(value) == text


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), b"a", object(), Decimal("Infinity"), 1 + 2j])
def test_neither_number_nor_name(value):
    with pytest.raises(ValueError, match="is neither a number nor a name"):
        label_text(value)


@pytest.mark.parametrize(
    "value",
    [
        [1],
        ["sport", "tech"],
        ("a", "b"),
        {"a": 1},
        {"a", "b"},
        np.array(["a", "b"]),
        "['sport', 'tech']",
        "['sport' 'tech']",  # as numpy writes it
        '["sport", "tech"]',
        "[sport, tech]",
        "['sport']",
        "{'sport': 1, 'tech': 0}",
        "{sport,tech}",  # as PostgreSQL writes it
        "('sport', 'tech')",
        "(1, 2)",
        "[1, 0, 1]",
        "[1 0 1]",
        "[3]",
        "[]",
        "{}",
        " ['sport', 'tech'] ",
    ],
)
def test_a_list_is_named_in_any_writing(value):
    with pytest.raises(ValueError, match="is a list"):
        label_text(value)


@pytest.mark.parametrize(
    "name", ["[sport]", "(other)", "(a, b)", "[...]", "sport, tech", "[", "()", "{x}", "a [b, c]", "(1)", "[a] or [b]"]
)
def test_a_name_with_brackets_is_a_name(name):
    assert label_text(name) == name


@pytest.mark.parametrize("name", ["\ud83d", "sport \ude00", "a\udc80b"])
def test_half_a_surrogate_pair_is_no_label(name):
    with pytest.raises(ValueError, match="holds half of a surrogate pair"):
        label_text(name)


@pytest.mark.parametrize("name", ["\u200b", "\ufeff", "\u200d\u2060", "\x00", "\xad", "\u200b \u200b"])
def test_a_label_that_nobody_can_see_is_no_label(name):
    with pytest.raises(ValueError, match="no character that can be seen"):
        label_text(name)


def test_integers_are_sorted_by_number_and_names_as_strings():
    assert sorted_names(["10", "9", "-1", "9"]) == ("-1", "9", "10")
    assert sorted_names(["10", "9", "b"]) == ("10", "9", "b")
    assert sorted_names(["007", "01"]) == ("007", "01")
    assert not is_decimal("007") and not is_decimal("1.0") and not is_decimal("²") and is_decimal("0")


def encode(values, names, own=(), known=None):
    table = table_of(values, own)
    labels = raw_labels(table, "label")
    return label_indices(table, labels, names, first_number(labels, names, table.problems, known)), table.problems


def test_names_and_integers_are_both_understood():
    indices, problems = encode(["Sports", 0, "1", 2.0], ["World", "Sports", "Business"])
    assert indices.dtype == np.int64 and indices.tolist() == [1, 0, 1, 2] and not problems.count


def test_integers_count_from_1_where_they_are_all_of_1_to_the_number_of_names():
    assert encode([2, "1", 3, 2], ["World", "Sports", "Business"])[0].tolist() == [1, 0, 2, 1]
    assert encode([2, 1, 0], ["World", "Sports", "Business"])[0].tolist() == [2, 1, 0]
    _, problems = encode([2, 1, 3, 0], ["World", "Sports", "Business"])
    assert problems.count == 1 and "row 3: label '3' is outside 0 to 2" in problems.worded[0]


def test_some_of_the_integers_from_1_are_read_as_in_training_and_refused_where_that_is_not_known():
    names = ["World", "Sports", "Business"]
    assert encode([2, 1], names, known=1)[0].tolist() == [1, 0]
    assert encode([2, 1], names, known=0)[0].tolist() == [2, 1]
    assert encode([0, 1], names, known=1)[0].tolist() == [0, 1]
    assert encode(["Sports"], names)[0].tolist() == [1]
    _, problems = encode([2, 1], names)
    assert problems.count == 1 and "the labels 1, 2 stand for some of the 3 names" in problems.worded[0]


def test_integers_that_a_tool_wrote_as_floats_are_integers():
    assert without_points(["3.0", None, "10.0", "2"], []) == ["3", None, "10", "2"]
    assert without_points(["3.0", "2.5"], []) == ["3.0", "2.5"] == without_points(["3.0", "2.5"], ["2.5"])
    assert without_points(["3.0", "2.0"], ["2.0", "3.0"]) == ["3.0", "2.0"]  # a model of an earlier version
    assert not is_decimal("9" * 5000) and is_decimal("9" * 18)


def test_where_names_are_integers_only_names_count():
    indices, problems = encode([1, "2", 4], ["1", "2", "3", "4"])
    assert indices.tolist() == [0, 1, 3] and not problems.count
    indices, problems = encode([0], ["1", "2"])
    assert indices.tolist() == [-1] and problems.worded == ["row 1: label '0' is none of 1, 2"]


def test_a_class_labels_integers_count_from_0_even_where_its_names_are_integers():
    indices, problems = encode([0, 1], ["1", "2"], own=["1", "2"])
    assert indices.tolist() == [0, 1] and not problems.count
    _, problems = encode([2, -1], ["1", "2"], own=["1", "2"])
    assert problems.worded == [
        "row 1: label '2' is outside 0 to 1: 1, 2; labels count from 0, or are all of 1 to the number of names",
        "row 2: label '-1' is outside 0 to 1: 1, 2; -1 marks a row without a label",
    ]


def test_problems_name_the_row_and_the_nearest_name():
    names = ["World", "Sports", "Business", "Sci/Tech"]
    indices, problems = encode(["Sport", 4, None, [1], 3, 0], names)
    assert indices.tolist() == [-1, -1, -1, -1, 3, 0]
    assert problems.worded == [
        "row 3: the label is missing",
        "row 4: the label [1] is a list: several labels a text are not supported yet",
        "row 1: label 'Sport' is none of World, Sports, Business, Sci/Tech; did you mean Sports?",
        "row 2: label '4' is outside 0 to 3: World, Sports, Business, Sci/Tech; labels count from 0, or are all of 1 "
        "to the number of names",
    ]
