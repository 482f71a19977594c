"""How far a probability can be believed: the temperature, the calibration error, accuracy against coverage."""

from typing import Any

import numpy as np

from submillion.tasks.decoding import most_probable

LEAST_ROWS = 50  # to fit a temperature on: mostly better than none from there on, and never much worse (docs/log.md)
LEAST_CROSSED = 8  # the same if the rows come from cross-validation: then the choice is between these and none at all
LEAST_TEXTS = 500  # unlabelled texts, for some of them to be held back for that: a fifth at most
BINS = 15
COVERAGES = (1.0, 0.95, 0.9, 0.8)


def fit_temperature(logits: np.ndarray, labels: np.ndarray, least: int = LEAST_ROWS) -> float:
    """Returns the temperature at which softmax(logits / temperature) has the lowest cross-entropy, from 0.05 to 20.

    logits: float [rows, labels], of rows that nothing else was fitted to. labels: int64 [rows], which are `smoothed`;
    or, for texts without labels, the probabilities of the labels, float [rows, labels]. Returns 1 for fewer than
    `least` rows. A temperature never changes which label is predicted (Guo et al., 2017, arXiv:1706.04599).
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    if len(labels) < least:
        return 1.0
    exact = logits.astype(np.float64)
    expected = smoothed(labels, logits.shape[1]) if labels.ndim == 1 else labels

    def cross_entropy(log_temperature: float) -> float:
        return float(-(expected * log_softmax(exact / np.exp(log_temperature), axis=1)).sum(axis=1).mean())

    return float(np.exp(minimize_scalar(cross_entropy, bounds=(np.log(0.05), np.log(20.0)), method="bounded").x))


def smoothed(labels: np.ndarray, num_labels: int) -> np.ndarray:
    """Returns the probability of each label for each row, float [rows, labels], as if half a row more were wrong.

    labels: int64 [rows]. This is the estimate of R. Krichevsky and V. Trofimov, 1981; J. Platt, 1999, takes a whole
    row. So even a few rows that are all right limit how sure a model may be.
    """
    wrong = 0.5 / (len(labels) + 1)
    return np.where(np.eye(num_labels)[labels] == 1, 1 - wrong, wrong / (num_labels - 1))


def calibration_metrics(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Returns ece, brier, nll (in nats), bins and coverage.

    probabilities: float [rows, labels]. labels: int64 [rows]. ece: the expected calibration error over 15 bins of equal
    width. bins: {"confidence", "accuracy", "rows"} of each bin that has rows. brier: the mean squared distance to the
    one-hot label, summed over the labels. coverage: the accuracy on the surest 100, 95, 90 and 80 % of the rows.
    """
    exact, rows = probabilities.astype(np.float64), np.arange(len(labels))
    confidence, right = exact.max(axis=1), most_probable(exact) == labels
    bins = [
        {"confidence": float(confidence[own].mean()), "accuracy": float(right[own].mean()), "rows": int(own.sum())}
        for own in (np.minimum((confidence * BINS).astype(int), BINS - 1) == number for number in range(BINS))
        if own.any()
    ]
    curve = coverage_curve(confidence, right)
    return {
        "ece": sum(one["rows"] * abs(one["confidence"] - one["accuracy"]) for one in bins) / len(labels),
        "brier": float(((exact - np.eye(exact.shape[1])[labels]) ** 2).sum(axis=1).mean()),
        "nll": float(-np.log(np.maximum(exact[rows, labels], 1e-300)).mean()),
        "bins": bins,
        "coverage": {str(share): float(curve[max(0, round(share * len(labels)) - 1)]) for share in COVERAGES},
    }


def coverage_curve(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns the accuracy on the n surest rows, for n from 1 to all, float [rows]."""
    order = np.argsort(-confidence, kind="stable")
    return np.cumsum(right[order]) / np.arange(1, len(right) + 1)
