"""The hand-written gradients and values against autograd and the plain forms, compiled and in torch's operations."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from submillion.model import kernels
from submillion.model.functional import (
    PADDING_BIAS,
    AttentionMask,
    Packing,
    add_norm,
    attention,
    gelu,
    linear,
    linear_int8,
    merged_linear,
    merged_weight,
    pack,
    pack_int8,
    packed_linear,
)

HEADS, HEAD, HIDDEN, LENGTH = 3, 16, 48, 7
ROWS = [7, 1, 4, 6]  # tokens of each row
KEY = 0x1234_5678_9ABC_DEF1
pytestmark = pytest.mark.usefixtures("operations")


class FixedDropout:
    """Every mask from one key, or one tensor."""

    def __init__(self, keep: Tensor | None = None) -> None:
        self.keep = keep

    def __call__(self, shape: Sequence[int], rate: float, like: Tensor) -> Tensor | None:
        assert self.keep is not None and tuple(self.keep.shape) == tuple(shape)
        return self.keep

    def key(self) -> int:
        return KEY


def tensors(*shapes: tuple[int, ...], seed: int = 0, grad: bool = True) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator).requires_grad_(grad) for shape in shapes]


def check(ours: Tensor, plain: Tensor, inputs: list[Tensor], tolerance: float = 1e-5) -> None:
    (direction,) = tensors(tuple(plain.shape), seed=9, grad=False)
    torch.testing.assert_close(ours, plain.to(ours.dtype), atol=tolerance * max(1.0, plain.abs().max().item()), rtol=0)
    found = torch.autograd.grad(ours, inputs, direction.to(ours.dtype))
    expected = torch.autograd.grad(plain, inputs, direction.to(plain.dtype))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance * max(1.0, b.abs().max().item()), rtol=0)


def of_tokens(context: Tensor) -> Tensor:
    """Without the context of padding, which is not defined."""
    if context.shape[1] == 1:
        return context
    return torch.cat([row[:tokens] for row, tokens in zip(context, ROWS, strict=True)])


def mask_of(lengths: Sequence[int], bias: Tensor | None = None) -> AttentionMask:
    attention_mask = (torch.arange(LENGTH) < torch.tensor(lengths)[:, None]).long()
    return AttentionMask.of(attention_mask)._replace(bias=bias)


def plain_attention(parts: Sequence[Tensor], mask: AttentionMask, keep: Tensor | None) -> Tensor:
    q, k, v = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in torch.cat(split(parts), 0).chunk(3, 0))
    scores = q[:, :, : parts[0].shape[1]] @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    weights = (scores if mask.total is None else scores + mask.total).softmax(-1)
    weights = weights if keep is None else weights * keep.view(weights.shape)
    return (weights @ v).transpose(1, 2).flatten(2)


def split(parts: Sequence[Tensor]) -> list[Tensor]:
    """Query, key and value, a single query padded to the others' length."""
    hidden = sum(part.shape[-1] for part in parts) // 3
    views = [view for part in parts for view in part.split(hidden, dim=-1)]
    return [F.pad(view, (0, 0, 0, LENGTH - view.shape[1])) for view in views]


def attention_mask_of(queries: int) -> tuple[FixedDropout, Tensor]:
    """A dropout of 0.3 on attention weights, and the mask that it stands for, [batch * heads, queries, length]."""
    shape = (len(ROWS) * HEADS, queries, LENGTH)
    if not kernels.built().libraries:
        keep = (torch.rand(shape) > 0.3).float() / 0.7
        return FixedDropout(keep), keep
    # Without queries and keys all weights are equal; values that are rows of the identity show them one by one.
    zeros = torch.zeros(len(ROWS), LENGTH, HIDDEN)
    ones = torch.eye(LENGTH, HEAD).repeat(len(ROWS), 1, HEADS)
    parts = [zeros[:, :queries].contiguous(), zeros, ones]
    shown = attention(parts, HEADS, mask_of([LENGTH] * len(ROWS)), 0.3, FixedDropout())
    keep = LENGTH * shown.unflatten(-1, (HEADS, HEAD))[..., :LENGTH].transpose(1, 2)
    assert {round(value, 4) for value in keep.flatten().tolist()} == {0.0, round(1 / 0.7, 4)}
    return FixedDropout(), keep.reshape(shape)


@pytest.mark.parametrize("widths", [(3,), (1, 2), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("lengths", [ROWS, [7, 7, 7, 7]], ids=["ragged", "full"])
@pytest.mark.parametrize("bias_heads", [0, 1, HEADS])
@pytest.mark.parametrize("dropped", [False, True])
def test_attention(widths: tuple[int, ...], lengths: list[int], bias_heads: int, dropped: bool) -> None:
    queries = 1 if widths == (1, 2) else LENGTH
    inputs = tensors(*((4, queries if n == 0 else LENGTH, width * HIDDEN) for n, width in enumerate(widths)))
    bias = torch.randn(1, bias_heads, queries, LENGTH) if bias_heads else None
    mask = mask_of(lengths, bias)
    dropout, keep = attention_mask_of(queries) if dropped else (None, None)
    ours = attention(inputs, HEADS, mask, 0.3, dropout)
    assert ours.shape == (4, queries, HIDDEN)
    check(of_tokens(ours), of_tokens(plain_attention(inputs, mask, keep)), inputs)


def test_attention_over_more_tokens_than_are_computed_at_once() -> None:
    inputs = tensors((2, 150, 3 * HIDDEN))
    mask = AttentionMask.of((torch.arange(150) < torch.tensor([[150], [97]])).long())
    q, k, v = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in inputs[0].chunk(3, dim=-1))
    plain = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.total).transpose(1, 2).flatten(2)
    ours = attention(inputs, HEADS, mask)
    check(torch.cat([ours[0], ours[1, :97]]), torch.cat([plain[0], plain[1, :97]]), inputs)


@pytest.mark.parametrize("at_once", [1, 3 * 7 * 7 * HEADS])
@pytest.mark.parametrize("lengths", [ROWS, [7, 7, 7, 7]], ids=["ragged", "full"])
def test_attention_in_blocks_of_rows(at_once: int, lengths: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, mask = tensors((4, LENGTH, 3 * HIDDEN)), mask_of(lengths)
    whole = attention(inputs, HEADS, mask)
    monkeypatch.setattr("submillion.model.functional.SCORES_AT_ONCE", at_once)
    assert torch.equal(attention(inputs, HEADS, mask), whole)


def test_scores_far_apart_neither_overflow_nor_vanish() -> None:
    inputs = [x.detach() * 30 for x in tensors((4, LENGTH, 3 * HIDDEN))]
    mask = mask_of(ROWS)
    found = of_tokens(attention(inputs, HEADS, mask))
    torch.testing.assert_close(found, of_tokens(plain_attention(inputs, mask, None)), atol=1e-3, rtol=1e-4)


def test_attention_does_not_change_its_inputs() -> None:
    inputs = tensors((4, LENGTH, 3 * HIDDEN))
    mask = mask_of(ROWS, torch.randn(1, 1, LENGTH, LENGTH))
    given = [*inputs, *(tensor for tensor in mask if tensor is not None)]
    before = [x.detach().clone() for x in given]
    attention(inputs, HEADS, mask, 0.3, attention_mask_of(LENGTH)[0]).sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(before, given, strict=True))


@pytest.mark.parametrize("widths", [(3,), (1, 2)], ids=str)
@pytest.mark.parametrize("bias_heads", [0, 1, HEADS])
@pytest.mark.parametrize("dropped", [False, True])
def test_attention_of_packed_tokens(operations: str, widths: tuple[int, ...], bias_heads: int, dropped: bool) -> None:
    one_each, attention_mask = widths == (1, 2), (torch.arange(LENGTH) < torch.tensor(ROWS)[:, None]).long()
    inputs = tensors(*((4, 1 if one_each and n == 0 else LENGTH, width * HIDDEN) for n, width in enumerate(widths)))
    bias = torch.randn(1, bias_heads, 1 if one_each else LENGTH, LENGTH) if bias_heads else None
    mask = mask_of(ROWS, bias)
    packing = Packing.of(mask, attention_mask, torch.zeros(4, LENGTH, HIDDEN), HEADS)
    if operations == "torch":
        assert packing is None, "torch's attention takes padded rows alone"
        return
    assert packing is not None and packing.num_tokens == 18 and len(packing.places) == 20
    parts = [x[:, 0] if x.shape[1] == 1 else packing.pack(x) for x in inputs]
    dropout, keep = attention_mask_of(1 if one_each else LENGTH) if dropped else (None, None)
    found = attention(parts, HEADS, packing.mask, 0.3, dropout)
    plain = of_tokens(plain_attention(inputs, mask, keep))
    check(found[:, None] if one_each else found[:18], plain, inputs)
    copies = attention(parts, HEADS, packing.mask)[18:]
    assert one_each or (len(copies) == 2 and not copies.any()), "what fills up the last row is padding"


def test_packed_tokens_are_those_of_the_batch_in_order(operations: str) -> None:
    if operations == "torch":
        return
    (x,), attention_mask = tensors((4, LENGTH, HIDDEN)), (torch.arange(LENGTH) < torch.tensor(ROWS)[:, None]).long()
    packing = Packing.of(AttentionMask.of(attention_mask), attention_mask, x, HEADS)
    assert packing is not None and packing.mask.starts is not None
    assert packing.mask.starts.tolist() == [0, 7, 8, 12, 20]
    packed, tokens = packing.pack(x), attention_mask[..., None] == 1
    assert torch.equal(packed[:18], x[attention_mask == 1]) and torch.equal(packed[18:], x[0, :1].expand(2, -1))
    assert torch.equal(packing.mask.first_tokens(packed), x[:, 0])
    check(packing.padded(packed, LENGTH), torch.where(tokens, x, 0.0), [x])


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([[1] * 7] * 4, "no padding"),
        ([[1] * 7, [1] * 7, [1] * 7, [1] * 6 + [0]], "27 tokens become 28, which the padded batch has"),
        ([[1] * 7, [0] * 7, [1] + [0] * 6, [1] + [0] * 6], "a row without a token"),
        ([[0, 0, 0, 0, 0, 0, 1]] * 4, "padding before a token"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_packed(rows: list[list[int]], why: str) -> None:
    attention_mask = torch.tensor(rows)
    assert Packing.of(AttentionMask.of(attention_mask), attention_mask, torch.zeros(4, 7, HIDDEN), HEADS) is None, why


def test_padding_may_stand_anywhere() -> None:
    inputs = tensors((3, LENGTH, 3 * HIDDEN))
    attention_mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1, 0, 1, 0, 1, 1, 0], [1, 1, 1, 1, 0, 0, 0]])
    mask = AttentionMask.of(attention_mask)
    assert mask.lengths is None
    check(attention(inputs, HEADS, mask), plain_attention(inputs, mask, None), inputs)


def test_a_mask_of_whole_rows_has_no_padding() -> None:
    assert mask_of([7, 7]).total is None
    padded = mask_of([7, 5])
    assert (
        padded.lengths is not None and padded.lengths.tolist() == [7, 5] and padded.total is padded.padding is not None
    )
    assert padded.padding.flatten(1).tolist() == [[0.0] * 7, [0.0] * 5 + [torch.tensor(PADDING_BIAS).item()] * 2]
    bias = torch.randn(1, HEADS, 7, 7)
    assert torch.equal(padded._replace(bias=bias).of_first_query().bias, bias[:, :, :1])  # type: ignore[arg-type]
    assert padded.of_first_query() is padded


@pytest.mark.parametrize("dropped", [False, True])
def test_add_norm(dropped: bool) -> None:
    x, residual = inputs = tensors((3, 5, HIDDEN), (3, 5, HIDDEN))
    weight, bias = tensors((HIDDEN,), (HIDDEN,), seed=1, grad=False)
    dropout, keep = None, torch.ones(3, 5, HIDDEN)
    if dropped and kernels.built().libraries:
        dropout, drop = FixedDropout(), kernels.Drop.at(0.3, KEY)
        _, total, _ = kernels.add_norm(keep, torch.zeros_like(keep), weight, bias, 1e-5, drop, keep_total=True)
        assert total is not None
        keep = total
    elif dropped:
        keep = (torch.rand(3, 5, HIDDEN) > 0.3).float() / 0.7
        dropout = FixedDropout(keep)
    assert bool((keep == 0).any()) == dropped
    plain = F.layer_norm(residual + x * keep, (HIDDEN,), weight, bias, 1e-5)
    check(add_norm(x, residual, weight, bias, 1e-5, 0.3, dropout), plain, inputs)


def test_add_norm_whose_scale_and_shift_train() -> None:
    x, residual, weight, bias = inputs = tensors((3, 5, HIDDEN), (3, 5, HIDDEN), (HIDDEN,), (HIDDEN,))
    plain = F.layer_norm(residual + x, (HIDDEN,), weight, bias, 1e-5)
    check(add_norm(x, residual, weight, bias, 1e-5), plain, inputs)


def test_add_norm_of_a_sum_far_from_zero() -> None:
    x, residual = (tensor.detach() + 300 for tensor in tensors((3, 5, HIDDEN), (3, 5, HIDDEN)))
    found = add_norm(x, residual, torch.ones(HIDDEN), torch.zeros(HIDDEN), 1e-5)
    plain = F.layer_norm((x + residual).double(), (HIDDEN,), eps=1e-5)
    torch.testing.assert_close(found.double(), plain, atol=1e-3, rtol=0)


def test_gelu() -> None:
    x = torch.linspace(-12, 12, 4800).view(2, 50, HIDDEN).requires_grad_()
    check(gelu(x * 1), F.gelu(x), [x], tolerance=2e-6)


def test_gelu_of_every_bf16_number() -> None:
    x = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.bfloat16)
    x = x[x.isfinite() & (x.abs() < 100)]
    x = x[: len(x) // 16 * 16].requires_grad_()
    exact = x.detach().double().requires_grad_()
    found, expected = gelu(x * 1), F.gelu(exact)
    found.sum().backward()
    expected.sum().backward()
    assert x.grad is not None and exact.grad is not None
    # Rounding alone may be off by 2^-9 of the value.
    torch.testing.assert_close(found.double(), expected, rtol=2**-8, atol=1e-5)
    torch.testing.assert_close(x.grad.double(), exact.grad, rtol=2**-8, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30, -1e30])
def test_gelu_of_what_is_no_number_is_none(value: float, dtype: torch.dtype) -> None:
    found, expected = gelu(torch.full((16,), value, dtype=dtype)), F.gelu(torch.full((16,), value, dtype=dtype))
    assert bool(found.isfinite().all()) == bool(expected.isfinite().all())


def test_linear() -> None:
    (x,) = inputs = tensors((4, 6, HIDDEN))
    weight, bias = tensors((9, HIDDEN), (9,), seed=1, grad=False)
    check(linear(x, weight, bias), F.linear(x, weight, bias), inputs)


@pytest.mark.parametrize("tokens", [1, 24, 700])
def test_linear_by_packed_weights(tokens: int) -> None:
    (x,) = inputs = tensors((tokens, 64))
    weight, bias = (tensor.bfloat16() for tensor in tensors((48, 64), (48,), seed=1, grad=False))
    packed, turned = pack(weight), pack(weight.t())
    if packed is None:
        pytest.skip("this processor has no bf16 products with packed weights")
    plain = F.linear(x.bfloat16().float(), weight.float(), bias.float())
    found = linear(x.bfloat16(), weight, bias, packed, turned)
    check(found.float(), plain, inputs, tolerance=2**-7)  # of the largest: a few roundings to bf16
    assert torch.equal(packed_linear(x.bfloat16().detach(), packed, bias, then_gelu=False), found)


def near_int8(x: Tensor, weight: Tensor, bias: Tensor, found: Tensor) -> bool:
    """Whether it is x weight^T + bias but for what rounding x, the weight and the result can do at most."""
    x, weight = x.double(), weight.double()
    lowest, highest = x.amin(-1, keepdim=True).clamp_max(0), x.amax(-1, keepdim=True).clamp_min(0)
    step_x, step_weight = (highest - lowest) / 255, weight.abs().amax(dim=1) / 127
    exact = x @ weight.T + bias.double()
    # The zero is rounded too, and the largest number may then lie a step beyond the last.
    bound = step_x * (weight.abs().sum(dim=1) + step_weight * x.shape[-1]) + x.abs().sum(-1, keepdim=True) * step_weight
    return bool(((found.double() - exact).abs() <= bound + exact.abs() * 2**-8 + 1e-6).all())


@pytest.mark.parametrize("tokens", [1, 47, 48, 97, 600])
@pytest.mark.parametrize("sizes", [(16, 16), (48, 64), (64, 48), (192, 128), (9, 20)], ids=str)
def test_linear_int8(sizes: tuple[int, int], tokens: int) -> None:
    weight, bias = (tensor.bfloat16() for tensor in tensors(sizes, sizes[:1], seed=1, grad=False))
    weight[0] = 0
    x = tensors((tokens, sizes[1]), grad=False)[0]
    x[:1] *= 1e4
    x[-1:] = x[-1:].abs()
    packed, x = pack_int8(weight, bias), x.bfloat16()
    found = linear_int8(x, packed, then_gelu=False)
    assert found.dtype == torch.bfloat16 and near_int8(x, weight, bias, found)
    assert (found[1:] - F.linear(x, weight, bias)[1:]).abs().mean() < 0.02 * found[1:].abs().mean() or tokens == 1
    expected = F.gelu(found.double())
    torch.testing.assert_close(linear_int8(x, packed, True).double(), expected, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("sizes", [(16, 32), (48, 64), (128, 192), (9, 20)], ids=str)
def test_packed_in_int8_a_weight_and_its_transpose_are_rounded_to_127_steps(sizes: tuple[int, int]) -> None:
    weight = tensors(sizes, seed=1, grad=False)[0].bfloat16()
    weight[2] = weight[:, 3] = 0
    for transpose, given in ((False, weight), (True, weight.t())):
        packed = pack_int8(weight, transpose=transpose)
        values, (rows, columns) = packed.values, given.shape
        if packed.panel:
            values = (
                values.view(rows // packed.panel, columns // 4, packed.panel, 4).transpose(1, 2).reshape(given.shape)
            )
        exact = given.double()
        step = exact.abs().amax(dim=1, keepdim=True) / 127
        torch.testing.assert_close(packed.scale.double(), step[:, 0])
        assert ((values.double() * step - exact).abs() <= step * 0.5001).all()
        assert torch.equal(packed.total, values.sum(dim=1).float())


def test_the_gradient_in_int8() -> None:
    x, weight, bias = tensors((3, 50, 64), (48, 64), (48,))
    weight, bias = weight.detach().bfloat16(), bias.detach().bfloat16()
    (direction,) = tensors((3, 50, 48), seed=9, grad=False)
    y = linear(x.bfloat16(), weight, bias, pack_int8(weight, bias), pack_int8(weight, transpose=True))
    (found,) = torch.autograd.grad(y, x, direction.bfloat16())
    assert near_int8(x.detach().bfloat16(), weight, bias, y.detach())
    assert near_int8(direction.bfloat16(), weight.t(), torch.zeros(64), found)


def test_a_row_s_result_in_int8_is_its_own() -> None:
    weight, bias = tensors((64, 96), (64,), seed=1, grad=False)
    x = tensors((3, 50, 96), grad=False)[0].bfloat16()
    packed = pack_int8(weight, bias)
    together = linear_int8(x, packed, then_gelu=True)
    assert torch.equal(linear_int8(x[1:2, 7:9], packed, then_gelu=True), together[1:2, 7:9])
    x[0] *= 100
    assert torch.equal(linear_int8(x, packed, then_gelu=True)[1:], together[1:])


@pytest.mark.parametrize("x", [torch.full((5, 32), value) for value in (0.0, 3.0, -0.25, 1e-37, -1e-20)], ids=str)
def test_int8_of_equal_numbers(x: Tensor) -> None:
    weight, bias = tensors((16, 32), (16,), seed=1, grad=False)
    assert near_int8(x, weight, bias, linear_int8(x.bfloat16(), pack_int8(weight, bias), then_gelu=False))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_none_in_int8_either(value: float) -> None:
    weight, bias = tensors((16, 32), (16,), seed=1, grad=False)
    x = torch.ones(2, 32, dtype=torch.bfloat16)
    x[0, 5] = value
    found = linear_int8(x, pack_int8(weight, bias), then_gelu=False)
    assert not found[0].isfinite().any() and found[1].isfinite().all()


ADAPTED = [[(0, 32)], [(16, 32)], [(0, 16), (32, 48)], [(0, 16), (16, 32), (32, 48)], [(3, 10)]]


@pytest.mark.parametrize("rank", [1, 2, 3, 8])
@pytest.mark.parametrize("rows", ADAPTED, ids=str)
def test_merged_linear(rows: list[tuple[int, int]], rank: int) -> None:
    shapes = [shape for first, end in rows for shape in ((rank, HIDDEN), (end - first, rank))]
    x, *adapters = inputs = tensors((5, 15, HIDDEN), *shapes)  # 75 tokens: more than are summed at once
    weight, bias = tensors((48, HIDDEN), (48,), seed=1, grad=False)
    plain = F.linear(x, weight, bias)
    for (first, end), lora_A, lora_B in zip(rows, adapters[::2], adapters[1::2], strict=True):
        plain = plain + F.pad(1.5 * x @ lora_A.T @ lora_B.T, (first, 48 - end))
    check(merged_linear(x, weight, bias, 1.5, rows, False, *adapters), plain, inputs)


def test_merged_linear_below_which_nothing_trains() -> None:
    lora_A, lora_B = tensors((3, HIDDEN), (16, 3))
    x, weight, bias = tensors((4, 6, HIDDEN), (16, HIDDEN), (16,), seed=1, grad=False)
    merged_linear(x, weight, bias, 1.0, [(0, 16)], False, lora_A, lora_B).sum().backward()
    assert lora_A.grad is not None and lora_B.grad is not None and x.grad is None


def test_rows_without_an_adapter_keep_their_weights() -> None:
    (weight,) = tensors((48, HIDDEN), grad=False)
    adapters = tensors((2, HIDDEN), (16, 2), seed=1, grad=False)
    merged = merged_weight(weight, 2.0, [(16, 32)], adapters, torch.bfloat16)
    plain = weight.bfloat16()
    assert torch.equal(merged[:16], plain[:16]) and torch.equal(merged[32:], plain[32:])
    assert not torch.equal(merged[16:32], plain[16:32])


@pytest.mark.parametrize("int8", [False, True], ids=["bf16", "int8"])
def test_bf16_and_int8_are_near_fp32(int8: bool) -> None:
    x, lora_A, lora_B = tensors((4, 6, 64), (3, 64), (48, 3))
    weight, bias = tensors((48, 64), (48,), seed=1, grad=False)
    exact = merged_linear(x, weight, bias, 1.0, [(0, 48)], False, lora_A, lora_B)
    rounded = merged_linear(x.bfloat16(), weight, bias.bfloat16(), 1.0, [(0, 48)], int8, lora_A, lora_B)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, atol=1.0 if int8 else 0.25, rtol=0.02)


@pytest.mark.parametrize("name", ["attention", "add_norm", "gelu"])
def test_bf16_values_and_gradients_are_fp32_s_rounded(name: str) -> None:
    """Each computes in fp32 and rounds what it stores: a few parts in 2^8 of the largest number."""
    (x,) = tensors((4, LENGTH, 3 * HIDDEN))
    (direction,) = tensors((4, LENGTH, 3 * HIDDEN), seed=9, grad=False)
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        given = x.detach().bfloat16().to(dtype).requires_grad_()
        y = {
            "attention": lambda given=given: attention([given], HEADS, mask_of([7] * 4)),
            "add_norm": lambda given=given: add_norm(given, given * 2, torch.ones(144), torch.zeros(144), 1e-5),
            "gelu": lambda given=given: gelu(given * 1),
        }[name]()
        (grad,) = torch.autograd.grad(y, given, direction[..., : y.shape[-1]].bfloat16().to(dtype))
        found.append((y.float(), grad.float()))
    for rounded, exact in zip(*found, strict=True):
        torch.testing.assert_close(rounded, exact, atol=2**-6 * exact.abs().max().item(), rtol=0)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("head", [16, 32, 48, 64])
@pytest.mark.parametrize("lengths", [[1, 1], [16, 7], [37, 36], [75, 40], [130, 1]], ids=str)
def test_bf16_attention_of_every_size_is_fp32_s_rounded(lengths: list[int], head: int, biased: bool) -> None:
    """Its products take numbers in pairs: odd lengths, and heads that are no multiple of 32, leave halves over."""
    (x,) = tensors((2, max(lengths), 3 * HEADS * head))
    (direction,) = tensors((2, max(lengths), HEADS * head), seed=9, grad=False)
    (bias,) = tensors((1, HEADS, max(lengths), max(lengths)), seed=2, grad=False)
    tokens = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    mask = AttentionMask.of(tokens.long())._replace(bias=bias if biased else None)
    direction = direction * tokens[..., None]
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        given = x.detach().bfloat16().to(dtype).requires_grad_()
        # From one key: the same elements in both types.
        dropout = FixedDropout() if kernels.serve(given, head) else None
        y = attention([given], HEADS, mask, 0.25, dropout)
        (grad,) = torch.autograd.grad(y, given, direction.bfloat16().to(dtype))
        found.append((y.float()[tokens], grad.float()))
    for rounded, exact in zip(*found, strict=True):
        torch.testing.assert_close(rounded, exact, atol=2**-6 * exact.abs().max().item(), rtol=0)
