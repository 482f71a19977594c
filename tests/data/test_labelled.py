"""What labels are read as: numbers, look-alikes, rows that repeat the header, and what cannot be a label."""

import csv
import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import data_config

from submillion.data.corpus import Corpus, load_corpus, load_rows
from submillion.errors import DataError

UNCUT = {"test_fraction": 0.0, "validation_fraction": 0.0}


def loaded(data: Any, **config: Any) -> Corpus:
    return load_corpus(data_config(**{**UNCUT, **config}), 0, data)


def error_of(data: Any, **config: Any) -> str:
    with pytest.raises(DataError) as caught:
        loaded(data, **config)
    return str(caught.value)


def rows_of(labels: Sequence[Any], word: str = "story") -> list[tuple[str, Any]]:
    return [(f"{word} {number}", label) for number, label in enumerate(labels)]


def names_in(corpus: Corpus, split: str = "train") -> list[str]:
    return [corpus.label_names[label] for label in getattr(corpus, split).labels]


def notes_on(corpus: Corpus, heading: str) -> list[str]:
    return [note.text for note in corpus.notes if note.heading == heading]


def write_in(folder: Path, kind: str, rows: Sequence[tuple[str, Any]]) -> Path:
    """The rows in one of the formats. A csv or tsv holds a list as pandas writes it."""
    path = folder / f"rows.{kind}"
    table = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
    if kind in ("csv", "tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter="\t" if kind == "tsv" else ",").writerows([("text", "label"), *rows])
    elif kind == "jsonl":
        path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    elif kind == "json":
        path.write_text(json.dumps([{"text": text, "label": label} for text, label in rows]))
    elif kind == "parquet":
        pq.write_table(pa.table(table), path)
    else:
        path.write_bytes(pickle.dumps(table))
    return path


KINDS = ("csv", "tsv", "jsonl", "json", "parquet", "pkl")


# Numbers


NUMBERS = [
    (["0.0", "0.5", "1.0", "1.5"], ["0", "0.5", "1", "1.5"]),
    (["01", "02", "05"], ["1", "2", "5"]),
    (["1", "2", "5"], ["01", "02", "05"]),
    (["1.0", "2.0", "2.5"], ["1", "2", "2.50"]),
    (["-1.0", "0.0", "1.5"], ["-1", "0", "1.5"]),
    (["1", "2", "other"], ["1.0", "2.0", "other"]),
    (["+1", "+2", "+3"], ["1", "2", "3"]),
    (["100000", "2", "3"], ["1E+05", "2", "3"]),
    ([".5", "1", "2"], ["0.5", "1", "2"]),
    (["0001", "0002", "0010"], ["1.0", "2.0", "10.0"]),
    ([0.5, 1.0, 2.5], ["0.5", "1.0", "2.5"]),
]


@pytest.mark.parametrize(("train", "test"), NUMBERS)
def test_labels_that_are_numbers_are_compared_as_numbers(train: list[Any], test: list[Any], tmp_path: Path) -> None:
    corpus = loaded({"train": rows_of(train), "test": rows_of(test, "other")})
    assert names_in(corpus, "test") == names_in(corpus)  # the names are those of the training rows
    for values, other in ((train, test), (test, train)):
        names = loaded(rows_of(values)).label_names
        rows, _ = load_rows(str(write_in(tmp_path, "csv", rows_of(other))), names)
        assert [names[label] for label in rows.labels] == names_in(loaded(rows_of(values)))


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (["0.0", "0.5", "1.5"], ["1"]),  # place 1 would be 0.5
        (["01", "02", "05"], ["0"]),
        (["2", "4", "6"], ["1"]),
        (["1", "2", "other"], ["0"]),
        (["10", "20", "30"], ["3"]),
        (["1.5", "good", "bad"], ["2"]),
    ],
)
def test_a_number_is_never_a_place_where_a_label_is_a_number(train: list[str], test: list[str], tmp_path: Path) -> None:
    assert f"row 1: label {test[0]!r} is none of" in error_of({"train": rows_of(train), "test": rows_of(test)})
    names = loaded(rows_of(train)).label_names
    with pytest.raises(DataError, match="is none of"):
        load_rows(str(write_in(tmp_path, "csv", rows_of(test))), names)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["1", "1", "1.0", "2"], ["1", "1", "1", "2"]),
        (["0.5", ".5", "0.50", "1.5"], ["0.5", "0.5", "0.5", "1.5"]),
        (["01", "1", "01", "7"], ["01", "01", "01", "7"]),
        ([1.0, 1, "1.0", 2], ["1", "1", "1", "2"]),
    ],
)
def test_one_number_in_several_spellings_is_one_label_and_said(labels: list[Any], names: list[str]) -> None:
    corpus = loaded(rows_of(labels))
    assert names_in(corpus) == names


@pytest.mark.parametrize("labels", [["0.5", ".5", "0.5"], ["01", "1", "01", "7.5"], ["1.50", "1.5", "1.50", "2"]])
def test_numbers_that_are_joined_are_said(labels: list[str]) -> None:
    (told,) = notes_on(loaded(rows_of([*labels, "other"])), "joined")
    assert told.startswith(f"{labels[1]!r} (1 rows) is read as {labels[0]!r}: the same number; if these are codes")


def test_codes_that_are_one_number_stay_apart_where_they_are_listed() -> None:
    codes = ["1.1", "1.10", "1.10", "2"]
    assert names_in(loaded(rows_of(codes))) == ["1.10", "1.10", "1.10", "2"]
    assert names_in(loaded(rows_of(codes), label_names=("1.1", "1.10", "2"))) == codes


def test_integers_are_places_where_all_names_are_words() -> None:
    corpus = loaded(rows_of([0, "1", 2.0]), label_names=("World", "Sports", "Business"))
    assert names_in(corpus) == ["World", "Sports", "Business"]


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_with_a_fraction_are_labels_in_every_format(kind: str, tmp_path: Path) -> None:
    path = write_in(tmp_path, kind, rows_of([0.5, 1.5, 0.5, 2.0]))
    assert names_in(loaded(path)) == (
        ["0.5", "1.5", "0.5", "2.0"] if kind in ("csv", "tsv") else ["0.5", "1.5", "0.5", "2"]
    )


# Labels that a person takes for one


ALIKE = [
    ["sport", "Sport", "SPORT"],
    ["TRUE", "True", "true"],
    ["sport news", "sport\u00a0news", "sport  news"],
    ["sport", "sp\u200bort", "\u200dsport", "sport\u2060"],
    ["caf\u00e9", "cafe\u0301", "CAF\u00c9"],
    ["sport", "spo\ufeffrt", "\ufeffsport"],
    ["ok", "\uff2f\uff2b"],  # full width
    ["sport", "s\u0440ort"],  # a Cyrillic p
    ["not-toxic", "not toxic", "not_toxic"],
    ["soft", "so\u00adft"],
    ["\u2764", "\u2764\ufe0f"],
    ["\u00c5", "A\u030a", "\u212b"],
    ["\u6f22", "\ufa47"],  # a compatibility ideograph
]


@pytest.mark.parametrize("group", ALIKE)
def test_labels_that_look_alike_are_named_with_the_flag_and_joined_by_it(group: list[str]) -> None:
    labels = [group[0]] * 3 + group[1:] + ["other"] * 2
    corpus = loaded(rows_of(labels))
    (told,) = notes_on(corpus, "look alike")
    assert "--data.merge-labels joins them" in told and len(corpus.label_names) == len(group) + 1
    assert len(set(told.partition(": ")[0].split(", "))) == len(group)  # each is shown differently
    assert all(char.isprintable() for char in told)
    merged = loaded(rows_of(labels), merge_labels=True)
    assert names_in(merged) == [group[0]] * (3 + len(group) - 1) + ["other"] * 2
    assert len(notes_on(merged, "joined")) == len(group) - 1 and not notes_on(merged, "look alike")


@pytest.mark.parametrize(
    "labels", [["A+", "A", "A-"], ["C", "C#", "C++"], ["-1", "1"], ["e", "\u00e9"], ["1-2", "12"], ["us", "uk"]]
)
def test_labels_that_differ_are_not_joined(labels: list[str]) -> None:
    corpus = loaded(rows_of(labels * 2), merge_labels=True)
    assert set(names_in(corpus)) == set(labels) and not notes_on(corpus, "joined")
    assert not notes_on(loaded(rows_of(labels * 2)), "look alike")


@pytest.mark.parametrize("other", ["SPORT", "sport\u200b", "s\u0440ort", "\ufeffsport"])
def test_a_test_split_that_spells_a_label_otherwise(other: str, tmp_path: Path) -> None:
    data = {"train": rows_of(["sport", "tech"] * 3), "test": rows_of([other, "tech"], "more")}
    error = error_of(data)
    assert "it looks like 'sport', and is spelled otherwise" in error and "--data.merge-labels" in error
    corpus = loaded(data, merge_labels=True)
    assert names_in(corpus, "test") == ["sport", "tech"]
    assert "(test rows): --data.merge-labels" in notes_on(corpus, "joined")[0]
    path = write_in(tmp_path, "jsonl", data["test"])
    with pytest.raises(DataError, match="it looks like 'sport'"):
        load_rows(str(path), ("sport", "tech"))
    rows, _ = load_rows(str(path), ("sport", "tech"), merge_labels=True)
    assert rows.labels.tolist() == [0, 1]


def test_given_names_are_what_look_alikes_are_joined_into() -> None:
    data = rows_of(["SPORT", "SPORT", "sport", "tech"])
    corpus = loaded(data, label_names=("tech", "sport"), merge_labels=True)
    assert corpus.label_names == ("tech", "sport") and names_in(corpus) == ["sport", "sport", "sport", "tech"]
    both = loaded(data, label_names=("tech", "sport", "SPORT"), merge_labels=True)
    assert names_in(both) == ["SPORT", "SPORT", "sport", "tech"]  # who lists both means both
    assert "join them in the list of label names" in notes_on(both, "look alike")[0]


@pytest.mark.parametrize("word", ["nan", "NaN", "null", "None", "N/A", "<NA>", "NaT"])
def test_a_word_for_a_missing_value_is_named(word: str) -> None:
    (told,) = notes_on(loaded(rows_of([word, "a", "b", "a"])), "missing?")
    assert repr(word) in told and "(1 rows)" in told and "--data.skip-bad-rows" in told


def test_labels_are_counted() -> None:
    assert notes_on(loaded(rows_of(["b", "a", "a"])), "labels") == ["2 in 3 labelled rows: a 2, b 1"]
    corpus = load_corpus(data_config(), 0, rows_of(["a", "b"] * 50))  # rows that are cut away are counted too
    assert sum(int(part.split()[-1]) for part in notes_on(corpus, "labels")[0].partition(": ")[2].split(", ")) == len(
        corpus.train.texts
    ) + len(corpus.test.texts) + len(corpus.validation.texts)
    many = [f"label{number:02}" for number in range(30) for _ in range(31 - number)]
    (told,) = notes_on(loaded(rows_of(many)), "labels")
    assert told.startswith("30 in 495 labelled rows: the largest label00 31, label01 30,")
    assert "label09 22; the smallest label25 6" in told and "label10" not in told and "label24" not in told


# Rows that repeat the header


HEADERS = [("text", "label"), ("TEXT", "Label"), (" text ", "label"), ("Text", "LABEL ")]


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_row_that_repeats_the_header_is_named_and_left_out_by_the_flag(
    header: tuple[str, str], kind: str, tmp_path: Path
) -> None:
    rows = rows_of(["a", "b", "a"])
    path = write_in(tmp_path, kind, [*rows, header, *rows_of(["b", "a"], "more")])
    (told,) = notes_on(loaded(path), "header")
    assert "1 of the train rows repeat the header" in told and "row 4" in told and "--data.skip-bad-rows" in told
    corpus = loaded(path, skip_bad_rows=True)
    assert corpus.label_names == ("a", "b") and len(corpus.train.texts) == 5
    assert [row.reason for row in corpus.skipped] == ["the row repeats the header"]
    assert corpus.skipped[0].place.row == 4 and not notes_on(corpus, "header")


def test_a_header_of_several_text_columns_is_known_too() -> None:
    columns = {"title": ["x", "title", "z"], "body": ["p", "body", "q"], "topic": ["a", "topic", "b"]}
    corpus = loaded(columns, text_column="title,body", skip_bad_rows=True)
    assert corpus.train.texts == ["x p", "z q"] and corpus.label_names == ("a", "b")


def test_a_row_about_a_label_is_no_header() -> None:
    corpus = loaded([("text", "a"), ("a story", "label"), ("x", "a")])
    assert not notes_on(corpus, "header") and len(corpus.train.texts) == 3


# Labels that cannot be meant


NOT_LABELS = {
    "regression": [round(0.13 * number, 2) for number in range(55)] + [0.13] * 5,
    "prices": [float(number * 7) for number in range(40)] + [7.0] * 3,
    "scores of two digits": [number % 60 / 10 + 0.05 for number in range(400)],
    "IDs": list(range(501, 531)),
    "six IDs": list(range(501, 507)),
    "codes": [f"doc-{number}" for number in range(12)],
    "hashes": [f"{number * 7919:08x}9" for number in range(1, 40)],
    "sentences": [f"{'very ' * number}good" for number in range(15)],
    "dates": [f"2024-01-{day:02}" for day in range(1, 25)],
}


@pytest.mark.parametrize("labels", NOT_LABELS.values(), ids=NOT_LABELS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_label_for_nearly_each_row_is_refused_in_every_format(labels: list[Any], kind: str, tmp_path: Path) -> None:
    error = error_of(write_in(tmp_path, kind, rows_of(labels)), test_fraction=0.2)
    assert "expected labels that many rows share" in error and "of column 'label'" in error
    assert "which column holds the labels? name it with --data.label-column" in error


@pytest.mark.parametrize(
    "labels",
    [
        ["a", "b"],
        ["1", "2", "3", "4", "5"],  # one row a rating
        [f"class {name}" for name in "abcdefghi"],  # one row a class
        [number % 77 for number in range(300)],
        [number / 2 for number in range(21)] * 3,  # ratings in half steps
        [f"intent {number % 20}" for number in range(40)],  # two rows a class
    ],
)
def test_labels_of_few_rows_each_are_labels(labels: list[Any]) -> None:
    assert len(loaded(rows_of(labels)).label_names) == len(set(labels))


def test_one_row_a_class_is_meant_where_no_row_is_held_out_or_there_are_unlabelled_texts(
    write: Callable[[str, str], Path],
) -> None:
    names = [f"class {letter}" for letter in "abcdefghijklmn"]
    assert "which column holds the labels" in error_of(rows_of(names), validation_fraction=0.05)
    assert "which column holds the labels" in error_of(rows_of(names), test_fraction=0.2)
    assert len(loaded(rows_of(names)).label_names) == 14
    more = str(write("more.csv", "text\nnew one\n"))
    assert len(loaded(rows_of(names), unlabelled=more, validation_fraction=0.05).label_names) == 14
    assert "which column holds the labels" in error_of(rows_of(range(501, 520)), unlabelled=more)


def test_what_there_is_too_much_of_is_cut_short_and_counted() -> None:
    groups = [name for letter in "abcdefghijklm" for name in (letter, letter.upper())]
    told = notes_on(loaded(rows_of(groups * 3)), "look alike")
    assert len(told) == 11 and told[-1] == "and 3 groups more"
    told = notes_on(loaded(rows_of(groups * 3), merge_labels=True), "joined")
    assert len(told) == 11 and told[-1] == "and 3 labels more"
    (told_labels,) = notes_on(loaded(rows_of(["a" * 5000, "b"])), "labels")
    assert len(told_labels) < 150


def test_names_that_are_listed_are_meant() -> None:
    names = tuple(f"intent-{number}" for number in range(30))
    assert loaded(rows_of(names), label_names=names).label_names == names


@pytest.mark.parametrize("label", [["sport", "tech"], [1, 0, 1], ["one"], []])
@pytest.mark.parametrize("kind", KINDS)
def test_a_list_of_labels_is_refused_by_name_in_every_format(label: list[Any], kind: str, tmp_path: Path) -> None:
    path = write_in(tmp_path, kind, rows_of([label] * 4))
    error = error_of(path)
    assert (
        f"row 1{' (line 2)' if kind in ('csv', 'tsv') else ' (line 1)' if kind == 'jsonl' else ''}: the label" in error
    )
    assert "is a list: several labels a text are not supported yet; 4 times in all" in error
    assert error.endswith("fix: one label a row, or another column with --data.label-column")
    with pytest.raises(DataError, match="is a list"):
        load_rows(str(path), ("sport", "tech"))


@pytest.mark.parametrize("label", ["sport \\ud83d", "\\udfff", "a\\ud800b"])
@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_half_a_surrogate_pair_in_a_label_is_named(label: str, kind: str, write: Callable[[str, str], Path]) -> None:
    rows = [f'{{"text": "x{number}", "label": "{name}"}}' for number, name in enumerate(["a", "b", label])]
    path = write(f"rows.{kind}", "\n".join(rows) if kind == "jsonl" else f"[{', '.join(rows)}]")
    problem = "the label holds half of a surrogate pair, which is no character"
    assert problem in error_of(path)
    with pytest.raises(DataError, match=problem):
        load_rows(str(path), ("a", "b"))
    corpus = loaded(path, skip_bad_rows=True)
    assert len(corpus.train.texts) == 2 and problem[4:] in corpus.skipped[0].reason


# Rows that cannot be used


def test_unlabelled_training_rows_are_told_once_with_the_flag_that_leaves_them_out(
    write: Callable[[str, str], Path],
) -> None:
    path = write("a.csv", "text,label\nx,a\ny,\nz,b\nu,\nv,a\n")
    error = error_of(path)
    assert "a.csv: 2 problems\n  row 2 (line 3): the label is missing; 2 times in all, also row 4 (line 5)\n" in error
    assert error.endswith("or leave them out with --data.skip-bad-rows")
    corpus = loaded(path, skip_bad_rows=True)
    assert corpus.train.texts == ["x", "z", "v"] and names_in(corpus) == ["a", "b", "a"]
    assert [(row.split, row.place.row, row.place.line, row.text) for row in corpus.skipped] == [
        ("train", 2, 3, "y"),
        ("train", 4, 5, "u"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "kept", "reasons"),
    [
        ("a.csv", "text,label\nx,a\ny\nz,b\n,a\n", ["x", "z"], ["1 fields, expected 2", "the text is empty"]),
        ("a.jsonl", '{"text": "x", "label": "a"}\nno json\n{"text": "z", "label": "b"}\n', ["x", "z"], ["no JSON"]),
        ("b.jsonl", '{"text": "x", "label": "a"}\n{"text": 3, "label": null}\n{"text": "z", "label": "b"}', ["x", "z"],
         ["the text is of type int, expected a string; the label is missing"]),
        ("c.jsonl", '{"text": "x", "label": "a"}\n{"text": "y"}\n{"text": "z", "label": "b"}', ["x", "z"],
         ["the label is missing"]),
        ("a.json", '[{"text": "x", "label": "a"}, 3, {"text": "z", "label": "b"}]', ["x", "z"], ["a JSON object"]),
        ("d.jsonl", '{"text": "x", "label": "a"}\n{"text": "y", "label": ["a", "b"]}\n{"text": "z", "label": "b"}\n',
         ["x", "z"], ["is a list"]),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_used_are_left_out_with_the_reason(
    name: str, content: str, kept: list[str], reasons: list[str], write: Callable[[str, str], Path]
) -> None:
    path = write(name, content)
    error_of(path)
    corpus = loaded(path, skip_bad_rows=True)
    assert corpus.train.texts == kept and len(corpus.skipped) == len(reasons)
    for row, reason in zip(corpus.skipped, reasons, strict=True):
        assert reason in row.reason


def test_a_label_that_training_does_not_have_is_left_out_of_the_test_rows() -> None:
    data = {"train": rows_of(["a", "b"]), "test": rows_of(["a", "c", "b"], "more")}
    corpus = loaded(data, skip_bad_rows=True)
    assert names_in(corpus, "test") == ["a", "b"] and corpus.skipped[0].split == "test"


def test_where_no_row_is_left_the_error_says_why() -> None:
    assert "the label is missing; 3 times in all" in error_of(rows_of([None] * 3), skip_bad_rows=True)
    error = error_of({"train": rows_of(["a", "b"]), "test": rows_of(["c", "d"])}, skip_bad_rows=True)
    assert "label 'c' is none of a, b" in error and "fix: correct these rows, without them none is left" in error


@pytest.mark.parametrize("labels", [[b"a", b"b", b"c"], [float("inf"), -float("inf")], ["a\ud83d", "\ude00b"]])
def test_labels_that_are_unusable_for_one_reason_are_one_cause(labels: list[Any]) -> None:
    assert f"row 1: the label {'holds' if isinstance(labels[0], str) else ''}" in error_of(rows_of(labels))
    assert f"{len(labels)} times in all" in error_of(rows_of(labels))


def test_a_file_that_breaks_off_is_refused_all_the_same(write: Callable[[str, str], Path]) -> None:
    path = write("a.csv", 'text,label\nx,a\ny,b\n"never closed,a\n')
    error = error_of(path, skip_bad_rows=True)
    assert "reading stopped here" in error and "skip-bad-rows" not in error
