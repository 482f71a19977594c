"""Labels for texts that have none, from a few that have one."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

# Chosen on AG News' training rows: 8, 16 and 64 labels a class, six draws; docs/log.md has what else was tried.
ROUNDS = 8
SHARE = 0.8  # of the unlabelled rows that the last round takes; the rest is too unsure
WEIGHT = 0.2  # of a row that was labelled here, beside one of a person's
INVERSE_PENALTY = 10.0  # scikit-learn's C, on features of length 1
NAME_WEIGHT = 10.0  # of a label's name
NEIGHBOURS = 10
BLOCK_ROWS = 1024  # whose neighbours are sought between two states of a bar
SPREADS = 2  # times that probabilities go to neighbours
STEPS = 1 + 2 * (ROUNDS + SPREADS)  # of `self_label` at most: one finds the neighbours, the others label twice
# Between the labelled rows' proportions and those that the texts are found to hold: half the sum of the differences,
# the share of texts that would get another label. Few rows tell it less surely. All forty published draws of AG News,
# of 1 to 64 rows a class, stay below.
MOST_UNLIKE, MORE_OF_A_ROW = 0.05, 0.2  # the second by the number of labelled rows
KEPT = 0.2  # of a row's own probabilities at each step on the way to its neighbours
# Neighbours are less sure of a text's labels than right: their probabilities to this power give about the temperature
# that true labels give, on AG News, on its rows cut to four words, on BBC News and on BANKING77 (docs/log.md).
SHARPENED = 1.8
# Cohen's kappa of the labelled rows and the names nearest to them: from there on names are read. AG News' own reach it
# in 96 of 100 draws of 1 row a class and in all of 8; names like "foo" and "A" in up to 37, and from 4 rows on in 6.
LEAST_AGREEMENT = 0.3


@dataclass(frozen=True)
class SelfLabelled:
    """What self-training found of rows that have no label."""

    rows: np.ndarray  # sorted int64 indices of the surest of them
    labels: np.ndarray  # int64, of each of these
    probabilities: np.ndarray  # of the labels of all of them, from their neighbours, `sharpened`: fp64 [texts, classes]
    proportions: np.ndarray  # in which they got labels: fp64 [classes]
    answers: np.ndarray  # int64 labels of other rows, by the regression that learned from the surest


def agreement(features: np.ndarray, labels: np.ndarray, named: np.ndarray) -> tuple[float, bool]:
    """The share of rows that lie nearest to their own label's name, and whether names that do so are worth reading.

    features: [rows, hidden], labels: int64 [rows], named: [classes, hidden], the name of each label that occurs, in
    order.
    """
    from sklearn.metrics import cohen_kappa_score

    nearest = np.unique(labels)[(of_length_one(features) @ of_length_one(named).T).argmax(axis=1)]
    return float((nearest == labels).mean()), bool(cohen_kappa_score(labels, nearest) >= LEAST_AGREEMENT)


def self_label(
    features: np.ndarray,
    labels: np.ndarray,
    unlabelled: np.ndarray,
    others: np.ndarray,
    names: int = 0,
    advance: Callable[[int], None] = lambda rows: None,
) -> SelfLabelled:
    """Labels the unlabelled rows; a column of the classes is a label that occurs among the labelled rows, in order.

    features: [rows, hidden] of the labelled rows, of length 1 or of several parts of length 1, labels: int64 [rows],
    unlabelled: [texts, hidden], others: [others, hidden], for a look at how right it is. The last `names` of the
    labelled rows are label names: they weigh more than other rows, and do not count in the proportions. `advance` is
    called with numbers of rows, which come to STEPS times the unlabelled ones and once those that are labelled, names
    aside.

    Class-balanced self-training (arXiv:1810.07911): a logistic regression labels all unlabelled rows, each label keeps
    the ones it is surest of in proportion, the next regression learns from these too, and every round takes more. Its
    probabilities then spread to neighbours, twice, with a regression on all rows between. The proportions are those of
    the labelled rows, unless a first run, in which each step takes what its own probabilities come to, ends further
    from them than MOST_UNLIKE has it: then they are its.
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
            rows, found = np.arange(len(unlabelled)), classes[probabilities.argmax(axis=1)]
            advance(len(unlabelled))
        return probabilities, held

    probabilities, proportions = label(lambda probabilities: probabilities.mean(axis=0))
    if np.abs(proportions - own).sum() / 2 <= MOST_UNLIKE + MORE_OF_A_ROW / len(counted):
        probabilities, proportions = label(lambda _: own)
    rows, found = surest(probabilities, classes, proportions)
    answers = learn(rows, found).predict(others) if len(others) else np.empty(0, dtype=np.int64)
    return SelfLabelled(rows, found, sharpened(probabilities), proportions, answers)


def proportions_of(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels that occur in int64 [rows], in order, and the share of the rows that each has: [classes] each."""
    classes, counts = np.unique(labels, return_counts=True)
    return classes, counts / len(labels)


def surest(
    probabilities: np.ndarray, classes: np.ndarray, proportions: np.ndarray, share: float = SHARE
) -> tuple[np.ndarray, np.ndarray]:
    """Sorted int64 indices of the rows whose labels are surest, a share of all, and the int64 label of each.

    probabilities: [rows, classes], a column for each of the labels in `classes`, int64; each gets as many rows as the
    proportions, [classes], say, for the unlabelled rows are expected to hold the labels in about those.
    """
    wanted = np.maximum(1, np.rint(share * proportions * len(probabilities)).astype(np.int64))
    rows, columns = _surest(probabilities, wanted)
    return rows, classes[columns]


def neighbours(features: np.ndarray, advance: Callable[[int], None] = lambda rows: None) -> "csr_matrix":
    """The fourth power of the cosine of each row and its NEIGHBOURS nearest, normalised: fp64 [rows, rows], symmetric.

    features: [rows, hidden]. All rows are compared with all, so the time grows with their number's square: `advance` is
    called with numbers of rows that are done.
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
        own[~own.any(axis=1), 0] = True  # among more equals than asked for it may be missing: then any of them is it
        parts.append((distances[~own], columns[~own]))
        advance(len(columns))
    distances, columns = map(np.concatenate, zip(*parts, strict=True))
    starts = np.arange(0, len(columns) + 1, count)
    graph = csr_matrix(((1 - distances**2 / 2).clip(0) ** 4, columns, starts), shape=[len(features)] * 2)
    graph = graph.maximum(graph.T)
    scale = diags(1 / np.sqrt(np.asarray(graph.sum(axis=1)).ravel().clip(1e-12)))
    return (scale @ graph @ scale).tocsr()


def spread(graph: "csr_matrix", labels: np.ndarray, probabilities: np.ndarray, proportions: np.ndarray) -> np.ndarray:
    """The probabilities, fp64 [texts, classes], after they and the labels of the rows have gone to neighbours, in these
    proportions, [classes]: learning with local and global consistency (Zhou et al., 2004).

    graph: `neighbours` of the labelled rows and, after these, of the texts; labels: int64 of the rows; probabilities:
    [texts, classes], a column for each label that occurs, in order.
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
    """What `spread` returns, as sure as it is right: to the power of SHARPENED, and normalised."""
    found = probabilities**SHARPENED
    return found / found.sum(axis=1, keepdims=True)


def of_length_one(features: np.ndarray) -> np.ndarray:
    """Each row of [rows, hidden] divided by its length, in fp64; a row of zeros stays one."""
    features = features.astype(np.float64)
    return features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)


def _regression(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, self_labelled: np.ndarray, found: np.ndarray
) -> "LogisticRegression":
    """Of the labelled rows, [rows] weights, and of rows [texts, hidden] with the labels that were found for them."""
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
    """Each column's counts[column] most probable rows, [texts, columns] given; a row that two of them want goes to the
    more probable. Sorted rows, and the column of each."""
    wanted = np.full(probabilities.shape, -1.0)
    for column, count in enumerate(counts):
        best = np.argsort(-probabilities[:, column], kind="stable")[:count]
        wanted[best, column] = probabilities[best, column]
    rows = np.flatnonzero(wanted.max(axis=1) >= 0)
    return rows, wanted[rows].argmax(axis=1)
