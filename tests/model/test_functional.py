"""The hand-written gradients against autograd's own, in double precision, and their values against the plain forms."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from submillion.model.functional import add_norm, attention, merged_linear

HEADS = 3


def tensors(*shapes: tuple[int, ...], seed: int = 0, grad: bool = True) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator).requires_grad_(grad) for shape in shapes]


def plain_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, keep: Tensor | None) -> Tensor:
    q, k, v = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    weights = (scores if bias is None else scores + bias).softmax(-1)
    weights = weights if keep is None else weights * keep.view(weights.shape)
    return (weights @ v).transpose(1, 2).flatten(2)


def check(ours: Tensor, plain: Tensor, inputs: list[Tensor], tolerance: float = 1e-5) -> None:
    (direction,) = tensors(tuple(plain.shape), seed=9, grad=False)
    torch.testing.assert_close(ours, plain.to(ours.dtype), atol=tolerance, rtol=0)
    found = torch.autograd.grad(ours, inputs, direction.to(ours.dtype))
    expected = torch.autograd.grad(plain, inputs, direction.to(plain.dtype))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance * max(1.0, b.abs().max().item()), rtol=0)


@pytest.mark.parametrize("queries", [1, 7])
@pytest.mark.parametrize("biased", ["no", "a row", "a pair"])
@pytest.mark.parametrize("dropped", [False, True])
def test_attention(queries: int, biased: str, dropped: bool) -> None:
    inputs = tensors((4, queries, 12), (4, 7, 12), (4, 7, 12))
    bias = {"no": None, "a row": torch.randn(4, 1, 1, 7), "a pair": torch.randn(1, HEADS, queries, 7)}[biased]
    keep = (torch.rand(4 * HEADS, queries, 7) > 0.3).float() * 1.5 if dropped else None
    check(attention(*inputs, HEADS, bias, keep), plain_attention(*inputs, bias, keep), inputs)


@pytest.mark.parametrize("at_once", [1, 3 * 7 * 7 * HEADS])
@pytest.mark.parametrize("biased", [False, True])
def test_attention_in_blocks_of_rows(at_once: int, biased: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = tensors((4, 7, 12), (4, 7, 12), (4, 7, 12))
    bias = torch.randn(4, 1, 1, 7) if biased else None
    whole = attention(*inputs, HEADS, bias)
    monkeypatch.setattr("submillion.model.functional.SCORES_AT_ONCE", at_once)
    assert torch.equal(attention(*inputs, HEADS, bias), whole)
    check(attention(*inputs, HEADS, bias), plain_attention(*inputs, bias, None), inputs)


def test_attention_does_not_change_its_inputs() -> None:
    inputs = tensors((2, 5, 12), (2, 5, 12), (2, 5, 12))
    bias, keep = torch.randn(2, 1, 1, 5), torch.ones(2 * HEADS, 5, 5)
    before = [x.detach().clone() for x in (*inputs, bias, keep)]
    attention(*inputs, HEADS, bias, keep).sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(before, (*inputs, bias, keep), strict=True))


@pytest.mark.parametrize("dropped", [False, True])
def test_add_norm(dropped: bool) -> None:
    inputs = tensors((3, 5, 8), (3, 5, 8), (8,), (8,))
    x, residual, weight, bias = inputs
    keep = (torch.rand(3, 5, 8) > 0.3).float() * 1.5 if dropped else None
    total = residual + (x if keep is None else x * keep)
    check(add_norm(x, residual, weight, bias, 1e-5, keep), F.layer_norm(total, (8,), weight, bias, 1e-5), inputs)


def test_add_norm_leaves_out_the_gradients_that_nobody_wants() -> None:
    x, residual = tensors((3, 5, 8), (3, 5, 8))
    y = add_norm(x, residual, torch.ones(8), torch.zeros(8), 1e-5, None)
    y.square().sum().backward()
    assert x.grad is not None and torch.equal(x.grad, residual.grad)


def test_merged_linear() -> None:
    x, lora_A, lora_B = inputs = tensors((4, 6, 10), (3, 10), (9, 3))
    weight, bias = tensors((9, 10), (9,), seed=1, grad=False)
    plain = F.linear(x, weight, bias) + x @ lora_A.T @ lora_B.T
    check(merged_linear(x, weight, bias, lora_A, lora_B), plain, inputs)


def test_merged_linear_below_which_nothing_trains() -> None:
    lora_A, lora_B = tensors((3, 10), (9, 3))
    x, weight, bias = tensors((4, 6, 10), (9, 10), (9,), seed=1, grad=False)
    merged_linear(x, weight, bias, lora_A, lora_B).sum().backward()
    assert lora_A.grad is not None and lora_B.grad is not None and x.grad is None


def test_bf16_is_near_fp32() -> None:
    x, lora_A, lora_B = tensors((4, 6, 64), (3, 64), (48, 3))
    weight, bias = tensors((48, 64), (48,), seed=1, grad=False)
    exact = merged_linear(x, weight, bias, lora_A, lora_B)
    rounded = merged_linear(x.bfloat16(), weight, bias.bfloat16(), lora_A, lora_B)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, atol=0.25, rtol=0.02)
