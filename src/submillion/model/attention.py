"""Attention, and what the tokens of a batch may attend to; packed batches, in which there is no padding.

As in functional.py, it is one call of kernels.c if that is available and the sizes suit it, else torch's operations
with the gradient written out; on a GPU it is torch's fused attention.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from submillion.model.cpu import kernels
from submillion.model.cpu.build import serve
from submillion.model.cpu.dropout import Drop, Dropout, drop_of

# How many attention scores are in fp32 at a time. A block of 4 MB stays in the cache and is used again; one of 12 MB,
# for 16 rows of 128 tokens, goes back to the system each time, and its pages cost more than the softmax.
SCORES_AT_ONCE = 1_000_000
PACKED_MULTIPLE = 64  # of a packed batch's tokens: oneDNN prepares and keeps code for each number of tokens
PADDING_BIAS = -1e30  # a weight of exactly 0, and still finite when a score or another bias is added


class AttentionMask(NamedTuple):
    """What the tokens of a batch may attend to."""

    lengths: Tensor | None  # int64 [batch], if padding comes after a row's tokens; None if it is elsewhere
    padding: Tensor | None  # fp32 [batch, 1, 1, length], PADDING_BIAS at padding; None if no row has any
    bias: Tensor | None = None  # fp32 [1, heads or 1, queries, length], contiguous, added to the scores
    starts: Tensor | None = (
        None  # int64 [batch + 1], for packed hidden states: the start of each row's tokens, and the end
    )

    @classmethod
    def of(cls, attention_mask: Tensor) -> "AttentionMask":
        """Returns the mask for attention_mask, int64 [batch, length], which is 1 at tokens and 0 at padding."""
        if public_only(attention_mask):  # a GPU would wait for the mask's values, and an export has none
            return cls(None, (attention_mask == 0)[:, None, None].float() * PADDING_BIAS)
        padding = None if attention_mask.all() else (attention_mask == 0)[:, None, None].float() * PADDING_BIAS
        at_the_end = padding is None or bool((attention_mask[:, 1:] <= attention_mask[:, :-1]).all())
        return cls(attention_mask.sum(dim=1) if at_the_end else None, padding)

    def first_tokens(self, x: Tensor) -> Tensor:
        """Returns each row's first token, [batch, 1, hidden], of x [batch, length, hidden]; packed, [batch, hidden]."""
        return x[:, :1] if self.starts is None else x.index_select(0, self.starts[:-1])

    def of_first_query(self) -> "AttentionMask":
        return self if self.bias is None else self._replace(bias=self.bias[:, :, :1].contiguous())

    def joined(self, dtype: torch.dtype) -> "AttentionMask":
        """Returns the mask with padding and bias as one bias of this dtype, as torch's fused attention takes them."""
        total = self.total
        return self if total is None else AttentionMask(None, None, total.to(dtype))

    @property
    def total(self) -> Tensor | None:
        """Returns padding and bias as one tensor to add to the scores; None if there is neither."""
        if self.padding is None or self.bias is None:
            return self.bias if self.padding is None else self.padding
        return self.padding + self.bias


class Packing(NamedTuple):
    """The tokens of a padded batch one after the other, so that nothing is computed for padding."""

    places: Tensor  # int64 [tokens]: the index of each in batch * length
    mask: AttentionMask
    num_tokens: int  # real tokens; after them come copies, up to a multiple of PACKED_MULTIPLE

    @classmethod
    def of(cls, mask: AttentionMask, attention_mask: Tensor, x: Tensor, num_heads: int) -> "Packing | None":
        """Returns the packing for x [batch, length, hidden]; None if it saves nothing or attention only takes padded x.

        attention_mask: int64 [batch, length]. mask: what `AttentionMask.of` returned for it.
        """
        lengths = mask.lengths
        if lengths is None or not lengths.all() or not serve(x, x.shape[-1] // num_heads):
            return None  # a row without a token would have no place
        places = attention_mask.flatten().nonzero()[:, 0]
        num_tokens, copies = len(places), -len(places) % PACKED_MULTIPLE
        if num_tokens + copies >= attention_mask.numel():
            return None
        starts = F.pad(lengths.cumsum(0), (1, 0))
        starts[-1] += copies  # for attention, they are padding of the last row
        places = F.pad(places, (0, copies))
        return cls(places, mask._replace(starts=starts), num_tokens)

    def pack(self, x: Tensor) -> Tensor:
        """Packs x [batch, length, ...] to [tokens, ...]."""
        return x.flatten(0, 1).index_select(0, self.places)

    def padded(self, x: Tensor, length: int) -> Tensor:
        """Unpacks x [tokens, hidden] to [batch, length, hidden], with zeros at padding."""
        assert self.mask.lengths is not None
        batch = len(self.mask.lengths)
        empty = x.new_zeros(batch * length, x.shape[-1])
        places, x = self.places[: self.num_tokens], x[: self.num_tokens]
        return empty.index_copy(0, places, x).view(batch, length, -1)


def public_only(x: Tensor) -> bool:
    """Returns whether attention uses only torch's public operations: on a GPU, and in an export."""
    return x.is_cuda or torch.compiler.is_exporting()


def attend(
    parts: Sequence[Tensor], num_heads: int, mask: AttentionMask, rate: float, dropout: Dropout | None
) -> Tensor:
    """Computes attention by the operations that suit the device: [batch, queries, hidden].

    parts: query, key and value in one, two or three tensors, as `attention` takes them. Without dropout, `rate` does
    not count.
    """
    if not public_only(parts[0]):
        # Written out: on a CPU the fused kernel's backward takes as long as the rest of the step for short rows.
        return attention(parts, num_heads, mask, rate, dropout)
    query, key, value = (  # [batch, heads, length, head]
        view.unflatten(-1, (num_heads, -1)).transpose(1, 2) for view in _split(parts)
    )
    bias = mask.joined(query.dtype).bias
    if torch.compiler.is_exporting():
        # The exporter's own form of the fused operation is 2 % slower in onnxruntime. Here there always is a bias.
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1]) + bias
        return (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)
    rate = rate if dropout else 0.0
    context = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=rate)
    return context.transpose(1, 2).flatten(2)


def attention(
    parts: Sequence[Tensor], num_heads: int, mask: AttentionMask, rate: float = 0.0, dropout: Dropout | None = None
) -> Tensor:
    """Returns softmax(q k^T / sqrt(head) + mask) v of each head, with dropout on the weights, [batch, queries, hidden].

    parts: query [batch, queries, hidden], key and value [batch, length, hidden], one after the other in the last
    dimension of one, two or three tensors. Or they are packed by a `Packing`: [tokens, hidden], and the query
    [batch, hidden] if each row has one; the result is then packed like the query. The context of padding is not
    defined. The products are in the inputs' dtype or in fp32, the softmax in fp32.
    """
    query, key, _ = _split(parts)
    if mask.lengths is not None and serve(query, query.shape[-1] // num_heads):
        return _KernelAttention.apply(num_heads, mask, drop_of(rate, dropout), *parts)
    shape = (len(query) * num_heads, query.shape[1], key.shape[1])
    return _Attention.apply(num_heads, mask, dropout(shape, rate, query) if dropout else None, *parts)


def _split(parts: Sequence[Tensor]) -> list[Tensor]:
    """Returns views of query, key and value, each [batch, queries or length, hidden]."""
    hidden = sum(part.shape[-1] for part in parts) // 3
    return [view for part in parts for view in part.split(hidden, dim=-1)]


class _KernelAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, num_heads: int, mask: AttentionMask, drop: Drop, *parts: Tensor) -> Tensor:
        parts = tuple(part.contiguous() for part in parts)
        assert mask.lengths is not None
        ctx.given = num_heads, mask.bias, mask.lengths, mask.starts, drop
        context, norms = kernels.attention(_split(parts), *ctx.given)
        ctx.save_for_backward(norms, *parts)
        return context

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        norms, *parts = ctx.saved_tensors
        grads = [torch.empty_like(part) for part in parts]
        num_heads, bias, lengths, starts, drop = ctx.given
        inputs = _split(parts)
        kernels.attention_backward(
            grad.contiguous(), inputs, _split(grads), num_heads, bias, lengths, starts, drop, norms
        )
        return None, None, None, *grads


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, num_heads: int, mask: AttentionMask, keep: Tensor | None, *parts: Tensor) -> Tensor:
        q, k, v = (_split_heads(x, num_heads) for x in _split(parts))
        ctx.num_heads, ctx.scale = num_heads, 1 / math.sqrt(q.shape[-1])
        ctx.widths = [part.shape[-1] // (num_heads * q.shape[-1]) for part in parts]
        weights = q.new_empty(len(q), q.shape[1], k.shape[1])
        rows_at_once = max(1, SCORES_AT_ONCE // (num_heads * q.shape[1] * k.shape[1]))
        for first in range(0, len(q) // num_heads, rows_at_once):
            heads = slice(first * num_heads, (first + rows_at_once) * num_heads)
            scores = torch.bmm(q[heads], k[heads].transpose(1, 2)).float().mul_(ctx.scale)
            if mask.bias is not None:
                scores.unflatten(0, (-1, num_heads)).add_(mask.bias)
            if mask.padding is not None:
                scores.unflatten(0, (-1, num_heads)).add_(mask.padding[first : first + rows_at_once])
            weights[heads] = scores.softmax(dim=-1)
        ctx.save_for_backward(q, k, v, weights, keep)
        return _join_heads(torch.bmm(weights if keep is None else weights * keep, v), num_heads)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights, keep = ctx.saved_tensors
        grad = _split_heads(grad, ctx.num_heads)
        dropped = weights if keep is None else weights * keep
        grad_v = torch.bmm(dropped.transpose(1, 2), grad)
        grad_weights = torch.bmm(grad, v.transpose(1, 2))
        if keep is not None:
            grad_weights.mul_(keep)
        grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
        grad_q = torch.bmm(grad_scores, k).mul_(ctx.scale)
        grad_k = torch.bmm(grad_scores.transpose(1, 2), q).mul_(ctx.scale)
        grads = iter(_join_heads(x, ctx.num_heads) for x in (grad_q, grad_k, grad_v))
        return None, None, None, *(torch.cat([next(grads) for _ in range(width)], dim=-1) for width in ctx.widths)


def _split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Reshapes [batch, length, hidden] to [batch * heads, length, head], contiguous."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2).flatten(0, 1)


def _join_heads(x: Tensor, num_heads: int) -> Tensor:
    """Reshapes [batch * heads, length, head] to [batch, length, hidden], contiguous."""
    return x.unflatten(0, (-1, num_heads)).transpose(1, 2).flatten(2)
