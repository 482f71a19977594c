"""The separator is found by counting, whatever the file's name says, and a comma in a number or a text is none."""

import pytest
from reading import labelled, refusal, texts

from submillion.data.formats.options import ReadOptions

PAIRS = [("Oil, gas and coal", "money"), ("A late goal; a cup", "sport"), ("Rates rise", "money")]


def written(separator, pairs=PAIRS, head="text{s}label"):
    lines = [head.replace("{s}", separator)]
    lines += [separator.join(f'"{cell}"' if separator in cell else cell for cell in pair) for pair in pairs]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz"])
@pytest.mark.parametrize(("separator", "word"), [(",", "','"), (";", "';'"), ("\t", "a tab"), ("|", "'|'")])
def test_each_separator_in_each_file(write, name, separator, word):
    import gzip

    content = written(separator).encode()
    read, notes = labelled(write(name, gzip.compress(content) if name.endswith("gz") else content))
    assert read == PAIRS
    usual = "\t" if name.endswith("tsv") else ","
    assert [note for note in notes if word in note and "--data.separator" in note] == list(notes)
    assert bool(notes) == (separator != usual)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("id;score;text\n1;0,5;Goal, coach\n2;1,5;Bank\n", ["Goal, coach", "Bank"]),
        ("0,5;Goal one\n1,5;Bank two\n2,25;Loan three\n", ["Goal one", "Bank two", "Loan three"]),
        ("3;Well, a goal\n4;Hm, a bank\n5;Ah, a loan\n", ["Well, a goal", "Hm, a bank", "Ah, a loan"]),
        ("id|text\n1|Goal, coach, cup\n2|Bank\n", ["Goal, coach, cup", "Bank"]),
        ("id\ttext\n1\tGoal; coach\n2\tBank | bonds\n", ["Goal; coach", "Bank | bonds"]),
    ],
)
def test_commas_of_numbers_and_of_texts_do_not_count(write, content, expected):
    assert texts(write("a.csv", content))[0] == expected


def test_rows_that_do_not_fit_are_named_with_the_separator_that_the_others_have(write):
    content = written(";") + "short\n" + "".join(f"Text {i};money\n" for i in range(9))
    assert "row 4 (line 5): 1 fields, expected 2 as in the header" in refusal(write("a.csv", content))


@pytest.mark.parametrize(
    ("spelling", "character"), [("tab", "\t"), ("~", "~"), ("pipe", "|"), ("\\t", "\t"), (";", ";")]
)
def test_the_setting_decides(write, spelling, character):
    assert labelled(write("a.csv", written(character)), separator=spelling)[0] == PAIRS


def test_a_separator_that_the_first_line_does_not_hold_is_refused(write):
    error = refusal(write("a.csv", written(";")), separator="|")
    assert "expected '|' between the columns, as --data.separator says, found ';' in the first line" in error
    assert "leave --data.separator out" in error


def test_a_single_column_is_not_cut_at_its_commas(write):
    rows = ["Oil, gas and coal", "A goal", "Rates rise, again"]
    content = "text\n" + "".join(f'"{row}"\n' for row in rows)
    assert texts(write("a.csv", content), ReadOptions(prefix="--"))[0] == rows
