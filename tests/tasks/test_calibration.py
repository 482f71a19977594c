"""Calibration against values worked out by hand and a model that is known to be calibrated."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from submillion.tasks.calibration import calibration_metrics, coverage_curve, fit_temperature, smoothed


def calibrated(rows: int, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax are the labels' own probabilities, then multiplied by sharpness."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal((rows, 3))
    labels = np.array([rng.choice(3, p=p) for p in softmax(logits, axis=1)])
    return sharpness * logits, labels


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_the_sharpness(sharpness: float) -> None:
    logits, labels = calibrated(20_000, sharpness)
    assert fit_temperature(logits, labels) == pytest.approx(sharpness, rel=0.05)


def test_a_fitted_temperature_lowers_the_error() -> None:
    logits, labels = calibrated(5_000, 3.0)
    before = calibration_metrics(softmax(logits, axis=1), labels)
    after = calibration_metrics(softmax(logits / fit_temperature(logits, labels), axis=1), labels)
    assert after["ece"] < 0.02 < 0.1 < before["ece"] and after["nll"] < before["nll"]
    assert after["coverage"]["1.0"] == before["coverage"]["1.0"]  # no label changes


def test_few_rows_leave_the_temperature_at_one() -> None:
    logits, labels = calibrated(50, 5.0)
    assert fit_temperature(logits, labels) > 2
    assert fit_temperature(logits[:49], labels[:49]) == 1.0


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_probabilities_in_place_of_labels_give_the_temperature_that_they_were_made_with(temperature: float) -> None:
    logits, _ = calibrated(200)
    told = softmax(logits / temperature, axis=1)
    assert fit_temperature(logits, told) == pytest.approx(temperature, rel=1e-3)
    assert fit_temperature(logits[:49], told[:49]) == 1.0, "too few"


def test_labels_are_probabilities_of_nearly_one() -> None:
    logits, labels = calibrated(200, 2.0)
    assert fit_temperature(logits, smoothed(labels, 3)) == fit_temperature(logits, labels)
    assert fit_temperature(logits, np.eye(3)[labels]) == pytest.approx(fit_temperature(logits, labels), rel=0.02)


def test_the_error_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    found = calibration_metrics(probabilities, np.array([0, 1, 1, 0]))
    # Each row has a bin of its own: 0.9 right, 0.8 wrong, 0.7 right, 0.6 right.
    assert found["ece"] == pytest.approx((0.1 + 0.8 + 0.3 + 0.4) / 4)
    assert found["brier"] == pytest.approx(2 * (0.1**2 + 0.8**2 + 0.3**2 + 0.4**2) / 4)
    assert found["nll"] == pytest.approx(log_loss([0, 1, 1, 0], probabilities))
    assert [one["rows"] for one in found["bins"]] == [1, 1, 1, 1]


def test_certainty_falls_into_the_last_bin() -> None:
    found = calibration_metrics(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1]))
    assert found["bins"] == [{"confidence": 1.0, "accuracy": 0.5, "rows": 2}] and np.isfinite(found["nll"])


def test_coverage_takes_the_surest_rows_first() -> None:
    curve = coverage_curve(np.array([0.5, 0.9, 0.7, 0.6]), np.array([False, True, True, False]))
    assert curve.tolist() == pytest.approx([1.0, 1.0, 2 / 3, 0.5])


def test_half_a_row_more_is_wrong_where_labels_are_smoothed() -> None:
    labels = np.array([0, 2, 1, 1])
    found = smoothed(labels, 3)
    assert found.sum(axis=1) == pytest.approx(1) and (found.argmax(axis=1) == labels).all()
    assert 5 * found.max(axis=1) == pytest.approx(4.5)


@pytest.mark.parametrize("rows", [50, 400])
def test_rows_that_are_all_right_are_as_sure_as_their_number_allows(rows: int) -> None:
    labels = np.arange(rows) % 2
    logits = 3.0 * np.eye(2)[labels]
    found = softmax(logits / fit_temperature(logits, labels), axis=1).max(axis=1)
    assert found == pytest.approx(1 - 0.5 / (rows + 1), abs=1e-4)


def test_rows_that_are_all_wrong_leave_no_label_more_likely() -> None:
    labels = np.arange(200) % 2
    assert fit_temperature(3.0 * np.eye(2)[1 - labels], labels) == pytest.approx(20, rel=1e-3)
