"""What `submillion train` and `evaluate` say of the rows, and what they leave of those that cannot be used."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from submillion.cli import main
from submillion.config.schema import DataConfig
from submillion.inference.classifier import Classifier
from submillion.report.data_lines import why_none
from submillion.report.sentences import macro_f1_shown
from submillion.tasks.metrics import classification_metrics

Train = Callable[..., int]
ROWS = [(f"{word} number {number}", label) for number in range(6) for word, label in (("goal", "a"), ("oil", "b"))]


@pytest.fixture
def train(tiny_base: Path, tmp_path: Path) -> Train:
    """Runs `submillion train` on a source for one epoch, leaving everything in tmp_path, and returns the exit code."""

    def run(source: Path, *flags: str) -> int:
        settings = {
            "data.source": str(source),
            "model.base": str(tiny_base),
            "model.max-length": "16",
            "train.precision": "fp32",
            "data.validation-fraction": "0",
            "output.dir": str(tmp_path / "model"),
        }
        return main(["train", *(part for key, value in settings.items() for part in (f"--{key}", value)), *flags])

    return run


def write_csv(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def test_training_says_what_the_labels_are_before_it_begins(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*ROWS, ("a goal", "A"), ("text", "label"), ("another goal", "nan"), ("a \x1b[2J goal", "c\x1b[31mc")]
    assert train(write_csv(tmp_path / "rows.csv", rows), "--data.test-fraction", "0") == 0
    output, error = capsys.readouterr()
    assert r"labels     6 in 16 labelled rows: a 6, b 6, A 1, c\x1b[31mc 1, label 1, nan 1" in output
    assert "look alike 'a' 6, 'A' 1: --data.merge-labels joins them" in output
    assert "header     1 of the train rows repeat the header" in output
    assert "missing?   the label 'nan' (1 rows)" in output
    assert output.index("labels  ") < output.index("precision  ") < output.index("kept")
    assert "\x1b" not in output + error
    assert "none: --data.test-fraction is 0" in " ".join(output.replace("│", " ").split())


def test_the_flags_join_labels_and_leave_rows_out(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*ROWS, ("a goal", "A"), ("text", "label"), ("without", ""), ("\u200bsee", "b\u200b")]
    source = write_csv(tmp_path / "rows.csv", rows)
    assert train(source) == 2
    error = capsys.readouterr().err
    assert "row 15 (line 16): the label is missing" in error and "--data.skip-bad-rows" in error
    assert not (tmp_path / "model" / "model.pt").exists()
    flags = ("--data.merge-labels", "true", "--data.skip-bad-rows", "true", "--data.test-fraction", "0")
    assert train(source, *flags) == 0
    output = capsys.readouterr().out
    assert "labels     2 in 14 labelled rows: a 7, b 7" in output
    assert "joined     'A' (1 rows) is read as 'a'" in output
    assert "skipped    2 train rows that cannot be used, listed in skipped.csv" in output
    folder = tmp_path / "model"
    with (folder / "skipped.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["split", "file", "row", "line", "reason", "text", "label"],
            ["train", "", "14", "15", "the row repeats the header", "text", "label"],
            ["train", "", "15", "16", "the label is missing", "without", ""],
        ]
    assert json.loads((folder / "metrics.json").read_text())["skipped"] == {"train": 2}
    assert Classifier.load(folder).label_names == ("a", "b")

    # The next run into the same folder skips nothing, and leaves no file that says otherwise.
    assert train(write_csv(tmp_path / "good.csv", ROWS)) == 0
    assert not (folder / "skipped.csv").exists()
    assert "skipped" not in json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize("label", ["\\ud83d", "a \\udfff"])
def test_half_a_surrogate_pair_in_a_label_is_a_clear_error_and_a_row_that_can_be_left_out(
    label: str, train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [json.dumps({"text": text, "label": name}) for text, name in ROWS]
    source = tmp_path / "rows.jsonl"
    source.write_text("\n".join([*lines, f'{{"text": "half", "label": "{label}"}}']))
    assert train(source) == 2
    assert "row 13 (line 13): the label holds half of a surrogate pair" in capsys.readouterr().err
    assert train(source, "--data.skip-bad-rows", "true") == 0
    assert label in (tmp_path / "model" / "skipped.csv").read_text(encoding="utf-8")


def test_a_model_is_measured_on_its_own_rows_without_those_that_it_left_out(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_csv(tmp_path / "rows.csv", [*ROWS, ("text", "label"), ("without", "")])
    assert train(source, "--data.skip-bad-rows") == 0
    held_out = json.loads((tmp_path / "model" / "metrics.json").read_text())["test"]
    measured = tmp_path / "measured.json"
    evaluate = ["evaluate", "--model", str(tmp_path / "model"), "--output", str(measured)]
    assert main([*evaluate, "--data.source", str(source)]) == 0
    assert json.loads(measured.read_text())["confusion"] == held_out["confusion"]
    other = write_csv(tmp_path / "other.csv", [("goal", "a"), ("without", "")])  # not left out of rows it has not met
    assert main([*evaluate, "--data.source", str(other)]) == 2
    assert "row 2 (line 3): the label is missing" in capsys.readouterr().err


def test_a_model_of_joined_labels_is_measured_on_rows_that_spell_them_otherwise(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(write_csv(tmp_path / "rows.csv", [*ROWS, ("goal", "A")]), "--data.merge-labels", "true") == 0
    other = write_csv(tmp_path / "other.csv", [("late goal", "A"), ("oil up", "B"), ("oil", "b")])
    assert main(["evaluate", "--model", str(tmp_path / "model"), "--data.source", str(other)]) == 0
    assert "3 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("train_labels", "test_labels"),
    [(["0.0", "0.5", "1.0"], ["0", "0.5", "1"]), (["01", "02", "05"], ["1", "2", "5"]), (["1", "2"], ["1.0", "2.0"])],
)
def test_numbers_are_compared_as_numbers_by_train_and_evaluate(
    train_labels: list[str], test_labels: list[str], train: Train, tmp_path: Path
) -> None:
    write_csv(tmp_path / "news" / "train.csv", [(f"goal {n} {name}", name) for n in range(4) for name in train_labels])
    test = write_csv(tmp_path / "news" / "Test.csv", [(f"oil {label}", label) for label in test_labels])
    assert train(tmp_path / "news") == 0
    figures = json.loads((tmp_path / "model" / "metrics.json").read_text())["test"]["per_label"]
    assert {name: figure["rows"] for name, figure in figures.items()} == dict.fromkeys(train_labels, 1)
    measured = tmp_path / "measured.json"
    model = ["--model", str(tmp_path / "model"), "--output", str(measured)]
    assert main(["evaluate", "--data.source", str(test), *model]) == 0
    assert json.loads(measured.read_text())["per_label"].keys() == figures.keys()
    assert json.loads(measured.read_text())["confusion"] == _confusion(tmp_path / "model")


def _confusion(folder: Path) -> list[list[int]]:
    return json.loads((folder / "metrics.json").read_text())["test"]["confusion"]


def test_a_competitions_folder_trains_and_says_what_is_not_used(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "news"
    write_csv(folder / "Train.csv", ROWS)
    write_csv(folder / "dev.csv", [("late goal", "a"), ("oil up", "b")])
    write_csv(folder / "sample_submission.csv", ROWS)
    (folder / "test.csv").write_text("id,text\n1,a goal\n2,oil\n")
    assert train(folder, "--data.test-fraction", "0.25") == 0
    output = capsys.readouterr().out
    assert "train 12, validation 2 rows" in output and "2 validation" in output
    assert "not used   sample_submission.csv (not named as a split" in output
    assert f"submillion predict {folder / 'test.csv'}" in output
    predictions = tmp_path / "predictions.csv"
    answer = ["--model", str(tmp_path / "model"), "--output", str(predictions)]
    assert main(["predict", str(folder / "test.csv"), *answer]) == 0  # what the note says to do
    assert len(predictions.read_text().splitlines()) == 3
    capsys.readouterr()
    assert main(["evaluate", "--data.source", str(folder), "--model", str(tmp_path / "model")]) == 0
    output = capsys.readouterr().out
    held_out = json.loads((tmp_path / "model" / "metrics.json").read_text())["test"]["rows"]
    assert f"of {held_out} rows" in output and f"submillion predict {folder / 'test.csv'}" in output
    assert "not used: sample_submission.csv" in output


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([f"{number * 0.37:.2f}" for number in range(12)], "as of a measurement"),
        ([str(number) for number in range(501, 513)], "as of an ID or a text"),
        (["['a', 'b']"] * 12, "is a list: several labels a text are not supported yet"),
    ],
)
def test_labels_that_cannot_be_meant_are_refused(
    labels: list[str], words: str, train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(text, label) for (text, _), label in zip(ROWS, labels, strict=True)]
    assert train(write_csv(tmp_path / "rows.csv", rows)) == 2
    error = capsys.readouterr().err
    assert words in error and "--data.label-column" in error and "Traceback" not in error
    assert not (tmp_path / "model" / "model.pt").exists()


def test_why_nothing_was_held_out() -> None:
    assert "--data.test-fraction is 0" in why_none("test", DataConfig(test_fraction=0))
    assert "--data.validation-fraction is 0" in why_none("validation", DataConfig(validation_fraction=0))
    assert "no row could be cut" in why_none("test", DataConfig())


def test_a_run_whose_rows_are_too_few_says_so(train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(write_csv(tmp_path / "rows.csv", [("a late goal", "a"), ("oil up", "b")])) == 0
    assert "no row could be cut from the training rows" in " ".join(capsys.readouterr().out.replace("│", " ").split())


@pytest.mark.parametrize(
    ("labels", "shown"),
    [([0, 1, 2], ""), ([0, 0, 1], "tech"), ([2], r"sport\x1b, \[tech]"), ([1], "sport")],
)
def test_macro_f1_says_which_labels_had_no_rows(labels: list[int], shown: str) -> None:
    names = ("sport\x1b", "[tech]", "tech") if "\\" in shown else ("sport", "biz", "tech")
    logits = np.eye(3, dtype=np.float32)[labels]
    line = macro_f1_shown(classification_metrics(logits, np.array(labels), names))
    assert ("without rows" in line) == bool(shown) and "\x1b" not in line
    assert all(name.replace("\\[", "[") in line for name in shown.split(", "))


def test_evaluate_says_which_labels_had_no_rows(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*ROWS, *((f"chip {number}", "[c]") for number in range(4))]
    assert train(write_csv(tmp_path / "rows.csv", rows)) == 0
    other = write_csv(tmp_path / "other.csv", [("late goal", "a"), ("oil up", "b")])
    assert main(["evaluate", "--model", str(tmp_path / "model"), "--data.source", str(other)]) == 0
    assert "(labels without rows here count as 0: [c]; over" in capsys.readouterr().out
