"""The columns of predict's input and output: IDs, copied columns, blank texts, names and integers."""

import csv
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from news import LABELS, news_rows, run_of

from submillion.cli import main
from submillion.inference.train import TrainResult, train

TEXTS = [text for text, _ in news_rows(2, seed=2)]
Rows = Sequence[dict[str, Any]]


def write_separated(path: Path, rows: Rows) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)


WRITERS: dict[str, Callable[[Path, Rows], object]] = {
    "csv": write_separated,
    "tsv": write_separated,
    "jsonl": lambda path, rows: path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8"),
    "json": lambda path, rows: path.write_text(json.dumps(rows), encoding="utf-8"),
    "parquet": lambda path, rows: pd.DataFrame(rows).to_parquet(path),
    "pkl": lambda path, rows: pd.to_pickle(pd.DataFrame(rows), path),
    "pickle": lambda path, rows: path.write_bytes(pickle.dumps(list(rows))),
}


def write(path: Path, rows: Rows) -> Path:
    WRITERS[path.suffix[1:]](path, rows)
    return path


def with_ids(ids: Sequence[Any], name: str = "ID") -> list[dict[str, Any]]:
    return [{name: value, "text": text} for value, text in zip(ids, TEXTS, strict=False)]


def answers_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of answers, by the names of their columns."""
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in file]
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


@pytest.fixture
def predict(
    trained: TrainResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[list[dict[str, Any]], str]]:
    """Predicts rows, or a file, by the command; returns the answers and what was printed."""

    def run(rows: Rows | Path, *flags: str, kind: str = "csv", out: str = "csv") -> tuple[list[dict[str, Any]], str]:
        path = rows if isinstance(rows, Path) else write(tmp_path / f"rows.{kind}", rows)
        output = tmp_path / f"answers.{out}"
        code = main(["predict", str(path), "--model", str(trained.folder), "--output", str(output), *flags])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return answers_of(output), printed.out

    return run


@pytest.fixture
def refused(trained: TrainResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The error of a prediction that is refused and writes nothing."""

    def run(path: Path, *flags: str) -> str:
        output = tmp_path / "answers.csv"
        assert main(["predict", str(path), "--model", str(trained.folder), "--output", str(output), *flags]) == 2
        assert not output.exists()
        return capsys.readouterr().err

    return run


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
    monkeypatch.setattr("submillion.inference.predict.iter_input.__defaults__", (4,))
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


# Blank texts

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


# Names and integers


def train_named(base: Path, folder: Path, names: Sequence[str], **changes: Any) -> Path:
    renamed = dict(zip(LABELS, names, strict=True))
    rows = [(text, renamed[label]) for text, label in news_rows(30)]
    return train(data=rows, overrides=run_of(base, folder, train__epochs=1, **changes)).folder


def labels_of(model: Path, folder: Path, *flags: str, out: str = "csv") -> list[Any]:
    path = write(folder / "rows.csv", [{"text": text} for text in TEXTS])
    output = folder / f"answers.{out}"
    assert main(["predict", str(path), "--model", str(model), "--output", str(output), *flags]) == 0
    return [answer["label" if out == "jsonl" else "Label"] for answer in answers_of(output)]


def test_a_recipe_can_ask_for_integers(tiny_base: Path, tmp_path: Path) -> None:
    model = train_named(tiny_base, tmp_path, LABELS, output__labels="integers")
    assert set(labels_of(model, tmp_path)) <= {"0", "1", "2"}
    assert set(labels_of(model, tmp_path, out="jsonl")) <= {0, 1, 2}
    assert set(labels_of(model, tmp_path, "--labels", "names")) <= set(LABELS)


def test_other_models_write_names_unless_integers_are_asked_for(trained: TrainResult, tmp_path: Path) -> None:
    names = trained.classifier.predict(TEXTS)
    places = [LABELS.index(name) for name in names]
    assert labels_of(trained.folder, tmp_path) == names == labels_of(trained.folder, tmp_path, out="jsonl")
    for form in ("auto", "names"):
        assert labels_of(trained.folder, tmp_path, "--labels", form) == names
    assert labels_of(trained.folder, tmp_path, "--labels", "integers") == list(map(str, places))
    assert labels_of(trained.folder, tmp_path, "--labels", "integers", out="jsonl") == places


def test_the_file_at_the_root_writes_integers_unless_told_otherwise(trained: TrainResult, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", [{"text": text} for text in TEXTS])
    program = Path(__file__).resolve().parents[2] / "predict.py"
    names = trained.classifier.predict(TEXTS)
    expected = {(): [str(LABELS.index(name)) for name in names], ("--labels", "names"): names}
    for flags, labels in expected.items():
        argv = [sys.executable, str(program), str(path), "--model", str(trained.folder), *flags]
        subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True)
        header, *rows = (tmp_path / "predictions.csv").read_text().splitlines()
        assert header == "ID,Label" and rows == [f"{index},{label}" for index, label in enumerate(labels)]


@pytest.mark.parametrize("names", [("0.5", "1", "01"), ("0", "0,5", "1"), ("007", "7a", "8b")])
def test_names_that_look_like_numbers_are_written_as_they_are(
    names: tuple[str, ...], tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = train_named(tiny_base, tmp_path, names, output__labels="integers")
    for flags in ((), ("--labels", "integers"), ("--labels", "names")):
        assert set(labels_of(model, tmp_path, *flags)) <= set(names)
    printed = capsys.readouterr().out
    assert "labels are written by their names, which look like numbers" in printed


def test_labels_that_were_integers_are_integers(tiny_base: Path, tmp_path: Path) -> None:
    model = train_named(tiny_base, tmp_path, ("3", "-1", "10"))
    assert set(labels_of(model, tmp_path)) <= {"3", "-1", "10"}
    assert set(labels_of(model, tmp_path, out="jsonl")) <= {3, -1, 10}
