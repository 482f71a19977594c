"""Self-training: a few labels and the shape of the unlabelled rows give more right labels than the few alone."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import kneighbors_graph

from submillion.training.few_labels import selftraining
from submillion.training.few_labels.selftraining import (
    KEPT,
    NEIGHBOURS,
    SHARE,
    SHARPENED,
    STEPS,
    _surest,
    neighbours,
    of_length_one,
    self_label,
    sharpened,
    spread,
    surest,
)

CENTRES = np.eye(8)[:3]
NONE = np.empty((0, 8), dtype=np.float32)


def blobs(counts: list[int], deviation: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    return (CENTRES[labels] + deviation * rng.standard_normal((len(labels), 8))).astype(np.float32), labels


@pytest.mark.parametrize("seed", range(3))
def test_it_labels_better_than_the_few_rows_alone(seed: int) -> None:
    features, labels = blobs([2, 2, 2], 0.45, seed)
    unlabelled, truth = blobs([300, 300, 300], 0.35, seed + 100)
    alone = LogisticRegression(C=10).fit(features, labels).predict(unlabelled)
    made = self_label(features, labels, unlabelled, unlabelled)
    assert (made.labels == truth[made.rows]).mean() > (alone[made.rows] == truth[made.rows]).mean()
    assert (made.answers == truth).mean() > (alone == truth).mean(), "and of other rows, here the same"
    assert made.rows.dtype == made.labels.dtype == np.int64 and (np.diff(made.rows) > 0).all()
    assert made.probabilities.shape == (900, 3) and made.probabilities.sum(axis=1) == pytest.approx(1)
    assert (made.probabilities.argmax(axis=1) == truth).mean() > (alone == truth).mean()


def test_it_takes_four_in_five_in_the_labelled_rows_proportions() -> None:
    features, labels = blobs([4, 2, 2], 0.05, 0)
    unlabelled, truth = blobs([400, 200, 200], 0.05, 1)
    advanced: list[int] = []
    made = self_label(features, labels, unlabelled, NONE, advance=advanced.append)
    assert np.bincount(made.labels).tolist() == [SHARE * 400, SHARE * 200, SHARE * 200]
    assert (made.labels == truth[made.rows]).all() and len(made.answers) == 0
    assert advanced == [808, *(STEPS - 1) * [800]], (
        "a run to see what the texts hold, and one in the labelled rows' proportions"
    )


@pytest.mark.parametrize("seed", range(3))
def test_texts_in_other_proportions_than_the_labelled_rows_are_labelled_in_their_own(seed: int) -> None:
    features, labels = blobs([4, 4, 4], 0.3, seed)
    unlabelled, truth = blobs([420, 120, 60], 0.25, seed + 100)
    made = self_label(features, labels, unlabelled, unlabelled)
    assert made.proportions == pytest.approx([0.7, 0.2, 0.1], abs=0.06)
    assert (made.labels == truth[made.rows]).mean() > 0.98 and (made.answers == truth).mean() > 0.97
    assert np.bincount(made.labels) / len(unlabelled) == pytest.approx(SHARE * made.proportions, abs=0.01)


def test_texts_in_nearly_the_labelled_rows_proportions_are_labelled_in_these() -> None:
    features, labels = blobs([4, 4, 4], 0.1, 0)
    unlabelled, _ = blobs([220, 200, 180], 0.1, 1)
    made = self_label(features, labels, unlabelled, NONE)
    assert made.proportions.tolist() == [1 / 3] * 3, "a thirtieth away, which may be a mistake"


def test_features_of_length_one() -> None:
    found = of_length_one(np.array([[3, 4], [0, 0], [-0.1, 0]], dtype=np.float32))
    assert found.dtype == np.float64
    assert found == pytest.approx(np.array([[0.6, 0.8], [0, 0], [-1, 0]]), abs=1e-6)


def test_the_length_of_a_feature_says_nothing() -> None:
    features, labels = blobs([3, 3, 3], 0.2, 0)
    unlabelled, _ = blobs([50, 50, 50], 0.2, 1)
    stretched = unlabelled * np.linspace(0.1, 9, 150, dtype=np.float32)[:, None]
    expected, found = (
        self_label(of_length_one(few), labels, of_length_one(texts), of_length_one(texts[:5]))
        for few, texts in ((features, unlabelled), (features * 7, stretched))
    )
    assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-6)
    for name in ("rows", "labels", "answers", "proportions"):
        assert getattr(found, name).tolist() == getattr(expected, name).tolist()


def test_a_row_that_its_neighbours_contradict_gets_their_label() -> None:
    features, labels = blobs([3, 3], 0.1, 0)
    unlabelled, truth = blobs([40, 40], 0.1, 1)
    probabilities = np.where(np.eye(2)[truth] == 1, 0.7, 0.3)
    probabilities[::5] = probabilities[::5, ::-1]
    found = spread(neighbours(np.concatenate([features, unlabelled])), labels, probabilities, np.array([0.5, 0.5]))
    assert (found.argmax(axis=1) == truth).all()


def test_probabilities_spread_to_the_limit() -> None:
    """Zhou et al.'s closed form, of which the steps are the series."""
    features, labels = blobs([5, 5], 0.3, 0)
    unlabelled, _ = blobs([30, 20], 0.3, 1)
    graph = neighbours(np.concatenate([features, unlabelled]))
    probabilities = np.random.default_rng(0).dirichlet([1, 1], 50)
    start = np.concatenate([np.eye(2)[labels], probabilities])
    limit = np.linalg.solve(np.eye(60) - (1 - KEPT) * graph.toarray(), KEPT * start)[10:]
    limit = limit * np.array([0.7, 0.3]) / limit.sum(axis=0)
    expected = limit / limit.sum(axis=1, keepdims=True)
    assert spread(graph, labels, probabilities, np.array([0.7, 0.3])) == pytest.approx(expected, abs=1e-5)


def test_spread_probabilities_are_as_many_as_the_proportions_have_it() -> None:
    unlabelled, _ = blobs([40, 40], 0.4, 0)
    features, labels = blobs([4, 4], 0.2, 1)
    probabilities = np.random.default_rng(0).dirichlet([1, 1], 80)
    found = spread(neighbours(np.concatenate([features, unlabelled])), labels, probabilities, np.array([0.75, 0.25]))
    assert found.shape == (80, 2) and found.sum(axis=1) == pytest.approx(1)
    assert found[:, 0].mean() == pytest.approx(0.75, abs=0.1), "three in four, where it was half"


def test_sharpened_probabilities_keep_their_order_and_those_that_are_certain() -> None:
    found = sharpened(np.array([[0.6, 0.3, 0.1], [1, 0, 0], [0.5, 0.5, 0]]))
    assert found.sum(axis=1) == pytest.approx(1)
    assert found[0, 0] / found[0, 1] == pytest.approx(2**SHARPENED)
    assert found[1:].tolist() == [[1, 0, 0], [0.5, 0.5, 0]]


def test_neighbours_are_symmetric_and_nobodys_own() -> None:
    graph = neighbours(3 * blobs([30, 30], 0.4, 0)[0])
    assert abs(graph - graph.T).max() < 1e-12 and graph.diagonal().max() == 0
    assert (np.diff(graph.indptr) >= NEIGHBOURS).all()
    assert np.linalg.eigvalsh(graph.toarray()).max() == pytest.approx(1), "so spreading has a limit"


@pytest.mark.parametrize("block", [7, 64, 1000])
def test_neighbours_are_found_in_blocks_and_are_scikit_learn_s(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftraining, "BLOCK_ROWS", block)
    features, done = blobs([30, 34], 0.4, 0)[0], list[int]()
    graph = neighbours(features, done.append)
    nearest = kneighbors_graph(of_length_one(features), NEIGHBOURS).toarray()
    assert ((graph.toarray() > 0) == (np.maximum(nearest, nearest.T) > 0)).all()
    assert sum(done) == 64 and len(done) == -(-64 // block)


def test_of_many_equal_rows_none_is_its_own_neighbour() -> None:
    graph = neighbours(np.ones((40, 3)))
    assert graph.diagonal().max() == 0 and (np.diff(graph.indptr) >= NEIGHBOURS).all()


def test_a_label_without_labelled_rows_is_never_given() -> None:
    features, labels = blobs([3, 0, 3], 0.1, 0)
    unlabelled, _ = blobs([20, 20, 20], 0.1, 1)
    made = self_label(features, labels, unlabelled, unlabelled)
    assert set(made.labels.tolist()) == set(made.answers.tolist()) == {0, 2} and made.probabilities.shape == (60, 2)


def test_the_surest_of_a_model_are_taken_in_proportion() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.2, 0.8], [0.1, 0.9]])
    rows, found = surest(probabilities, np.array([1, 3]), np.array([1 / 3, 2 / 3]), share=0.5)
    assert rows.tolist() == [0, 4, 5] and found.tolist() == [1, 3, 3], "one of 1, two of 3"


def test_a_row_that_two_labels_want_goes_to_the_more_probable() -> None:
    probabilities = np.array([[0.6, 0.4], [0.3, 0.7], [0.5, 0.5]])
    rows, columns = _surest(probabilities, np.array([2, 3]))
    assert rows.tolist() == [0, 1, 2] and columns.tolist() == [0, 1, 0]


def test_fewer_unlabelled_rows_than_labels_are_enough() -> None:
    features, labels = blobs([2, 2, 2], 0.1, 0)
    made = self_label(features, labels, features[:1], NONE)
    assert made.rows.tolist() == [0] and made.labels.tolist() == [0]


def test_names_weigh_more_than_rows_and_do_not_count_in_the_proportions() -> None:
    unlabelled, truth = blobs([400, 200, 200], 0.45, 1)
    features, labels = blobs([4, 2, 2], 1.5, 2)
    named, of = np.concatenate([features, CENTRES]), np.concatenate([labels, np.arange(3)])
    right = []
    for given in ((features, labels, unlabelled, NONE), (named, of, unlabelled, NONE, 3)):
        made = self_label(*given)
        right.append((made.labels == truth[made.rows]).mean())
    assert right[0] < right[1]
    assert np.bincount(made.labels).tolist() == [SHARE * 400, SHARE * 200, SHARE * 200]
