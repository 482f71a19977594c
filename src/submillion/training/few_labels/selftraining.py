"""Labels for texts that have none, from a few that have one."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from submillion.tasks.decoding import most_probable

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

# Chosen on AG News' training rows: 8, 16 and 64 labels a class, six draws; docs/log.md lists what else was tried.
ROUNDS = 8
SHARE = 0.8  # of the unlabelled rows, taken in the last round; the rest is too unsure
WEIGHT = 0.2  # of a row that was labelled here; a row labelled by a person has weight 1
INVERSE_PENALTY = 10.0  # scikit-learn's C, on features of length 1
NAME_WEIGHT = 10.0  # of a label's name
NEIGHBOURS = 10
BLOCK_ROWS = 1024  # rows whose neighbours are searched between two updates of the bar
SPREADS = 2  # how often probabilities are spread to neighbours
STEPS = 1 + 2 * (ROUNDS + SPREADS)  # of `self_label` at most: one finds the neighbours, the others label twice
# Limits of the difference between the labelled rows' proportions and the texts' estimated ones: half the sum of the
# differences, which is the share of texts that would get another label. Few rows make the estimate less sure. All forty
# published draws of AG News, of 1 to 64 rows a class, stay below.
MOST_UNLIKE, MORE_OF_A_ROW = 0.05, 0.2  # the second by the number of labelled rows
KEPT = 0.2  # of a row's own probabilities at each step on the way to its neighbours
# Neighbours are less sure of a text's labels than right: their probabilities to this power give about the temperature
# that true labels give, on AG News, on its rows cut to four words, on BBC News and on BANKING77 (docs/log.md).
SHARPENED = 1.8


@dataclass(frozen=True)
class SelfTrained:
    """What self-training found about rows that have no label."""

    rows: np.ndarray  # sorted int64 indices of the surest of them
    labels: np.ndarray  # int64, one for each of these
    probabilities: np.ndarray  # of the labels of all texts, from their neighbours, `sharpened`: fp64 [texts, classes]
    proportions: np.ndarray  # in which the texts got labels: fp64 [classes]
    answers: np.ndarray  # int64 labels of other rows, by the regression that learned from the surest


def self_label(
    features: np.ndarray,
    labels: np.ndarray,
    unlabelled: np.ndarray,
    others: np.ndarray,
    names: int = 0,
    advance: Callable[[int], None] = lambda rows: None,
) -> SelfTrained:
    """Labels the unlabelled rows. Classes are the labels that occur among the labelled rows, in order.

    features: float [rows, hidden] of the labelled rows, of length 1 or made of parts of length 1. labels: int64 [rows].
    unlabelled: float [texts, hidden]. others: float [others, hidden], rows to predict as a check. The last `names` of
    the labelled rows are label names: they weigh more than other rows, and do not count in the proportions. `advance`
    is called with numbers of rows, which add up to at most STEPS times the unlabelled rows plus the labelled rows
    without names.

    This is class-balanced self-training (arXiv:1810.07911). A logistic regression labels all unlabelled rows, and each
    label keeps its surest rows, in proportion. The next regression learns from these too, and every round keeps more.
    The probabilities then spread to neighbours, twice, with a regression on all rows in between. A first run takes in
    each step the proportions that its own probabilities add up to. If it ends near the labelled rows' proportions, as
    MOST_UNLIKE and MORE_OF_A_ROW set, a second run with the labelled rows' proportions replaces it.
    """
    counted = labels[: len(labels) - names]
    classes, own = proportions_of(counted)
    weights = np.where(np.arange(len(labels)) < len(counted), 1.0, NAME_WEIGHT)
    graph = neighbours(np.concatenate([features[: len(counted)], unlabelled]), advance)

    def learn(rows: np.ndarray, found: np.ndarray) -> "LogisticRegression":
        return _regression(features, labels, weights, unlabelled[rows], found)

    def label(proportions: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        rows, found = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        for done in range(1, ROUNDS + 1):
            probabilities = learn(rows, found).predict_proba(unlabelled)
            rows, found = surest(probabilities, classes, proportions(probabilities), SHARE * done / ROUNDS)
            advance(len(unlabelled))
        for _ in range(SPREADS):
            probabilities = learn(rows, found).predict_proba(unlabelled)
            held = proportions(probabilities)
            probabilities = spread(graph, counted, probabilities, held)
            rows, found = np.arange(len(unlabelled)), classes[most_probable(probabilities)]
            advance(len(unlabelled))
        return probabilities, held

    probabilities, proportions = label(lambda probabilities: probabilities.mean(axis=0))
    if np.abs(proportions - own).sum() / 2 <= MOST_UNLIKE + MORE_OF_A_ROW / len(counted):
        probabilities, proportions = label(lambda _: own)
    rows, found = surest(probabilities, classes, proportions)
    answers = learn(rows, found).predict(others) if len(others) else np.empty(0, dtype=np.int64)
    return SelfTrained(rows, found, sharpened(probabilities), proportions, answers)


def proportions_of(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the labels that occur in int64 [rows], in order, and the share of rows of each: both [classes]."""
    classes, counts = np.unique(labels, return_counts=True)
    return classes, counts / len(labels)


def surest(
    probabilities: np.ndarray, classes: np.ndarray, proportions: np.ndarray, share: float = SHARE
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of the rows whose labels are surest, sorted, a share of all, and their labels, both int64.

    probabilities: float [rows, classes], a column for each label in `classes`, int64. proportions: float [classes];
    each label gets its part of the chosen rows, because the rows are expected to hold the labels in about these
    proportions.
    """
    wanted = np.maximum(1, np.rint(share * proportions * len(probabilities)).astype(np.int64))
    rows, columns = _surest(probabilities, wanted)
    return rows, classes[columns]


def neighbours(features: np.ndarray, advance: Callable[[int], None] = lambda rows: None) -> "csr_matrix":
    """Returns the graph of each row and its NEIGHBOURS nearest rows, sparse fp64 [rows, rows], symmetric.

    A weight is the fourth power of the cosine of two rows; the matrix is then normalised. features: float
    [rows, hidden]. All rows are compared with all, so the time grows with the square of their number. `advance` is
    called with the number of rows that were done since the last call.
    """
    from scipy.sparse import csr_matrix, diags
    from sklearn.neighbors import NearestNeighbors

    features = of_length_one(features)
    count = min(NEIGHBOURS, len(features) - 1)
    index = NearestNeighbors(n_neighbors=count + 1).fit(features)
    parts = []
    for start in range(0, len(features), BLOCK_ROWS):
        distances, columns = index.kneighbors(features[start : start + BLOCK_ROWS])
        own = columns == np.arange(start, start + len(columns))[:, None]
        own[~own.any(axis=1), 0] = True  # a row with many equals may be missing from its list: any equal stands for it
        parts.append((distances[~own], columns[~own]))
        advance(len(columns))
    distances, columns = map(np.concatenate, zip(*parts, strict=True))
    starts = np.arange(0, len(columns) + 1, count)
    graph = csr_matrix(((1 - distances**2 / 2).clip(0) ** 4, columns, starts), shape=[len(features)] * 2)
    graph = graph.maximum(graph.T)
    scale = diags(1 / np.sqrt(np.asarray(graph.sum(axis=1)).ravel().clip(1e-12)))
    return (scale @ graph @ scale).tocsr()


def spread(graph: "csr_matrix", labels: np.ndarray, probabilities: np.ndarray, proportions: np.ndarray) -> np.ndarray:
    """Spreads labels and probabilities to neighbours, and returns the texts' new probabilities, fp64 [texts, classes].

    This is learning with local and global consistency (Zhou et al., 2004). graph: `neighbours` of the labelled rows,
    followed by the texts. labels: int64 [rows]. probabilities: float [texts, classes], a column for each label that
    occurs, in order. proportions: float [classes], to which the sums of the columns are scaled before each text's
    probabilities are made to sum to 1.
    """
    classes, columns = np.unique(labels, return_inverse=True)
    start = np.concatenate([np.eye(len(classes))[columns], probabilities])
    found = start
    for _ in range(50):  # what is left of a row's way to the limit is then 0.8^50, a hundred thousandth
        found = (1 - KEPT) * (graph @ found) + KEPT * start
    found = found[len(labels) :]
    found = found * (proportions / found.sum(axis=0))
    return found / found.sum(axis=1, keepdims=True)


def sharpened(probabilities: np.ndarray) -> np.ndarray:
    """Returns the probabilities of `spread` to the power of SHARPENED, normalised: about as sure as they are right."""
    found = probabilities**SHARPENED
    return found / found.sum(axis=1, keepdims=True)


def of_length_one(features: np.ndarray) -> np.ndarray:
    """Returns each row of [rows, hidden] divided by its length, in fp64; a row of zeros stays zero."""
    features = features.astype(np.float64)
    return features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)


def _regression(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, self_labelled: np.ndarray, found: np.ndarray
) -> "LogisticRegression":
    """Returns a logistic regression fitted to the labelled rows and to rows with labels given by self-training.

    features: float [rows, hidden], with int64 labels and float weights, both [rows]. self_labelled: float
    [texts, hidden], with the int64 labels `found`, [texts], each of weight WEIGHT.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the next round moves it on anyway
        return LogisticRegression(C=INVERSE_PENALTY, max_iter=300).fit(
            np.concatenate([features, self_labelled]),
            np.concatenate([labels, found]),
            np.concatenate([weights, np.full(len(found), WEIGHT)]),
        )


def _surest(probabilities: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the counts[column] most probable rows of each column, sorted, and the column of each row, both int64.

    probabilities: float [texts, columns]. A row that two columns want goes to the more probable one.
    """
    wanted = np.full(probabilities.shape, -1.0)
    for column, count in enumerate(counts):
        best = np.argsort(-probabilities[:, column], kind="stable")[:count]
        wanted[best, column] = probabilities[best, column]
    rows = np.flatnonzero(wanted.max(axis=1) >= 0)
    return rows, most_probable(wanted[rows])
