"""The learning rate's factor and the steps of evaluations: known values, boundaries and direction."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from submillion.training.schedule import EVALUATIONS, WARMUP, evaluates_after, evaluations, learning_rate_factor

fractions = st.floats(0, 1)
totals = st.integers(1, 500)


@pytest.mark.parametrize(
    ("warmup", "expected"),
    [(0.0, [1.0, 0.75, 0.5, 0.25]), (0.5, [1 / 3, 2 / 3, 1.0, 0.5]), (1.0, [0.2, 0.4, 0.6, 0.8])],
)
def test_the_factor_of_each_step(warmup: float, expected: list[float]) -> None:
    assert [learning_rate_factor(step, 4, warmup) for step in range(4)] == pytest.approx(expected, abs=1e-6)


def test_the_factor_after_the_last_step_is_0() -> None:
    assert learning_rate_factor(10, 10, 0.1) == pytest.approx(0.0)


def test_six_percent_of_the_steps_are_warm_up() -> None:
    assert WARMUP == 0.06 and [learning_rate_factor(step, 50) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


@given(totals, fractions)
def test_it_rises_then_never_rises_again_and_stays_above_0(total: int, warmup: float) -> None:
    factors = [learning_rate_factor(step, total, warmup) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


@given(totals, st.floats(0, 0.9))
def test_it_reaches_1_at_the_first_step_after_the_warm_up(total: int, warmup: float) -> None:
    factors = [learning_rate_factor(step, total, warmup) for step in range(total)]
    below = next((step for step, factor in enumerate(factors) if factor == 1.0), total)
    assert warmup * total <= below <= warmup * total + 1


@given(totals, st.integers(1, 12))
def test_a_run_evaluates_last_and_as_often_as_it_has_steps_for(total: int, epochs: int) -> None:
    steps = [step for step in range(1, total + 1) if evaluates_after(step, total, epochs)]
    assert steps[-1] == total and len(steps) == min(total, max(epochs, EVALUATIONS))
    apart = [b - a for a, b in zip([0, *steps], steps, strict=False)]
    assert max(apart) - min(apart) <= 1


@given(st.integers(1, 40), st.integers(EVALUATIONS, 12))
def test_a_run_of_four_epochs_or_more_evaluates_after_each(steps_an_epoch: int, epochs: int) -> None:
    total = steps_an_epoch * epochs
    after = [step for step in range(1, total + 1) if evaluates_after(step, total, epochs)]
    assert after == [steps_an_epoch * epoch for epoch in range(1, epochs + 1)] and evaluations(epochs) == epochs
