"""Attention against its plain form, compiled and in torch's operations, on padded batches and on packed ones."""

import math
from collections.abc import Sequence

import pytest
import torch
from gradients import FixedDropout, check, tensors
from torch import Tensor
from torch.nn import functional as F

from submillion.model.attention import PADDING_BIAS, AttentionMask, Packing, attention
from submillion.model.cpu import build

HEADS, HEAD, HIDDEN, LENGTH = 3, 16, 48, 7
ROWS = [7, 1, 4, 6]  # tokens of each row
pytestmark = pytest.mark.usefixtures("operations")


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
    if not build.built().libraries:
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
    monkeypatch.setattr("submillion.model.attention.SCORES_AT_ONCE", at_once)
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
        dropout = FixedDropout() if build.serve(given, head) else None
        y = attention([given], HEADS, mask, 0.25, dropout)
        (grad,) = torch.autograd.grad(y, given, direction.bfloat16().to(dtype))
        found.append((y.float()[tokens], grad.float()))
    for rounded, exact in zip(*found, strict=True):
        torch.testing.assert_close(rounded, exact, atol=2**-6 * exact.abs().max().item(), rtol=0)
