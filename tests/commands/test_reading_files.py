"""The commands say how a file was understood, take the settings of reading, and refuse without a traceback."""

from pathlib import Path

import pytest

from submillion.cli import main
from submillion.commands.train import TrainResult

TEXTS = ["Oil prices climb on news.", "A late goal wins the cup.", "The bank pays a bonus."]


@pytest.fixture
def headerless(tmp_path: Path) -> Path:
    path = tmp_path / "texts.csv"
    path.write_text("".join(f"{text}\n" for text in TEXTS))
    return path


def answers(folder: Path, *words: str) -> int:
    """Returns how many answers predict writes."""
    output = folder / "answers.csv"
    assert main(["predict", *words, "--output", str(output)]) == 0
    return len(output.read_text().splitlines()) - 1


def test_predict_answers_the_first_line_and_says_so(trained: TrainResult, headerless, tmp_path, capsys) -> None:
    words = [str(headerless), "--model", str(trained.folder)]
    assert answers(tmp_path, *words) == 3
    printed = capsys.readouterr().out
    assert "read as: texts.csv: no header" in printed and "--header" in printed
    assert answers(tmp_path, *words, "--header") == 2
    assert answers(tmp_path, "--no-header", *words) == 3
    assert "read as" not in capsys.readouterr().out


def test_the_note_holds_no_control_characters(trained: TrainResult, tmp_path, capsys) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\x1b[31mGoal and coach.\nBank and bonds.\nLoans.\n")
    assert answers(tmp_path, str(path), "--model", str(trained.folder)) == 3
    assert "\x1b[31mGoal" not in capsys.readouterr().out


def test_evaluate_takes_the_settings(trained: TrainResult, tmp_path, capsys) -> None:
    labels = trained.classifier.label_names
    path = tmp_path / "labelled.csv"
    path.write_text("".join(f"{labels[row % 2]};{text}\n" for row, text in enumerate(TEXTS)))
    words = ["evaluate", "--data.source", str(path), "--model", str(trained.folder), "--no-header"]
    assert main([*words, "--data.text-column", "2", "--data.label-column", "1"]) == 0
    printed = capsys.readouterr().out
    assert "of 3 rows" in printed and "columns separated by ';'" in printed
    assert main([*words, "--data.text-column", "2", "--data.label-column", "1", "--data.separator", "|"]) == 2


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_file_of_texts_alone_is_refused_with_exit_code_2(trained: TrainResult, command, tmp_path, capsys) -> None:
    path = tmp_path / "x.txt"
    path.write_text("Goal\nBank\n")
    base = trained.classifier.config.model.base
    words = ["--model.base", base, "--output.dir", str(tmp_path / "model")]
    words = words if command == "train" else ["--model", str(trained.folder)]
    assert main([command, "--data.source", str(path), *words]) == 2
    error = capsys.readouterr().err
    assert "no label column, it is a text a line" in error and "__label__sport" in error and "Traceback" not in error
