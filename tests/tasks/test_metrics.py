"""Metrics: scikit-learn's numbers, also for labels that never occur."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss

from submillion.tasks.metrics import classification_metrics

NAMES = ("World", "Sports", "Business", "Sci/Tech")


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=200)
    return (rng.normal(size=(200, 4)) + 1.5 * np.eye(4)[labels]).astype(np.float32), labels


def test_the_numbers_are_those_of_scikit_learn(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = drawn
    found = classification_metrics(logits, labels, NAMES)
    predicted = logits.argmax(axis=1)
    assert found["accuracy"] == accuracy_score(labels, predicted)
    assert found["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    probabilities = torch.softmax(torch.from_numpy(logits).double(), dim=1).numpy()
    assert found["loss"] == pytest.approx(log_loss(labels, probabilities))
    assert found["rows"] == 200 and [found["per_label"][name]["rows"] for name in NAMES] == np.bincount(labels).tolist()


def test_a_label_without_rows_or_predictions_counts_as_zero() -> None:
    logits = np.array([[5, 0, 0], [0, 5, 0]], dtype=np.float32)
    found = classification_metrics(logits, np.array([0, 1]), ("a", "b", "c"))
    assert found["accuracy"] == 1.0 and found["macro_f1"] == pytest.approx(2 / 3)
    assert found["per_label"]["c"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "rows": 0}


def test_large_logits_give_a_finite_loss() -> None:
    logits = np.array([[1e4, -1e4], [1e4, -1e4]], dtype=np.float32)
    assert classification_metrics(logits, np.array([0, 1]), ("a", "b"))["loss"] == pytest.approx(1e4)


def test_near_duplicates_of_training_rows_are_counted_apart() -> None:
    logits, labels = np.eye(2, dtype=np.float32)[[0, 0, 1, 1]], np.array([0, 1, 1, 1])
    found = classification_metrics(logits, labels, ("a", "b"), np.array([True, True, False, False]))
    assert found["overlap"] == {"rows": 2, "accuracy": 0.5, "accuracy_of_others": 1.0} and found["accuracy"] == 0.75
    found = classification_metrics(logits, labels, ("a", "b"), np.ones(4, dtype=bool))
    assert found["overlap"] == {"rows": 4, "accuracy": 0.75, "accuracy_of_others": None}
    assert "overlap" not in classification_metrics(logits, labels, ("a", "b"), np.zeros(4, dtype=bool))


def test_the_result_is_plain_json(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    found = classification_metrics(*drawn, NAMES)
    assert json.loads(json.dumps(found)) == found and list(found["per_label"]) == list(NAMES)
