"""Measuring a saved model on labelled rows."""

import json
from pathlib import Path

import numpy as np
import pytest
from news import LABELS, news_rows, read_csv, run_of, write_csv
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_recall_fscore_support

from submillion.errors import DataError
from submillion.inference.evaluate import evaluate_source
from submillion.inference.train import TrainResult, train


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


def test_so_it_is_where_its_path_is_spelled_in_another_way(
    trained: TrainResult, news_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(news_csv.parent)
    assert evaluate_source(trained.folder, news_csv.name)["rows"] == trained.metrics["test"]["rows"]


def test_a_source_without_test_rows_for_the_model_is_refused(tiny_base: Path, news_csv: Path, tmp_path: Path) -> None:
    result = train(data=news_csv, overrides=run_of(tiny_base, tmp_path, train__epochs=1, data__test_fraction=0))
    with pytest.raises(DataError, match=r"news\.csv"):
        evaluate_source(result.folder, str(news_csv))


def test_a_label_that_the_model_does_not_know_is_refused(trained: TrainResult, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "labelled.csv", [("oil price", "Business"), ("a movie", "Movies")])
    with pytest.raises(DataError, match=r"row 2 .*label 'Movies' is none of Business, Sports, World"):
        evaluate_source(trained.folder, str(path))
