"""Dropout masks: their rate, their scale, and a generator that is its own."""

import pytest
import torch

from submillion.training.dropout import Dropout

LIKE = torch.ones(1)


def mask(dropout: Dropout, shape: tuple[int, ...], rate: float, like: torch.Tensor = LIKE) -> torch.Tensor:
    found = dropout(shape, rate, like)
    assert found is not None
    return found


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5, 0.9])
def test_the_share_of_zeros_is_the_rate_and_the_expectation_is_one(rate: float) -> None:
    keep = mask(Dropout(0), (2000, 1000), rate)
    assert (keep == 0).float().mean().item() == pytest.approx(rate, abs=0.003)
    assert keep.double().mean().item() == pytest.approx(1.0, abs=0.006)
    assert len(keep.unique()) == 2


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.998])
def test_the_scale_is_a_bf16_number_near_the_inverse_of_what_is_kept(rate: float) -> None:
    scale = mask(Dropout(0), (100_000,), rate).max().item()
    assert scale == torch.tensor(scale).bfloat16().item() == pytest.approx(1 / (1 - rate), rel=2**-8)


@pytest.mark.parametrize("rate", [0.01, 0.998, 0.999])
def test_rates_near_the_ends_still_drop_some_and_keep_some(rate: float) -> None:
    keep = mask(Dropout(0), (100_000,), rate)
    assert keep.isfinite().all() and 0 < (keep == 0).sum() < len(keep)


def test_a_rate_of_zero_is_no_mask_and_draws_nothing() -> None:
    dropout, fresh = Dropout(0), Dropout(0)
    assert dropout((3, 5), 0.0, LIKE) is None
    assert torch.equal(mask(dropout, (3, 5), 0.5), mask(fresh, (3, 5), 0.5))


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5, 2), (2, 8), (0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shape_and_dtype_are_as_asked(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    keep = mask(Dropout(0), shape, 0.5, LIKE.to(dtype))
    assert keep.shape == shape and keep.dtype == dtype and set(keep.flatten().tolist()) <= {0.0, 2.0}


def test_masks_are_the_same_in_bf16_and_fp32() -> None:
    narrow, wide = (mask(Dropout(3), (40, 50), 0.1, LIKE.to(dtype)) for dtype in (torch.bfloat16, torch.float32))
    assert torch.equal(narrow.float(), wide)


def test_neighbours_are_dropped_independently() -> None:
    zeros = (mask(Dropout(0), (1_000_000,), 0.1) == 0).double() - 0.1
    for apart in (1, 2, 3, 4, 8):  # four elements share a draw
        assert abs((zeros[:-apart] * zeros[apart:]).mean().item()) < 5 * 0.09 / 1000


def test_the_seed_decides_the_masks_and_each_call_draws_a_new_one() -> None:
    first, same, other = Dropout(1), Dropout(1), Dropout(2)
    a, b = mask(first, (64, 64), 0.5), mask(first, (64, 64), 0.5)
    assert torch.equal(a, mask(same, (64, 64), 0.5)) and torch.equal(b, mask(same, (64, 64), 0.5))
    assert not torch.equal(a, b) and not torch.equal(a, mask(other, (64, 64), 0.5))


def test_torch_s_global_generator_neither_decides_nor_moves() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    a = mask(Dropout(1), (64, 64), 0.5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert torch.equal(a, mask(Dropout(1), (64, 64), 0.5))
