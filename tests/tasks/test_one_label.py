"""One label a text: scikit-learn's and torch's numbers, and the published term of R-Drop."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from submillion.tasks.calibration import calibration_metrics, fit_temperature
from submillion.tasks.metrics import classification_metrics
from submillion.tasks.one_label import OneLabel
from submillion.tasks.saved import task_from, task_of, task_record

NAMES = ("World", "Sports", "Business", "Sci/Tech")
TASK = OneLabel(NAMES)
RNG = np.random.default_rng(0)
TARGETS = RNG.choice(4, size=200, p=[0.5, 0.3, 0.15, 0.05])
LOGITS = (RNG.normal(size=(200, 4)) + 1.5 * np.eye(4)[TARGETS]).astype(np.float32)


def test_targets_are_the_places_of_labels() -> None:
    targets = TASK.targets(["Sports", "World", "Sci/Tech", "Sports"])
    assert targets.dtype == np.int64 and targets.tolist() == [1, 0, 3, 1]
    assert TASK.names(targets) == ["Sports", "World", "Sci/Tech", "Sports"]
    assert TASK.targets([]).shape == (0,) and TASK.num_outputs == 4


def test_labels_that_are_none_of_the_task_s_are_all_named() -> None:
    with pytest.raises(
        ValueError, match=r"expected labels out of World, Sports, Business, Sci/Tech, found Art, sports"
    ):
        TASK.targets(["World", "sports", "Art", "sports"])


def test_losses_are_torch_s_cross_entropy_and_scikit_learn_s_log_loss() -> None:
    logits, targets = torch.from_numpy(LOGITS), torch.from_numpy(TARGETS)
    losses = TASK.losses(logits, targets)
    assert losses.dtype == torch.float32 and losses.shape == (200,)
    assert torch.equal(losses, F.cross_entropy(logits, targets, reduction="none"))
    probabilities = torch.softmax(logits.double(), dim=1).numpy()
    assert losses.mean().item() == pytest.approx(log_loss(TARGETS, probabilities), rel=1e-6)


def test_the_disagreement_is_the_published_term_of_r_drop() -> None:
    """Liang et al., 2021: the mean of the two directions' KL divergence, as `compute_kl_loss` of their code has it."""
    logits, others = torch.from_numpy(LOGITS), torch.from_numpy(LOGITS[::-1].copy())
    p_loss = F.kl_div(F.log_softmax(logits, dim=-1), F.softmax(others, dim=-1), reduction="none").sum(dim=1)
    q_loss = F.kl_div(F.log_softmax(others, dim=-1), F.softmax(logits, dim=-1), reduction="none").sum(dim=1)
    torch.testing.assert_close(TASK.disagreement(logits, others), (p_loss + q_loss) / 2, rtol=1e-4, atol=1e-5)
    assert not TASK.disagreement(logits, logits).any()


def test_the_disagreement_pulls_both_answers_together() -> None:
    first = torch.tensor([[1.0, 0.0, 0.0, 0.0]], requires_grad=True)
    second = torch.tensor([[0.0, 0.0, 0.0, 1.0]], requires_grad=True)
    TASK.disagreement(first, second).sum().backward()
    assert first.grad is not None and second.grad is not None
    assert first.grad[0, 0] > 0 > first.grad[0, 3] and second.grad[0, 3] > 0 > second.grad[0, 0]


def test_balanced_weights_are_scikit_learn_s() -> None:
    weights = TASK.class_weights(TARGETS, balanced=True)
    expected = compute_class_weight("balanced", classes=np.arange(4), y=TARGETS)
    assert weights.dtype == torch.float32 and weights.tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    assert TASK.class_weights(TARGETS, balanced=False).tolist() == [1.0] * 4
    by_row = TASK.row_weights(torch.from_numpy(TARGETS), weights)
    assert by_row.tolist() == weights[TARGETS].tolist() and by_row.sum().item() == pytest.approx(200, rel=1e-5)


def test_a_label_without_rows_weighs_nothing() -> None:
    assert TASK.class_weights(np.array([0, 0, 1]), balanced=True).tolist() == pytest.approx([3 / 8, 3 / 4, 0, 0])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_probabilities_are_torch_s_softmax(temperature: float) -> None:
    probabilities = TASK.probabilities(LOGITS, temperature)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, F.softmax(torch.from_numpy(LOGITS) / temperature, dim=1), atol=1e-7)
    assert (TASK.decode(probabilities) == TASK.decode(LOGITS)).all(), "a temperature changes no answer"


def test_the_answer_is_the_most_probable_label_and_the_first_of_equal_ones() -> None:
    scores = np.array([[0.1, 0.6, 0.3, 0.0], [0.4, 0.1, 0.4, 0.1]])
    assert TASK.decode(scores).tolist() == [1, 0]
    assert TASK.is_right(scores, np.array([1, 2])).tolist() == [True, False]
    assert TASK.count_right(torch.from_numpy(scores), torch.tensor([1, 2])).item() == 1
    assert TASK.confidence(scores).tolist() == [0.6, 0.4]
    assert TASK.support(scores, np.array([2, 0])).tolist() == [0.3, 0.4]


def test_no_change_below_the_margin_moves_an_answer() -> None:
    margins = TASK.margins(LOGITS)
    best = np.sort(LOGITS, axis=1)
    assert (margins == best[:, -1] - best[:, -2]).all() and (margins > 0).all()
    # The worst change of a size: down at the best logit and up at the second, half of it each.
    order = np.argsort(LOGITS, axis=1)
    for share, moves in ((0.49, False), (0.51, True)):
        changed = LOGITS.astype(np.float64)
        np.put_along_axis(changed, order[:, -1:], best[:, -1:] - share * margins[:, None], axis=1)
        np.put_along_axis(changed, order[:, -2:-1], best[:, -2:-1] + share * margins[:, None], axis=1)
        assert ((TASK.decode(changed) != TASK.decode(LOGITS)) == moves).all()


def test_rows_are_counted_by_label() -> None:
    assert TASK.count(np.array([0, 1, 1])).tolist() == [1, 2, 0, 0]


def test_metrics_are_scikit_learn_s_under_these_keys() -> None:
    metrics = TASK.metrics(LOGITS, TARGETS)
    assert set(metrics) == {"accuracy", "macro_f1", "loss", "rows", "per_label", "confusion"}
    assert metrics == classification_metrics(LOGITS, TARGETS, NAMES)
    assert metrics["accuracy"] == accuracy_score(TARGETS, TASK.decode(LOGITS))
    assert metrics["macro_f1"] == pytest.approx(f1_score(TARGETS, TASK.decode(LOGITS), average="macro"))
    overlap = np.arange(200) < 20
    assert set(TASK.metrics(LOGITS, TARGETS, overlap)) - set(metrics) == {"overlap"}
    some = TARGETS < 3
    assert set(TASK.metrics(LOGITS[some], TARGETS[some])) - set(metrics) == {"without_rows"}


def test_calibration_is_that_of_one_label() -> None:
    probabilities = TASK.probabilities(LOGITS)
    assert TASK.calibration(probabilities, TARGETS) == calibration_metrics(probabilities, TARGETS)
    assert TASK.fit_temperature(LOGITS, TARGETS) == fit_temperature(LOGITS, TARGETS) != 1
    assert TASK.fit_temperature(LOGITS, TARGETS, 201) == 1, "too few rows"


def test_a_task_comes_back_from_its_record() -> None:
    record = task_record(TASK)
    assert record == {"kind": "one label", "label_names": list(NAMES)}
    assert task_from(record) == task_of(list(NAMES)) == TASK


def test_a_kind_that_this_version_does_not_know_is_named() -> None:
    with pytest.raises(ValueError, match=r"expected a task out of one label, found 'several labels'"):
        task_from({"kind": "several labels", "label_names": ["a", "b"]})
