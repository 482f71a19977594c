"""Labels for texts that have none, from a few that have one."""

import warnings

import numpy as np

# Chosen on AG News' training rows: 8, 16 and 64 labels a class, six draws; docs/log.md has what else was tried.
ROUNDS = 8
SHARE = 0.8  # of the unlabelled rows that the last round takes; the rest is too unsure
WEIGHT = 0.2  # of a row that was labelled here, beside one of a person's
INVERSE_PENALTY = 10.0  # scikit-learn's C, on features of length 1


def self_label(features: np.ndarray, labels: np.ndarray, unlabelled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted int64 indices into the unlabelled rows, and the int64 label of each: those it is surest of, four in five.

    features: [rows, hidden] of the labelled rows, labels: int64 [rows], unlabelled: [texts, hidden]. Class-balanced
    self-training (arXiv:1810.07911): a logistic regression labels all rows, each label keeps the ones it is surest of
    in the proportions of the labelled rows, the next regression learns from these too, and every round takes more.
    So it expects the unlabelled texts to hold the labels in about those proportions.
    """
    features, unlabelled = _of_length_one(features), _of_length_one(unlabelled)
    shares = np.bincount(labels)[np.unique(labels)] / len(labels)
    rows, found = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    for done in range(1, ROUNDS + 1):
        probabilities, classes = _regression(features, labels, unlabelled, rows, found)
        counts = np.maximum(1, np.rint(SHARE * done / ROUNDS * shares * len(unlabelled)).astype(np.int64))
        rows, columns = _surest(probabilities, counts)
        found = classes[columns]
    return rows, found


def _of_length_one(features: np.ndarray) -> np.ndarray:
    features = features.astype(np.float64)
    return features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)


def _regression(
    features: np.ndarray, labels: np.ndarray, unlabelled: np.ndarray, rows: np.ndarray, found: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [texts, classes] of all unlabelled rows, and the label of each column."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    weights = np.concatenate([np.ones(len(labels)), np.full(len(rows), WEIGHT)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the next round moves it on anyway
        model = LogisticRegression(C=INVERSE_PENALTY, max_iter=300).fit(
            np.concatenate([features, unlabelled[rows]]), np.concatenate([labels, found]), weights
        )
    return model.predict_proba(unlabelled), model.classes_


def _surest(probabilities: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each column's counts[column] most probable rows, [texts, columns] given; a row that two of them want goes to the
    more probable. Sorted rows, and the column of each."""
    wanted = np.full(probabilities.shape, -1.0)
    for column, count in enumerate(counts):
        best = np.argsort(-probabilities[:, column], kind="stable")[:count]
        wanted[best, column] = probabilities[best, column]
    rows = np.flatnonzero(wanted.max(axis=1) >= 0)
    return rows, wanted[rows].argmax(axis=1)
