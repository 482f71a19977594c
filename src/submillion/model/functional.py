"""The three operations a training step spends its time in, with their gradients written out.

Autograd's own gradients of the same lines would store more, copy more, and read every activation again for the
adapters. Each function here is equal to its plain form to rounding; `tests/model/test_functional.py` holds them to it.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Attention scores in fp32 at a time. A block of 4 MB stays in the cache and is used again; one of 12 MB, for 16 rows of
# 128 tokens, goes back to the system each time, and its pages cost more than the softmax.
SCORES_AT_ONCE = 1_000_000


def attention(
    query: Tensor, key: Tensor, value: Tensor, num_heads: int, bias: Tensor | None = None, keep: Tensor | None = None
) -> Tensor:
    """softmax(q k^T / sqrt(head) + bias) v, for each head: query [batch, queries, hidden] -> the same shape.

    key, value [batch, length, hidden]. bias, fp32, without gradient, broadcasts to [batch, heads, queries, length].
    keep, a dropout mask on the weights, is [batch * heads, queries, length], of query's dtype. The products are in the
    inputs' dtype, the softmax in fp32.
    """
    return _Attention.apply(query, key, value, num_heads, bias, keep)


def add_norm(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, keep: Tensor | None) -> Tensor:
    """layer_norm(residual + keep * x), all [..., hidden]; weight and bias, fp32 [hidden], are scale and shift."""
    return _AddNorm.apply(x, residual, weight, bias, eps, keep)


def merged_linear(x: Tensor, weight: Tensor, bias: Tensor, lora_A: Tensor, lora_B: Tensor) -> Tensor:
    """x (weight + lora_B lora_A)^T + bias: x [..., in] -> [..., out], in x's dtype.

    weight, fp32 [out, in], gets no gradient; lora_A, fp32 [rank, in], and lora_B, fp32 [out, rank], do. Their product
    is added in fp32 and the sum rounded once, so an update smaller than weight's own rounding is not lost on average.
    One product of the layer's size where x lora_A^T lora_B^T beside the layer would read and write every activation.
    """
    return _MergedLinear.apply(x, weight, bias, lora_A, lora_B)


def merged_weight(weight: Tensor, lora_A: Tensor, lora_B: Tensor, dtype: torch.dtype) -> Tensor:
    """weight + lora_B lora_A, summed in fp32: [out, in] in dtype."""
    return torch.addmm(weight.float(), lora_B, lora_A).to(dtype)


class _MergedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, lora_A: Tensor, lora_B: Tensor) -> Tensor:
        merged = merged_weight(weight, lora_A, lora_B, x.dtype)
        ctx.save_for_backward(x, merged, lora_A, lora_B)
        return torch.nn.functional.linear(x, merged, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, merged, lora_A, lora_B = ctx.saved_tensors
        grad_x = grad @ merged if ctx.needs_input_grad[0] else None
        flat_x, flat_grad = x.flatten(0, -2), grad.flatten(0, -2)
        z = flat_x @ lora_A.t().to(x.dtype)  # [tokens, rank]
        grad_z = flat_grad @ lora_B.to(x.dtype)  # [tokens, rank]
        # Transposed outside: the product reads the wide operand row by row this way, twice as fast.
        grad_B = (z.t() @ flat_grad).t().float()  # [out, rank]
        grad_A = (grad_z.t() @ flat_x).float()  # [rank, in]
        return grad_x, None, None, grad_A, grad_B


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, num_heads: int, bias: Tensor | None, keep: Tensor | None
    ) -> Tensor:
        q, k, v = (_split_heads(x, num_heads) for x in (query, key, value))
        ctx.num_heads, ctx.scale = num_heads, 1 / math.sqrt(q.shape[-1])
        weights = q.new_empty(len(q), q.shape[1], k.shape[1])
        rows_at_once = max(1, SCORES_AT_ONCE // (num_heads * q.shape[1] * k.shape[1]))
        for first in range(0, len(query), rows_at_once):
            heads = slice(first * num_heads, (first + rows_at_once) * num_heads)
            scores = torch.bmm(q[heads], k[heads].transpose(1, 2)).float().mul_(ctx.scale)
            if bias is not None:
                own = bias if len(bias) == 1 else bias[first : first + rows_at_once]
                scores.unflatten(0, (-1, num_heads)).add_(own)
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
        return *(_join_heads(x, ctx.num_heads) for x in (grad_q, grad_k, grad_v)), None, None, None


def _split_heads(x: Tensor, num_heads: int) -> Tensor:
    """[batch, length, hidden] -> [batch * heads, length, head], contiguous."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2).flatten(0, 1)


def _join_heads(x: Tensor, num_heads: int) -> Tensor:
    """[batch * heads, length, head] -> [batch, length, hidden], contiguous."""
    return x.unflatten(0, (-1, num_heads)).transpose(1, 2).flatten(2)


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, keep: Tensor | None
    ) -> Tensor:
        total = residual + x if keep is None else torch.addcmul(residual, x, keep)
        y, mean, rstd = torch.native_layer_norm(total, weight.shape, weight, bias, eps)
        ctx.save_for_backward(total, mean, rstd, weight, bias, keep)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        total, mean, rstd, weight, bias, keep = ctx.saved_tensors
        wanted = [True, *ctx.needs_input_grad[2:4]]
        grad_total, grad_weight, grad_bias = torch.ops.aten.native_layer_norm_backward(
            grad, total, weight.shape, mean, rstd, weight, bias, wanted
        )
        grad_x = grad_total if keep is None else grad_total * keep
        return grad_x, grad_total, grad_weight, grad_bias, None, None
