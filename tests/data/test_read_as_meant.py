"""Files that used to be read otherwise than they were meant, without a word."""

import csv
from pathlib import Path

import pytest
from reading import data_config

from submillion.data.corpus import Corpus, load_corpus, load_rows
from submillion.data.inputs import check_input, iter_input
from submillion.data.labels import number_of
from submillion.data.lookalikes import shape_of
from submillion.errors import DataError
from submillion.inference.answers import Answers


def corpus_of(path: Path, **settings: object) -> Corpus:
    return load_corpus(data_config(source=str(path), test_fraction=0, validation_fraction=0, **settings), 0)


def texts_of(path: Path) -> list[str]:
    return [text for rows in iter_input(check_input(path)) for text in rows.texts]


def test_rejected_rows_of_a_split_in_parts_are_left_out(tmp_path: Path) -> None:
    for part in range(2):
        rows = (
            f"text,label,answer\na goal {part},sport,accept\na bank {part},money,accept\na vote {part},sport,reject\n"
        )
        (tmp_path / f"train-0000{part}-of-00002.csv").write_text(rows, encoding="utf-8")
    corpus = corpus_of(tmp_path)
    assert corpus.label_names == ("money", "sport") and corpus.train.texts == [
        "a goal 0",
        "a bank 0",
        "a goal 1",
        "a bank 1",
    ]


@pytest.mark.parametrize("word", ["reject", "Rejected", "ignored", "skip"])
def test_other_words_for_a_rejection_are_understood(word: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"text,label,answer\nx,a,accepted\ny,b,accepted\nz,a,{word}\n", encoding="utf-8")
    assert corpus_of(path).train.texts == ["x", "y"]


@pytest.mark.parametrize(
    ("label", "number"),
    [
        ("0,5", "0.5"),
        ("1,0", "1"),
        ("-0,25", "-0.25"),
        ("\u22121", "-1"),
        ("1,000", None),
        ("a,5", None),
        ("1,2,3", None),
    ],
)
def test_a_decimal_comma_is_understood(label: str, number: str | None) -> None:
    found = number_of(label)
    assert found == (None if number is None else type(found)(number))  # type: ignore[misc]


def test_labels_with_a_decimal_comma_are_never_places(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text;label\na;0,0\nb;0,5\nc;1,0\nd;1,5\n", encoding="utf-8")
    (tmp_path / "test.csv").write_text("text;label\nx;0\ny;0,5\nz;1\nw;1,5\n", encoding="utf-8")
    corpus = corpus_of(tmp_path)
    assert [corpus.label_names[label] for label in corpus.test.labels] == ["0,0", "0,5", "1,0", "1,5"]


def test_integers_that_stand_for_names_are_said(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,sport\nb,money\n", encoding="utf-8")
    (tmp_path / "test.csv").write_text("text,label\nx,0\ny,1\n", encoding="utf-8")
    said = "integers stand for places among the names: 0 = money, 1 = sport"
    assert said in [note.text for note in corpus_of(tmp_path).notes]
    rows, _ = load_rows(str(tmp_path / "test.csv"), ("money", "sport"))
    assert said in [note.text for note in rows.notes]


def test_a_number_in_the_first_row_is_no_name_of_a_column(tmp_path: Path) -> None:
    path = tmp_path / "yelp.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = [("2", "Contrary to what I read."), ("1", "Never again, I say."), ("2", "Good food, and fast.")]
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    checked = check_input(path, text_column="2")
    assert [text for rows_read in iter_input(checked) for text in rows_read.texts] == [text for _, text in rows]


def test_a_header_taken_by_a_usual_word_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("question,Where is it now?\ncomment,Nice one there.\nquestion,Who was that?\n", encoding="utf-8")
    checked = check_input(path, text_column="2")
    assert any("--no-header" in note or "no header" in note for note in checked.notes)


def test_lines_of_fasttext_of_which_one_has_no_label_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("__label__a x y\nno label here\n__label__b z\n", encoding="utf-8")
    with pytest.raises(DataError, match="found one that does not: line 2"):
        corpus_of(path)


def test_tabs_in_a_text_file_are_said(tmp_path: Path) -> None:
    path = tmp_path / "sms.txt"
    path.write_text("ham\tGo until noon\nspam\tFree entry\nham\tOk\n", encoding="utf-8")
    assert any("--separator tab reads columns" in note for note in check_input(path).notes)


def test_a_carriage_return_in_a_cell_stays_in_its_row(tmp_path: Path) -> None:
    import numpy as np

    from submillion.data.inputs import InputRows

    for format, delimiter in (("csv", ","), ("tsv", "\t")):
        answers = Answers(format, ("a\rb", "c"), False, False, ("note",))
        rows = InputRows(["x", "y"], None, {"note": ["one\rtwo", "three"]})
        written = answers.lines(rows, 0, np.array([0, 1]), None)
        path = tmp_path / f"out.{format}"
        path.write_text(written, encoding="utf-8", newline="")
        with path.open(newline="", encoding="utf-8") as file:
            assert list(csv.reader(file, delimiter=delimiter)) == [["0", "a\rb", "one\rtwo"], ["1", "c", "three"]]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("non-fiction", "non\u2013fiction"),
        ("women's", "women\u2019s"),
        ("sport", '"sport"'),
        ("Q&A", "Q&amp;A"),
        ("straße", "STRASSE"),
    ],
)
def test_more_labels_look_alike(one: str, other: str) -> None:
    assert shape_of(one) == shape_of(other)


def test_an_escaped_carriage_return_of_a_workbook_is_one(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (("text", "label"), ("line_x000D_\nnext", "a"), ("other", "b")):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    assert corpus_of(tmp_path / "a.xlsx").train.texts[0] == "line\r\nnext"


def test_what_no_answers_can_hold_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x", "\\ud800": 1}\n', encoding="utf-8")
    with pytest.raises(DataError, match="half of a surrogate pair in"):
        check_input(path, keep=["all"])
    path.write_text('{"text": "x", "deep": ' + "[" * 900 + "]" * 900 + "}\n", encoding="utf-8")
    try:
        check_input(path, keep=["deep"])
    except DataError as error:
        assert "too deep" in str(error)


SWALLOWING = {
    "a comma too many": [
        "id,text",
        "1,See it.",
        '2,"Goal tonight',
        "3,Cheap, loans",
        '4,The team was late."',
        "5,Bonus.",
    ],
    "a blank line": ["id,text", "1,See it.", '2,"Goal tonight', "", '4,The team was late."', "5,Bonus."],
    "labels": [
        "label,text",
        "s,See it.",
        's,"Goal tonight',
        "m,Cheap, cheap loans",
        's,The team was late"',
        "m,Bonus.",
    ],
}


@pytest.mark.parametrize("lines", SWALLOWING.values(), ids=SWALLOWING)
@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_a_quote_that_swallows_rows_is_seen_beside_a_broken_line(lines: list[str], ending: str, tmp_path: Path) -> None:
    """In a tsv, which is read without quoting then, it is the broken line that is named."""
    content = "\n".join([*lines, ""])
    (tmp_path / f"a.{ending}").write_text(content.replace(",", "\t") if ending == "tsv" else content, encoding="utf-8")
    with pytest.raises(DataError, match=r"lines 3 to 5|fields, expected 2|a blank line between rows"):
        texts_of(tmp_path / f"a.{ending}")


def test_a_problem_beside_rejected_rows_names_its_own_part(tmp_path: Path) -> None:
    head = "text,label,answer\n"
    (tmp_path / "train-00000-of-00002.csv").write_text(f"{head}a,x,accept\nb,y,reject\n", encoding="utf-8")
    (tmp_path / "train-00001-of-00002.csv").write_text(f"{head},x,accept\nd,y,accept\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"row 1 \(line 2\) of train-00001-of-00002\.csv: the text is empty"):
        corpus_of(tmp_path)
