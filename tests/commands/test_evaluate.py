"""Measuring a saved model on labelled rows."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from news import LABELS, news_rows, read_csv, run_of, write_csv
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_recall_fscore_support

from submillion.commands.evaluate import evaluate_source
from submillion.commands.train import TrainResult, train
from submillion.errors import ConfigError, DataError


@pytest.fixture
def half_right_csv(tmp_path: Path) -> Path:
    """News with every third label wrong, so that no metric is 1."""
    rows = news_rows(20, seed=3)
    wrong = [(text, LABELS[LABELS.index(label) - 1]) for text, label in rows]
    return write_csv(tmp_path / "labelled.csv", [*rows[:40], *wrong[40:]])


def test_the_metrics_are_scikit_learn_s(trained: TrainResult, half_right_csv: Path) -> None:
    metrics = evaluate_source(trained.folder, str(half_right_csv))
    texts, names = zip(*read_csv(half_right_csv)[1:], strict=True)
    truth, predicted = [LABELS.index(name) for name in names], trained.classifier.logits(texts).argmax(axis=1)
    assert 0.3 < metrics["accuracy"] == accuracy_score(truth, predicted) < 0.9
    assert metrics["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"), abs=1e-12)
    probabilities = trained.classifier.predict_proba(texts).astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert metrics["loss"] == pytest.approx(log_loss(truth, probabilities, labels=[0, 1, 2]), rel=1e-5)
    per_label = zip(*precision_recall_fscore_support(truth, predicted), strict=True)
    for name, (precision, recall, f1, rows) in zip(LABELS, per_label, strict=True):
        found = metrics["per_label"][name]
        assert (found["precision"], found["recall"], found["f1"]) == pytest.approx((precision, recall, f1))
        assert found["rows"] == rows
    assert metrics["rows"] == 60


def test_the_metrics_are_written_where_they_are_asked_for(
    trained: TrainResult, half_right_csv: Path, tmp_path: Path
) -> None:
    metrics = evaluate_source(trained.folder, str(half_right_csv), output=tmp_path / "new" / "metrics.json")
    assert json.loads((tmp_path / "new" / "metrics.json").read_text(encoding="utf-8")) == metrics


def test_on_its_own_training_file_only_the_test_rows_are_measured(trained: TrainResult, news_csv: Path) -> None:
    metrics = evaluate_source(trained.folder, str(news_csv))
    expected = trained.metrics["test"]
    shared = set(metrics) & set(expected)
    assert shared == {"accuracy", "macro_f1", "loss", "rows", "per_label", "confusion"}
    assert {key: metrics[key] for key in shared} == {key: expected[key] for key in shared}
    assert metrics["calibration"]["ece"] == pytest.approx(expected["ece"], abs=1e-6)


def test_so_it_is_wherever_the_file_lies_now(
    trained: TrainResult, news_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = shutil.copy(news_csv, tmp_path / "moved.csv")
    assert evaluate_source(trained.folder, str(moved))["rows"] == trained.metrics["test"]["rows"]
    monkeypatch.chdir(news_csv.parent)
    assert evaluate_source(trained.folder, news_csv.name)["rows"] == trained.metrics["test"]["rows"]


def test_a_training_file_that_has_changed_is_refused_and_its_new_rows_are_measured_from_another(
    tiny_base: Path, tmp_path: Path
) -> None:
    path, rows, new = tmp_path / "news.csv", news_rows(), news_rows(3, seed=9)
    write_csv(path, rows)
    result = train(data=path, overrides=run_of(tiny_base, tmp_path, train__epochs=1))
    for changed in (rows + new, rows[1:], [(text, f"another {label}") for text, label in rows]):
        write_csv(path, changed)
        with pytest.raises(DataError, match=r"no longer those that the model was trained on|is none of"):
            evaluate_source(result.folder, str(path))
    assert evaluate_source(result.folder, str(write_csv(tmp_path / "new.csv", new)))["rows"] == len(new)


def test_the_training_rows_of_a_source_with_test_rows_of_its_own_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "news"
    folder.mkdir()
    write_csv(folder / "train.csv", news_rows())
    write_csv(folder / "test.csv", news_rows(4, seed=5))
    result = train(data=folder, overrides=run_of(tiny_base, tmp_path, train__epochs=1))
    assert evaluate_source(result.folder, str(folder))["rows"] == 12
    with pytest.raises(DataError, match="has trained on all of its rows"):
        evaluate_source(result.folder, str(folder / "train.csv"))


def test_test_rows_that_the_training_rows_hold_nearly_are_told_of_everywhere(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], wide: None
) -> None:
    folder, rows = tmp_path / "news", news_rows()
    folder.mkdir()
    write_csv(folder / "train.csv", rows)
    write_csv(folder / "test.csv", [(f"{text} (updated)", label) for text, label in rows[:5]] + news_rows(4, seed=5))
    result = train(data=folder, overrides=run_of(tiny_base, tmp_path, train__epochs=1))
    own = result.metrics["test"]["overlap"]
    assert own["rows"] == 5 and result.metrics["test"]["rows"] == 17 and "overlap" not in result.metrics["validation"]
    right = 5 * own["accuracy"] + 12 * own["accuracy_of_others"]
    assert right == pytest.approx(17 * result.metrics["test"]["accuracy"])
    told = f"5 of the 17 test rows are near duplicates of training rows: {own['accuracy']:.2%} of these are right, "
    told += f"{own['accuracy_of_others']:.2%} of the others."
    printed = capsys.readouterr().out
    assert "overlap    5 of the 17 test rows are near duplicates of training rows" in printed and told in printed
    assert told in (result.folder / "README.md").read_text(encoding="utf-8")
    assert json.loads((result.folder / "metrics.json").read_text(encoding="utf-8"))["test"]["overlap"] == own
    assert evaluate_source(result.folder, str(folder))["overlap"] == own
    assert told in capsys.readouterr().out


def test_integers_stand_for_the_names_that_they_stood_for_in_training(tiny_base: Path, tmp_path: Path) -> None:
    """A test split, and a file to measure on, that lack the last label do not say that labels count from 1."""

    def numbered(rows: list[tuple[str, str]], first: int = 1) -> list[tuple[str, str]]:
        return [(text, str(LABELS.index(label) + first)) for text, label in rows]

    folder, some = tmp_path / "news", [row for row in news_rows(6, seed=5) if row[1] != LABELS[-1]]
    folder.mkdir()
    write_csv(folder / "train.csv", numbered(news_rows()))
    write_csv(folder / "test.csv", numbered(some))
    result = train(data=folder, overrides=run_of(tiny_base, tmp_path, data__label_names=list(LABELS)))
    named = evaluate_source(result.folder, str(write_csv(tmp_path / "named.csv", some)))
    assert named["accuracy"] == result.metrics["test"]["accuracy"] > 0.8
    for first in (1, 0):
        path = write_csv(tmp_path / f"from_{first}.csv", numbered(some, first))
        assert evaluate_source(result.folder, str(path))["accuracy"] == named["accuracy"]


@pytest.mark.parametrize("name", ["labelled.csv", "best_model/model.pt", "."])
def test_the_metrics_are_not_written_over_what_is_read(
    name: str, trained: TrainResult, half_right_csv: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(trained.folder, tmp_path / "best_model")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"would be lost|expected a file"):
        evaluate_source(model, str(half_right_csv), output=tmp_path / name)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_source_without_test_rows_for_the_model_is_refused(tiny_base: Path, news_csv: Path, tmp_path: Path) -> None:
    result = train(data=news_csv, overrides=run_of(tiny_base, tmp_path, train__epochs=1, data__test_fraction=0))
    with pytest.raises(DataError, match=r"news\.csv"):
        evaluate_source(result.folder, str(news_csv))


def test_a_label_that_the_model_does_not_know_is_refused(trained: TrainResult, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "labelled.csv", [("oil price", "Business"), ("a movie", "Movies")])
    with pytest.raises(DataError, match=r"row 2 .*label 'Movies' is none of Business, Sports, World"):
        evaluate_source(trained.folder, str(path))
