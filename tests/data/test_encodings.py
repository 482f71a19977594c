"""Encodings are found by the bytes and said, or refused; files that are no text are refused by what they are."""

import gzip

import pandas as pd
import pytest
from reading import labelled, refusal, texts

from submillion.data.formats.options import ReadOptions

SENTENCES = {
    "cp1252": ["Le café était fermé hier.", "Un dîner très agréable à Nîmes.", "Schöne Grüße aus München"],
    "cp1251": ["Погода сегодня хорошая", "Я люблю футбол и хоккей", "Банк повысил ставку"],
    "gb18030": ["今天天气很好", "我喜欢足球比赛", "石油价格上涨了"],
    "cp932": ["今日はいい天気です", "サッカーが好きです", "銀行の金利が上がる"],
    "big5": ["今天天氣很好", "我喜歡足球比賽", "石油價格上漲了"],
    "cp1250": ["Příliš žluťoučký kůň", "Zażółć gęślą jaźń", "Łódź jest piękna"],
}
UNICODE = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"]
LABELS = ["x", "y", "x"]


def content(sentences, encoding, end="\n"):
    rows = [("text", "label"), *zip(sentences, LABELS, strict=True)]
    return "".join(f"{text},{label}{end}" for text, label in rows).encode(encoding)


@pytest.mark.parametrize("encoding", SENTENCES)
def test_an_encoding_is_found_and_said(write, encoding):
    path = write("a.csv", content(SENTENCES[encoding], encoding))
    read, notes = labelled(path)
    assert read == list(zip(SENTENCES[encoding], LABELS, strict=True))
    assert [f"read as {encoding}" in note and "--data.encoding" in note for note in notes] == [True]


@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a.jsonl"])
@pytest.mark.parametrize("encoding", [*SENTENCES, *UNICODE])
def test_the_setting_decides(write, name, encoding):
    sentences = SENTENCES.get(encoding, SENTENCES["gb18030"])
    frame = pd.DataFrame({"text": sentences})
    written = {
        "a.csv": frame.to_csv(index=False),
        "a.txt": "".join(f"{text}\n" for text in sentences),
        "a.jsonl": frame.to_json(orient="records", lines=True, force_ascii=False),
    }[name]
    read, notes = texts(write(name, written.encode(encoding)), ReadOptions(encoding=encoding))
    assert read == sentences and notes == []


@pytest.mark.parametrize("encoding", [*UNICODE[:3], "utf-32"])
def test_utf_16_and_32_are_read_at_once(write, encoding):
    sentences = ["Goal – now", "Bank", "Late"]
    if encoding == "utf-32":
        path = write("a.csv", content(sentences, encoding))
    else:
        path = write("a.csv", content(sentences, encoding, "\r\n"))
    assert [text for text, _ in labelled(path)[0]] == sentences


@pytest.mark.parametrize("raw", ["Гол".encode("cp1251") * 2, "经济增长".encode("gb18030"), bytes(range(128, 256)) * 3])
def test_bytes_that_do_not_tell_are_refused_with_the_setting(write, raw):
    error = refusal(write("a.csv", b"text,label\n" + raw + b",x\n"))
    assert "--data.encoding NAME" in error and "save" in error


def test_a_stray_byte_in_utf_8_is_named_by_its_line(write):
    path = write("a.csv", "text,label\n今天,x\n".encode() + b"bad \xa3,y\n")
    assert "line 3: byte 5 (0xa3) is not UTF-8" in refusal(path)
    path = write("b.csv", "text,label\nétait très là,x\n".encode() + b"\xe9t\xe9,y\n\xe9,y\n")
    assert "line 3: byte 1 (0xe9) is not UTF-8" in refusal(path)


def test_bytes_that_an_asked_encoding_does_not_have_are_refused(write):
    error = refusal(write("a.csv", content(SENTENCES["gb18030"], "gb18030")), encoding="ascii")
    assert "the bytes are not ascii" in error and "--data.encoding" in error


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.txt"])
def test_every_line_end(write, name, end):
    lines = {
        "a.csv": ["text,label", "Goal,x", "Bank,y"],
        "a.tsv": ["text\tlabel", "Goal\tx", "Bank\ty"],
        "a.jsonl": ['{"text": "Goal"}', '{"text": "Bank"}'],
        "a.txt": ["Goal", "Bank"],
    }[name]
    assert texts(write(name, end.join([*lines, ""]).encode()))[0] == ["Goal", "Bank"]
    assert texts(write(name, end.join(lines).encode()))[0] == ["Goal", "Bank"]


def test_cr_line_ends_with_a_line_feed_inside_quotes(write):
    path = write("a.csv", b'text,label\r"two\nlines",x\rBank,y\r')
    assert labelled(path)[0] == [("two\nlines", "x"), ("Bank", "y")]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt", "a.jsonl", "a.json"])
@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"PK\x03\x04 more", "an Excel workbook"),
        (gzip.compress(b"text\na\n", mtime=0), "a gzip file"),
        (b"PAR1....PAR1", "a Parquet file"),
        (b"%PDF-1.7 ...", "a PDF document"),
        (b"\xd0\xcf\x11\xe0 old", "an old Office document"),
        (b"SQLite format 3\0", "an SQLite database"),
    ],
)
def test_other_bytes_than_the_name_says_are_named(write, name, raw, words):
    error = refusal(write(name, raw))
    assert words in error and "fix: give the file the ending that its content has" in error
