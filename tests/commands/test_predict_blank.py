"""Blank and missing texts in a file that is predicted, and what is no text."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from answers import TEXTS, WRITERS

from submillion.commands.train import TrainResult

BLANKS = {
    "empty": "",
    "spaces": "  ",
    "tabs": "\t",
    "line ends": "\n\n",
    "no-break": "\u00a0",
    "width 0": "\u200b\ufeff",
}


@pytest.mark.parametrize("out", ["csv", "tsv", "jsonl"])
@pytest.mark.parametrize("kind", WRITERS)
def test_blank_texts_get_the_answer_of_the_empty_text(kind: str, out: str, trained: TrainResult, predict: Any) -> None:
    texts = [TEXTS[0], *BLANKS.values(), TEXTS[1]]
    rows = [{"id": f"r{index}", "text": text} for index, text in enumerate(texts)]
    answers, printed = predict(rows, "--scores", kind=kind, out=out)
    names = trained.classifier.predict([TEXTS[0], "", TEXTS[1]])
    name = "name" if out == "jsonl" else "Name"
    assert [answer[name] for answer in answers] == [names[0], *[names[1]] * len(BLANKS), names[2]]
    blank = [
        answer["blank"] if out == "jsonl" else {"true": True, "false": False}[answer["Blank"]] for answer in answers
    ]
    assert blank == [False, *[True] * len(BLANKS), False]
    assert f"{len(BLANKS)} rows have no text and got the label of an empty text" in printed


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA])
@pytest.mark.parametrize("kind", ["jsonl", "parquet", "pkl", "pickle"])
def test_missing_texts_do_too(missing: Any, kind: str, trained: TrainResult, tmp_path: Path, predict: Any) -> None:
    if kind == "jsonl" and missing is pd.NA:
        pytest.skip("JSON has no such value")
    answers, printed = predict([{"text": TEXTS[0]}, {"text": missing}, {"text": TEXTS[1]}], "--scores", kind=kind)
    assert [answer["Label"] for answer in answers] == trained.classifier.predict([TEXTS[0], "", TEXTS[1]])
    assert [answer["Blank"] for answer in answers] == ["false", "true", "false"]
    assert "1 row has no text and got the label of an empty text" in printed


def test_lines_of_a_txt_and_joined_columns_may_be_blank(trained: TrainResult, tmp_path: Path, predict: Any) -> None:
    (tmp_path / "rows.txt").write_text(f"{TEXTS[0]}\n\n \n{TEXTS[1]}\n", encoding="utf-8")
    answers, _ = predict(tmp_path / "rows.txt", "--scores")
    assert [answer["Blank"] for answer in answers] == ["false", "true", "true", "false"]
    rows = [{"a": TEXTS[0], "b": ""}, {"a": " ", "b": ""}, {"a": "", "b": TEXTS[1]}]
    answers, _ = predict(rows, "--scores", "--text-column", "a,b", "--keep", "a")
    assert [answer["Blank"] for answer in answers] == ["false", "true", "false"]
    assert [answer["Label"] for answer in answers] == trained.classifier.predict([TEXTS[0], "", TEXTS[1]])
    assert [answer["a"] for answer in answers] == [TEXTS[0], " ", ""]  # as it stands, not as it was joined


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_blank_line_of_a_single_column_is_a_row(end: str, trained: TrainResult, tmp_path: Path, predict: Any) -> None:
    """So a spreadsheet writes an empty cell. Blank lines at the end of the file are none."""
    for suffix in ("csv", "tsv"):
        path = tmp_path / f"one.{suffix}"
        path.write_bytes(end.join(["text", "", TEXTS[0], "", "", '""', TEXTS[1], "", ""]).encode())
        answers, printed = predict(path, "--scores")
        blank = ["true", "false", "true", "true", "true", "false"]
        assert [answer["Blank"] for answer in answers] == blank and "4 rows have no text" in printed
        names = trained.classifier.predict([TEXTS[0], "", TEXTS[1]])
        assert [answer["Label"] for answer in answers] == [names[index] for index in (1, 0, 1, 1, 1, 2)]


def test_a_file_of_blank_texts_alone_is_answered(predict: Any) -> None:
    answers, printed = predict([{"text": "", "id": "4"}, {"text": " ", "id": "5"}], "--scores")
    assert [answer["ID"] for answer in answers] == ["4", "5"] and "2 rows have no text" in printed


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jsonl", b'{"text": "oil"}\n{"text": 3.5}\n', "row 2 (line 2): the text is of type float"),
        ("a.jsonl", b'{"text": "oil"}\n{"text": ["oil"]}\n', "row 2 (line 2): the text is of type list"),
        ("a.jsonl", b'{"text": "oil"}\n{"text": "\\ud83d"}\n', "row 2 (line 2): the text holds half of a surrogate"),
        ("a.jsonl", b'{"text": "oil"}\n{"txt": "coach"}\n', "row 2: no key 'text'"),
        ("a.csv", b"text\noil\ncaf\xe9 \xa3 x\n", "line 3: byte 4 (0xe9) is not UTF-8"),
        ("a.txt", b"oil\nnu\0l\n", "line 2: byte 3 is NUL"),
    ],
)
def test_what_cannot_be_read_as_a_text_is_an_error(
    name: str, content: bytes, problem: str, tmp_path: Path, refused: Any
) -> None:
    (tmp_path / name).write_bytes(content)
    assert problem in refused(tmp_path / name)
