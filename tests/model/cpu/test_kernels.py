"""What kernels.c computes: its dropout, and that results do not depend on threads or on strides of single rows."""

import pytest
import torch

from submillion.model.cpu import kernels
from submillion.model.cpu.build import built
from submillion.model.cpu.dropout import Drop
from submillion.model.cpu.functional import gelu

COMPILED = pytest.mark.skipif(not built().libraries, reason=built().reason)
BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


def keep_of(rate: float, key: int, size: int = 1_000_000, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The mask of a key, as what add_norm makes of ones."""
    ones = torch.ones(size // 1000, 1008, dtype=dtype)
    weight = torch.ones(1008)
    _, total, _ = kernels.add_norm(ones, torch.zeros_like(ones), weight, weight, 1e-5, Drop.at(rate, key), True)
    assert total is not None
    return total


@COMPILED
@pytest.mark.parametrize("rate", [0.001, 0.05, 0.1, 0.5, 0.9])
def test_the_share_of_zeros_is_the_rate_and_the_expectation_is_one(rate: float) -> None:
    keep = keep_of(rate, 99)
    assert (keep == 0).float().mean().item() == pytest.approx(rate, abs=0.002)
    assert keep.double().mean().item() == pytest.approx(1.0, abs=0.02)
    assert keep.max().item() == pytest.approx(1 / (1 - rate)) and len(keep.unique()) == 2


@COMPILED
def test_neighbours_rows_and_keys_are_dropped_independently() -> None:
    zeros = (keep_of(0.1, 7) == 0).double().flatten() - 0.1
    for apart in (1, 2, 3, 16, 64, 1008):
        assert abs((zeros[:-apart] * zeros[apart:]).mean().item()) < 5 * 0.09 / 1000
    for key in (8, 7 + 2**16, 7 + 2**32, 2**63):  # keys that differ in a bit, of either half
        other = (keep_of(0.1, key) == 0).double().flatten() - 0.1
        assert abs((zeros * other).mean().item()) < 5 * 0.09 / 1000


@COMPILED
def test_a_key_decides_a_mask_in_both_types() -> None:
    exact, rounded = keep_of(0.1, 5), keep_of(0.1, 5, dtype=torch.bfloat16)
    assert torch.equal(exact == 0, rounded == 0) and not torch.equal(exact, keep_of(0.1, 6))
    assert torch.equal(keep_of(0.0, 5), torch.ones_like(exact))


@COMPILED
@BOTH
def test_nothing_depends_on_which_thread_computes_a_row(dtype: torch.dtype) -> None:
    """The adapters' gradients are sums over threads, so equal to rounding; all else is equal bit for bit."""
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(5, 70, 144, generator=generator).to(dtype)
    lengths, grad = torch.tensor([70, 3, 41, 64, 7]), torch.randn(5, 70, 48, generator=generator).to(dtype)
    lora_A, lora_B = torch.randn(3, 144, generator=generator), torch.randn(48, 3, generator=generator)
    drop, found = Drop.at(0.1, 3), []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            inputs, grads = list(qkv.split(48, -1)), list(torch.empty_like(qkv).split(48, -1))
            context, norms = kernels.attention(inputs, 3, None, lengths, None, drop)
            kernels.attention_backward(grad, inputs, grads, 3, None, lengths, None, drop, norms)
            y, total, _ = kernels.add_norm(context, grad, torch.ones(48), torch.zeros(48), 1e-5, drop, True)
            sums = kernels.adapter_gradients(qkv.flatten(0, 1), grad.flatten(0, 1), lora_A, lora_B, 2.0)
            found.append(([context, *grads, y, total], sums))
    finally:
        torch.set_num_threads(before)
    for one, sums in found[1:]:
        assert all(map(torch.equal, one, found[0][0]))  # type: ignore[arg-type]
        for a, b in zip(sums, found[0][1], strict=True):
            torch.testing.assert_close(a, b, atol=1e-3 if dtype == torch.float32 else 2e-3, rtol=1e-5)
    assert all(map(torch.equal, found[1][1], found[3][1]))  # two threads twice


@COMPILED
def test_strides_that_say_nothing_are_not_followed() -> None:
    x, lora_A, lora_B = torch.randn(5, 48), torch.randn(2, 48), torch.randn(32, 2)
    grad = torch.ones(()).expand(5, 32)
    found = kernels.adapter_gradients(x, grad, lora_A, lora_B, 1.0)
    for one, other in zip(found, kernels.adapter_gradients(x, grad.clone(), lora_A, lora_B, 1.0), strict=True):
        assert torch.equal(one, other)
    qkv = torch.randn(1, 3, 96).transpose(0, 1)  # three rows of one token, whose stride(1) is 288
    assert qkv.is_contiguous() and qkv.stride(1) != 96
    lengths, drop = torch.ones(3, dtype=torch.int64), Drop.at(0.0, 0)
    context, _ = kernels.attention(list(qkv.split(32, -1)), 2, None, lengths, None, drop)
    torch.testing.assert_close(context, qkv[..., 64:])  # one token attends to itself


@COMPILED
def test_the_slope_of_gelu_is_spent_once() -> None:
    x = torch.randn(32, requires_grad=True)
    total = gelu(x * 1).sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="computed once"):
        total.backward()
