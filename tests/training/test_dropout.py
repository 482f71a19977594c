"""Dropout: its rate, its scale, its gradient, and a generator that is its own."""

import pytest
import torch

from submillion.training.dropout import Dropout


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5, 0.9])
def test_the_share_of_zeros_is_the_rate_and_the_mean_is_kept(rate: float) -> None:
    x = torch.ones(1000, 1000)
    y = Dropout(0)(x, rate)
    assert (y == 0).float().mean().item() == pytest.approx(rate, abs=1 / 256)
    assert y.mean().item() == pytest.approx(1.0, abs=0.01)
    assert len(y.unique()) == 2


@pytest.mark.parametrize("rate", [0.001, 0.998, 0.999])
def test_rates_near_the_ends_still_drop_some_and_keep_some(rate: float) -> None:
    y = Dropout(0)(torch.ones(100_000), rate)
    assert y.isfinite().all() and 0 < (y == 0).sum() < len(y)


def test_a_rate_of_zero_returns_its_input_and_draws_nothing() -> None:
    x = torch.randn(3, 5)
    dropout, fresh = Dropout(0), Dropout(0)
    assert dropout(x, 0.0) is x
    assert torch.equal(dropout(x, 0.5), fresh(x, 0.5))


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5, 2), (2, 8), (0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shape_and_dtype_are_kept(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    y = Dropout(0)(torch.ones(shape, dtype=dtype), 0.5)
    assert y.shape == shape and y.dtype == dtype and set(y.flatten().tolist()) <= {0.0, 2.0}


def test_a_view_that_is_not_contiguous_is_dropped_too() -> None:
    y = Dropout(0)(torch.ones(300, 200).t(), 0.5)
    assert y.shape == (200, 300) and (y == 0).float().mean().item() == pytest.approx(0.5, abs=0.02)


def test_the_seed_decides_the_masks_and_each_call_draws_a_new_one() -> None:
    x = torch.ones(64, 64)
    first, same, other = Dropout(1), Dropout(1), Dropout(2)
    a, b = first(x, 0.5), first(x, 0.5)
    assert torch.equal(a, same(x, 0.5)) and torch.equal(b, same(x, 0.5))
    assert not torch.equal(a, b) and not torch.equal(a, other(x, 0.5))


def test_torch_s_global_generator_neither_decides_nor_moves() -> None:
    x = torch.ones(64, 64)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    a = Dropout(1)(x, 0.5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert torch.equal(a, Dropout(1)(x, 0.5))


def test_the_gradient_is_masked_and_scaled_as_the_output_is() -> None:
    x = torch.full((50, 50), 3.0, requires_grad=True)
    y = Dropout(0)(x, 0.25)
    y.sum().backward()
    assert x.grad is not None and x.grad.unique().numel() == 2
    torch.testing.assert_close(x.grad, y.detach() / 3.0)
