"""The learning rate's factor: known values, its boundaries and its direction."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from submillion.training.schedule import learning_rate_factor

SCHEDULES = ("linear", "cosine", "constant")
fractions = st.floats(0, 1)
totals = st.integers(1, 500)


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("linear", 0.0, [1.0, 0.75, 0.5, 0.25]),
        ("constant", 0.0, [1.0, 1.0, 1.0, 1.0]),
        ("cosine", 0.0, [1.0, 0.853553, 0.5, 0.146447]),
        ("linear", 0.5, [1 / 3, 2 / 3, 1.0, 0.5]),
        ("constant", 0.25, [0.5, 1.0, 1.0, 1.0]),
        ("linear", 1.0, [0.2, 0.4, 0.6, 0.8]),
    ],
)
def test_the_factor_of_each_step(schedule: str, warmup: float, expected: list[float]) -> None:
    found = [learning_rate_factor(step, 4, warmup, schedule) for step in range(4)]
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("schedule", "last"), [("linear", 0.0), ("cosine", 0.0), ("constant", 1.0)])
def test_the_factor_after_the_last_step(schedule: str, last: float) -> None:
    assert learning_rate_factor(10, 10, 0.1, schedule) == pytest.approx(last)


@given(totals, fractions, st.sampled_from(SCHEDULES))
def test_it_rises_then_never_rises_again_and_stays_above_0(total: int, warmup: float, schedule: str) -> None:
    factors = [learning_rate_factor(step, total, warmup, schedule) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


@given(totals, st.floats(0, 0.9), st.sampled_from(SCHEDULES))
def test_it_reaches_1_at_the_first_step_after_the_warm_up(total: int, warmup: float, schedule: str) -> None:
    factors = [learning_rate_factor(step, total, warmup, schedule) for step in range(total)]
    below = next((step for step, factor in enumerate(factors) if factor == 1.0), total)
    assert warmup * total <= below <= warmup * total + 1


def test_an_unknown_schedule_is_an_error() -> None:
    with pytest.raises(ValueError, match="'poly'"):
        learning_rate_factor(0, 10, 0.0, "poly")
