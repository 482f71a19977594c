"""Labels as names and as integers in the answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answers import TEXTS, answers_of, write
from news import LABELS, news_rows, run_of

from submillion.cli import main
from submillion.commands.train import TrainResult, train
from submillion.data.inputs import InputRows
from submillion.inference.answers import Answers


def train_named(base: Path, folder: Path, names: Sequence[str]) -> Path:
    renamed = dict(zip(LABELS, names, strict=True))
    rows = [(text, renamed[label]) for text, label in news_rows(30)]
    return train(data=rows, overrides=run_of(base, folder, train__epochs=1)).folder


def labels_of(model: Path, folder: Path, *flags: str, out: str = "csv") -> list[Any]:
    path = write(folder / "rows.csv", [{"text": text} for text in TEXTS])
    output = folder / f"answers.{out}"
    assert main(["predict", str(path), "--model", str(model), "--output", str(output), *flags]) == 0
    return [answer["label" if out == "jsonl" else "Label"] for answer in answers_of(output)]


def test_names_are_written_unless_integers_are_asked_for(trained: TrainResult, tmp_path: Path) -> None:
    names = trained.classifier.predict(TEXTS)
    places = [LABELS.index(name) for name in names]
    assert labels_of(trained.folder, tmp_path) == names == labels_of(trained.folder, tmp_path, out="jsonl")
    assert labels_of(trained.folder, tmp_path, "--labels", "names") == names
    assert labels_of(trained.folder, tmp_path, "--labels", "integers") == list(map(str, places))
    assert labels_of(trained.folder, tmp_path, "--labels", "integers", out="jsonl") == places


@pytest.mark.parametrize("names", [("0.5", "1", "01"), ("0", "0,5", "1"), ("007", "7a", "8b")])
def test_names_that_look_like_numbers_are_written_as_they_are(
    names: tuple[str, ...], tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = train_named(tiny_base, tmp_path, names)
    for flags in ((), ("--labels", "integers"), ("--labels", "names")):
        assert set(labels_of(model, tmp_path, *flags)) <= set(names)
    printed = capsys.readouterr().out
    assert "labels are written by their names, which look like numbers" in printed


def test_labels_that_were_integers_are_integers(tiny_base: Path, tmp_path: Path) -> None:
    model = train_named(tiny_base, tmp_path, ("3", "-1", "10"))
    assert set(labels_of(model, tmp_path)) <= {"3", "-1", "10"}
    assert set(labels_of(model, tmp_path, out="jsonl")) <= {3, -1, 10}


def test_integers_come_back_as_they_were_given() -> None:
    labels, probabilities = np.array([2, 0]), np.array([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1]], dtype=np.float32)
    rows = InputRows(["a", "b"])
    for integers in (True, False):
        assert Answers("csv", ["1", "2", "10"], integers=integers).lines(rows, 5, labels, None) == "5,10\n6,1\n"
        lines = Answers("jsonl", ["1", "2", "10"], True, integers).lines(rows, 0, labels, probabilities)
        assert '"label": 10, "name": "10"' in lines


@pytest.mark.parametrize(
    "names",
    [
        ("1", "2", "ten"),
        ("0", "0.5", "1"),
        ("0.0", "0.5", "1.0"),
        ("01", "02", "05"),
        ("0,5", "1,5", "2"),
        ("-1", "+1", "none"),
        ("1e3", "low", "high"),
        ("50%", "75%", "all"),
        ("1.2.3", "a", "b"),
        (" 7", "a", "b"),
    ],
)
def test_names_that_look_like_numbers_are_never_replaced_by_places(names: tuple[str, ...]) -> None:
    answers = Answers("tsv", names, integers=True)
    assert answers.lines(InputRows(["a", "b"]), 0, np.array([2, 0]), None) == f"0\t{names[2]}\n1\t{names[0]}\n"
    assert answers.notes() == ["labels are written by their names, which look like numbers, and not as integers"]


@pytest.mark.parametrize("names", [("Q1", "Q2"), ("v1.0", "v2"), ("one", "two"), ("1st", "2nd"), ("", "-"), ("½", "a")])
def test_other_names_are_replaced_by_places_where_integers_are_asked_for(names: tuple[str, ...]) -> None:
    answers = Answers("csv", names, integers=True)
    assert answers.lines(InputRows(["a", "b"]), 0, np.array([1, 0]), None) == "0,1\n1,0\n" and not answers.notes()
