"""A first line that looks like the rows below it is a row; --header and --no-header settle it."""

import json

import pytest
from reading import labelled, refusal, texts

from submillion.commands.flags import PredictFlags
from submillion.config.flags import read_flags
from submillion.config.resolve import resolve
from submillion.config.schema import DataConfig
from submillion.data.corpus import load_corpus
from submillion.data.formats.options import ReadOptions
from submillion.errors import DataError


@pytest.mark.parametrize(
    "lines",
    [
        ["Goal and coach.", "Bank and bonds.", "Referee and league."],
        ["where is my card", "cancel my order", "refund please"],
        ["Is it open today?", "No.", "Maybe later!"],
        ["great", "awful", "great"],
        ["A long text without any mark at its end", "Another one", "A third"],
    ],
)
def test_a_first_line_like_the_others_is_a_text(write, lines):
    read, notes = texts(write("a.csv", "\n".join(lines) + "\n"))
    assert read == lines
    assert any("no header" in note and "--header" in note for note in notes)


@pytest.mark.parametrize("name", ["text", "headline", "words", "utterance", "customer_message", "headlines of today"])
def test_a_name_above_sentences_is_a_header(write, name):
    rows = ["Oil climbs on news.", "The cup is won late.", "A bank pays a bonus."]
    assert texts(write("a.csv", "\n".join([name, *rows]) + "\n"))[0] == rows


@pytest.mark.parametrize("head", ["id,words", "nr,utterance", "when,what they said"])
def test_a_word_above_numbers_is_a_header(write, head):
    assert texts(write("a.csv", f"{head}\n1,Oil climbs.\n2,Goal!\n"))[0] == ["Oil climbs.", "Goal!"]


def test_a_guessed_header_is_said(write):
    _, notes = texts(write("a.csv", "words\nOil climbs.\nA late goal.\n"))
    assert notes == [
        "a.csv: the first line (words) is taken for the names of the columns; --no-header reads it as a row"
    ]


def test_the_settings_decide(write):
    path = write("a.csv", "Goal and coach.\nBank and bonds.\n")
    assert texts(path, ReadOptions(header="yes"))[0] == ["Bank and bonds."]
    path = write("b.csv", "text\nOil climbs.\n")
    assert texts(path, ReadOptions(header="no"))[0] == ["text", "Oil climbs."]
    assert texts(path)[1] == []


@pytest.mark.parametrize("name", ["ag.csv", "ag.tsv"])
def test_columns_by_number(write, name):
    separator = "," if name.endswith("csv") else "\t"
    rows = [("3", "Title", "Text one"), ("1", "Other", "Text two"), ("3", "More", "Text three")]
    path = write(name, "".join(separator.join(f'"{cell}"' for cell in row) + "\n" for row in rows))
    expected = [(f"{title} {text}", label) for label, title, text in rows]
    assert labelled(path, header="no", text_column="2,3", label_column="1")[0] == expected
    assert labelled(path, text_column="2,3", label_column="1")[0] == expected
    error = refusal(path)
    assert "is read as a row" in error and "--data.text-column 1" in error and "--header" in error


def test_a_number_names_a_column_with_a_header_too(write):
    path = write("a.csv", "id,body,kind\n1,Oil climbs.,x\n2,Goal!,y\n")
    assert labelled(path, text_column="2", label_column="3")[0] == [("Oil climbs.", "x"), ("Goal!", "y")]
    assert "no column '4'" in refusal(path, text_column="4", label_column="3")


def test_missing_columns_suggest_no_header(write):
    error = refusal(write("a.csv", "Goal tonight.,sport\nBank bonus.,money\nLate goal.,sport\n"), header="yes")
    assert "looks like a row" in error and "--no-header" in error


def test_columns_that_are_asked_for_by_name_make_a_header(write):
    path = write("a.csv", "kind,body\nsport,goal\nmoney,bank\n")
    assert labelled(path, text_column="body", label_column="kind")[0] == [("goal", "sport"), ("bank", "money")]


def test_lines_of_json_arrays_have_a_header_or_none(write):
    rows = [["Late goal.", "sport"], ["Bank bonus.", "money"]]
    without = "".join(json.dumps(row) + "\n" for row in rows)
    assert labelled(write("a.jsonl", without), text_column="1", label_column="2")[0] == list(map(tuple, rows))
    assert labelled(write("b.jsonl", '["text", "label"]\n' + without))[0] == list(map(tuple, rows))


def test_unlabelled_texts_without_a_header_are_all_read(write):
    path = write("train.csv", "text,label\n" + "".join(f"Row number {i} of {i % 2}.,{i % 2}\n" for i in range(20)))
    more = write("more.csv", "Goal and coach are here.\nBank and bonds pay.\nReferee and league meet.\n")
    corpus = load_corpus(DataConfig(source=str(path), unlabelled=str(more)), 0)
    assert len(corpus.unlabelled) == 3 and any("no header" in note.text for note in corpus.notes)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--no-header"], "no"),
        (["--header"], "yes"),
        (["--header", "auto"], "auto"),
        (["--header=no"], "no"),
        (["--no_header"], "no"),
        (["--header", "--scores"], "yes"),
    ],
)
def test_the_short_spellings(words, expected):
    values, others = read_flags(PredictFlags, [*words, "file.csv"], positionals=1)
    assert values["header"] == expected and others == ["file.csv"]
    if "--scores" not in words:
        assert resolve(words).config.data.reading == ((f"header={expected}",) if expected != "auto" else ())


def test_columns_without_a_name_that_nobody_asked_for(write):
    assert labelled(write("a.csv", ",text,label\n0,Goal.,x\n1,Bank.,y\n"))[0] == [("Goal.", "x"), ("Bank.", "y")]
    assert labelled(write("b.csv", "text,label,,\nGoal.,x,,\nBank.,y,,\n"))[0] == [("Goal.", "x"), ("Bank.", "y")]
    assert labelled(write("c.csv", "text,label,note,note\nGoal.,x,1,2\nBank.,y,1,2\n"))[0][0] == ("Goal.", "x")
    with pytest.raises(DataError, match="found twice: 'label'"):
        labelled(write("d.csv", "text,label,label\nGoal.,x,1\n"))
