"""The columns of a file that is predicted: IDs and copied columns."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from answers import TEXTS, WRITERS, with_ids, write
from news import LABELS

from submillion.cli import main
from submillion.commands.train import TrainResult

# IDs

STRINGS = {
    "numbers": ["501", "502", "503", "504"],
    "leading zeros": ["007", "7", "07", "0"],
    "big integers": ["12345678901234567890123", "9007199254740993", "9007199254740992", "-18446744073709551616"],
    "codes": ["a,b", 'x"y', "tab\there", "two\nlines"],
    "floats": ["1.10", "1.1", "1e3", "0x10"],
    "dates and hashes": ["2024-01-01", "5f2b9323-a0b2", "é", "null"],
}


@pytest.mark.parametrize("out", ["csv", "tsv", "jsonl"])
@pytest.mark.parametrize("kind", WRITERS)
def test_ids_that_are_strings_are_copied_as_they_stand(kind: str, out: str, predict: Any) -> None:
    for ids in STRINGS.values():
        answers, printed = predict(with_ids(ids), kind=kind, out=out)
        assert [answer["id" if out == "jsonl" else "ID"] for answer in answers] == ids
        assert "IDs are those of the column 'ID'" in printed


@pytest.mark.parametrize("out", ["csv", "tsv", "jsonl"])
@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet", "pkl", "pickle"])
@pytest.mark.parametrize("ids", [[501, 502, 7], [2**53 + 1, 2**53, 2**63 - 1], [-5, 0, 5]])
def test_ids_that_are_integers_stay_integers(ids: list[int], kind: str, out: str, predict: Any) -> None:
    answers, _ = predict(with_ids(ids), kind=kind, out=out)
    copied = [answer["id" if out == "jsonl" else "ID"] for answer in answers]
    assert copied == (ids if out == "jsonl" else [str(value) for value in ids])


def test_json_holds_integers_larger_than_64_bits(predict: Any) -> None:
    answers, _ = predict(with_ids([10**30, 10**30 + 1]), kind="jsonl", out="jsonl")
    assert [answer["id"] for answer in answers] == [10**30, 10**30 + 1]


@pytest.mark.parametrize("name", ["id", "ID", "Id", " id "])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_column_called_id_is_taken_without_asking(name: str, kind: str, predict: Any) -> None:
    answers, printed = predict(with_ids(["b", "a", "c"], name), kind=kind)
    shown = name.strip() if kind in ("csv", "tsv") else name  # the reader strips the names of a header
    assert [answer["ID"] for answer in answers] == ["b", "a", "c"] and f"of the column {shown!r}" in printed


@pytest.mark.parametrize("name", ["idx", "uid", "text_id", "identity", "number"])
def test_other_columns_are_not_taken_for_ids(name: str, predict: Any) -> None:
    answers, printed = predict(with_ids(["7", "8"], name))
    assert [answer["ID"] for answer in answers] == ["0", "1"] and "IDs are" not in printed
    answers, printed = predict(with_ids(["7", "8"], name), "--id-column", name)
    assert [answer["ID"] for answer in answers] == ["7", "8"] and f"IDs are those of the column {name!r}" in printed


@pytest.mark.parametrize(
    ("ids", "flaws"),
    [
        (["5", "6", "5"], "1 repeated"),
        (["5", "5", "5", "5"], "3 repeated"),
        (["5", "", "6"], "1 blank"),
        (["5", " ", "6", "6"], "1 repeated and 1 blank"),
        (["", "", "1"], "2 blank"),
    ],
)
@pytest.mark.parametrize("kind", WRITERS)
def test_ids_that_are_repeated_or_blank_are_not_taken_and_that_is_said(
    ids: list[str], flaws: str, kind: str, predict: Any
) -> None:
    answers, printed = predict(with_ids(ids), kind=kind)
    assert [answer["ID"] for answer in answers] == [str(index) for index in range(len(ids))]
    assert f"IDs are counted from 0: the column 'ID' has values that are no IDs: {flaws}; --id-column 'ID'" in printed
    answers, printed = predict(with_ids(ids), "--id-column", "ID", kind=kind)
    assert [answer["ID"] for answer in answers] == ids
    assert f"IDs are those of the column 'ID', of which {flaws}" in printed


def test_ids_that_are_missing_are_blank(predict: Any) -> None:
    for kind in ("jsonl", "parquet", "pkl", "pickle"):
        answers, printed = predict(with_ids(["5", None, "6"]), kind=kind)
        assert [answer["ID"] for answer in answers] == ["0", "1", "2"] and "no IDs: 1 blank" in printed


def test_rows_of_json_may_lack_the_id(tmp_path: Path, predict: Any) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 4, "text": "oil"}\n{"text": "coach"}\n{"id": 5, "text": "war"}\n')
    answers, printed = predict(path)
    assert [answer["ID"] for answer in answers] == ["0", "1", "2"] and "1 blank" in printed
    answers, _ = predict(path, "--id-column", "id", out="jsonl")
    assert [answer["id"] for answer in answers] == [4, None, 5]


def test_ids_that_no_file_can_hold_are_not_taken(tmp_path: Path, predict: Any) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a", "text": "oil"}\n{"id": "b\\ud83d", "text": "coach"}\n')
    answers, printed = predict(path)
    assert [answer["ID"] for answer in answers] == ["0", "1"] and "no IDs: 1 with half of a surrogate" in printed


def test_of_several_columns_called_id_none_is_taken_without_asking(predict: Any) -> None:
    rows = [{"id": "a", "ID": "7", "text": TEXTS[0]}, {"id": "b", "ID": "8", "text": TEXTS[1]}]
    answers, printed = predict(rows)
    assert [answer["ID"] for answer in answers] == ["0", "1"]
    assert "several columns are called id ('id', 'ID'); --id-column NAME takes one of them" in printed
    answers, _ = predict(rows, "--id-column", "id")
    assert [answer["ID"] for answer in answers] == ["a", "b"]


def test_without_ids_the_rows_are_counted_over_all_chunks(
    predict: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("submillion.commands.predict.iter_input.__defaults__", (4,))
    answers, printed = predict([{"text": text} for text in TEXTS + TEXTS])
    assert [answer["ID"] for answer in answers] == [str(index) for index in range(12)] and "IDs" not in printed
    answers, _ = predict(with_ids([f"x{index}" for index in range(6)]))
    assert [answer["ID"] for answer in answers] == [f"x{index}" for index in range(6)]


def test_a_column_of_texts_beside_one_called_id_needs_no_name(trained: TrainResult, predict: Any) -> None:
    rows = [{"id": f"r{index}", "what they wrote": text} for index, text in enumerate(TEXTS)]
    answers, _ = predict(rows)
    assert [answer["Label"] for answer in answers] == trained.classifier.predict(TEXTS)
    assert [answer["ID"] for answer in answers] == [f"r{index}" for index in range(6)]


@pytest.mark.parametrize("flag", ["--id-column", "--keep"])
def test_a_column_that_is_not_there_is_named_with_the_nearest(flag: str, tmp_path: Path, refused: Any) -> None:
    for kind in WRITERS:
        path = write(tmp_path / f"rows.{kind}", [{"number": "1", "title": "a", "text": "oil"}])
        error = refused(path, flag, "numbr")
        assert f"no column 'numbr' ({flag}); the columns are number, title, text; did you mean number?" in error


@pytest.mark.parametrize("flags", [("--id-column", "id"), ("--keep", "all"), ("--keep", "a", "b")])
def test_standard_input_and_lines_of_labels_have_no_columns(
    flags: tuple[str, ...], trained: TrainResult, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "-", "--model", str(trained.folder), *flags]) == 2
    assert f"{flags[0]}: standard input is a text a line, without columns" in capsys.readouterr().err
    assert main(["predict", "x.csv", "--model", str(trained.folder), "--format", "labels", *flags]) == 2
    assert f"--format labels has no place for {flags[0]}" in capsys.readouterr().err


def test_a_file_behind_keep_is_an_error_that_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "rows.csv", with_ids(["1"]))
    for file in (str(path), "-"):
        assert main(["predict", "--keep", "title", file]) == 2
        error = capsys.readouterr().err
        assert f"--keep: expected columns, found the file {file}" in error
        assert f"submillion predict {file} --keep title" in error


def test_a_copied_column_makes_standard_output_csv(
    trained: TrainResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "rows.csv", with_ids(["7", "8"]))
    assert main(["predict", str(path), "--model", str(trained.folder), "--output", "-", "--keep", "text"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "ID,Label,text"
    assert main(["predict", str(path), "--model", str(trained.folder), "--output", "-"]) == 0
    assert capsys.readouterr().out.splitlines() == trained.classifier.predict(TEXTS[:2])


# Copied columns

WIDE = [
    {"id": "b1", "title": "Oil, up", "text": TEXTS[0], "note": 'say "no"', "label": "x"},
    {"id": "b2", "title": "", "text": TEXTS[1], "note": "two\nlines", "label": "y"},
]


@pytest.mark.parametrize("out", ["csv", "tsv", "jsonl"])
@pytest.mark.parametrize("kind", WRITERS)
def test_columns_are_copied_in_the_order_that_is_asked_for(kind: str, out: str, predict: Any) -> None:
    answers, _ = predict(WIDE, "--keep", "note", "title", kind=kind, out=out)
    assert list(answers[0])[-2:] == ["note", "title"]
    assert [(answer["note"], answer["title"]) for answer in answers] == [(row["note"], row["title"]) for row in WIDE]


@pytest.mark.parametrize("out", ["csv", "tsv", "jsonl"])
@pytest.mark.parametrize("kind", WRITERS)
def test_all_is_every_column_but_the_ids(kind: str, out: str, predict: Any) -> None:
    answers, printed = predict(WIDE, "--keep", "all", kind=kind, out=out)
    label = "input_label" if out == "jsonl" else "label"
    lead = ["id", "label", "name"] if out == "jsonl" else ["ID", "Label"]
    assert list(answers[0]) == [*lead, "title", "text", "note", label]
    assert [answer[label] for answer in answers] == ["x", "y"]
    assert [answer["text"] for answer in answers] == [row["text"] for row in WIDE]
    assert ("the column 'label' is called 'input_label' in the answers" in printed) == (out == "jsonl")


def test_copied_columns_stand_behind_the_scores(predict: Any) -> None:
    answers, _ = predict(WIDE, "--keep", "note", "id", "--scores")
    assert list(answers[0]) == ["ID", "Label", "Name", "Blank", *(f"p_{name}" for name in LABELS), "note", "id"]
    assert [answer["ID"] for answer in answers] == [answer["id"] for answer in answers] == ["b1", "b2"]


def test_ids_that_are_not_taken_are_copied_with_all(predict: Any) -> None:
    answers, printed = predict(with_ids(["5", "5"]), "--keep", "all")
    assert list(answers[0]) == ["ID", "Label", "input_ID", "text"] and "IDs are counted" in printed
    assert [answer["input_ID"] for answer in answers] == ["5", "5"]


@pytest.mark.parametrize(
    ("columns", "flags"),
    [
        (("Label", "input_Label"), ("all",)),
        (("input_Label", "Label"), ("input_Label", "Label")),
        (("Name", "input_Name"), ("all", "--scores")),
        (("p_World", "input_p_World"), ("all", "--scores")),
    ],
)
def test_two_columns_of_one_name_are_refused(
    columns: tuple[str, str], flags: tuple[str, ...], tmp_path: Path, refused: Any
) -> None:
    path = write(tmp_path / "rows.csv", [{"text": "oil", columns[0]: "1", columns[1]: "2"}])
    assert "--keep: the column " in (error := refused(path, "--keep", *flags)) and "as another one is" in error


def test_values_of_json_are_copied_as_they_are(tmp_path: Path, predict: Any) -> None:
    values = [{"a": [1, 2.5, None]}, [True, "x"], 3, 2.5, None, True, "é\u2028"]
    path = write(tmp_path / "rows.jsonl", [{"text": "oil", "value": value} for value in values])
    answers, _ = predict(path, "--keep", "value", out="jsonl")
    assert [answer["value"] for answer in answers] == values
    answers, _ = predict(path, "--keep", "value")
    expected = ['{"a": [1, 2.5, null]}', '[true, "x"]', "3", "2.5", "", "true", "é\u2028"]
    assert [answer["value"] for answer in answers] == expected


def test_values_that_json_has_no_kind_for_are_strings(tmp_path: Path, predict: Any) -> None:
    when = pd.Timestamp("2024-02-03 04:05")
    rows = [{"text": "oil", "when": when, "share": float("inf"), "raw": b"ab", "gone": float("nan")}]
    path = write(tmp_path / "rows.parquet", rows)
    answers, _ = predict(path, "--keep", "when", "share", "raw", "gone", out="jsonl")
    kept = {name: answers[0][name] for name in ("when", "share", "raw", "gone")}
    assert kept == {"when": "2024-02-03 04:05:00", "share": "inf", "raw": "ab", "gone": None}


def test_rows_of_json_may_lack_a_copied_column(tmp_path: Path, predict: Any) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "oil", "url": "u"}\n{"text": "coach"}\n')
    answers, _ = predict(path, "--keep", "url", out="jsonl")
    assert [answer["url"] for answer in answers] == ["u", None]


@pytest.mark.parametrize("flags", [("--id-column", "id"), ("--keep", "id"), ("--keep", "all")])
def test_half_a_surrogate_pair_is_named_before_anything_is_written(
    flags: tuple[str, ...], tmp_path: Path, refused: Any
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a", "text": "oil"}\n{"id": "b\\ud83d", "text": "coach"}\n')
    assert "row 2 (line 2): the column 'id' holds half of a surrogate pair" in refused(path, *flags)
