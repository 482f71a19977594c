"""The operations that take most of a training step's time beside attention, with their gradients written out.

Autograd's own gradients of the same lines would store more, copy more, and read every activation again for the
adapters. Each function here is equal to its plain form to rounding, which tests/model checks. On a CPU each is one call
of kernels.c if that is available and the sizes suit it, else torch's operations.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from submillion.model.cpu import kernels
from submillion.model.cpu.build import serve
from submillion.model.cpu.dropout import Drop, Dropout, drop_of
from submillion.model.cpu.products import Int8Weight, input_gradient, merged_weight, pack_int8, product


def add_norm(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    rate: float = 0.0,
    dropout: Dropout | None = None,
) -> Tensor:
    """Returns layer_norm(residual + dropped(x)), all [..., hidden]; weight, bias: scale and shift, fp32 [hidden]."""
    frozen = not (weight.requires_grad or bias.requires_grad) and weight.dtype == bias.dtype == torch.float32
    if frozen and serve(x, x.shape[-1]):
        return _KernelAddNorm.apply(x, residual, weight, bias, eps, drop_of(rate, dropout))
    return _AddNorm.apply(x, residual, weight, bias, eps, dropout(x.shape, rate, x) if dropout else None)


class _KernelAddNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, drop: Drop) -> Tensor:
        needed = any(ctx.needs_input_grad)
        y, total, norms = kernels.add_norm(x.contiguous(), residual.contiguous(), weight, bias, eps, drop, needed)
        ctx.drop = drop
        ctx.save_for_backward(total, weight, norms)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        total, weight, norms = ctx.saved_tensors
        grads = kernels.add_norm_backward(grad.contiguous(), total, weight, norms, ctx.drop)
        return *grads, None, None, None, None


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


def gelu(x: Tensor) -> Tensor:
    """Returns x times the normal distribution function at x (Hendrycks and Gimpel, arXiv:1606.08415).

    May overwrite x.
    """
    return _KernelGelu.apply(x) if serve(x, x.numel()) and x.is_contiguous() else F.gelu(x)


class _KernelGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = kernels.gelu(x, ctx.needs_input_grad[0])
        ctx.save_for_backward(x)  # which holds the slope now
        ctx.spent = False
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        if ctx.spent:
            raise RuntimeError("the gradient of gelu has taken its slope's place: it can be computed once")
        ctx.spent = True
        (slope,) = ctx.saved_tensors
        return kernels.multiply_(slope, grad.contiguous())


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    packed: "Tensor | Int8Weight | None" = None,
    turned: "Tensor | Int8Weight | None" = None,
) -> Tensor:
    """Returns x weight^T + bias: x [..., in] -> [..., out], all of one dtype. Weight and bias get no gradient.

    packed, turned: the weight and its transpose as `products.pack` lays them out, which makes the products faster, or
    as `products.pack_int8` rounds them: the forward product and the gradient's are then in int8.
    """
    return _Linear.apply(x, weight, bias, packed, turned)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        packed: Tensor | Int8Weight | None,
        turned: Tensor | Int8Weight | None,
    ) -> Tensor:
        ctx.turned = turned
        ctx.save_for_backward(weight)
        return product(x, weight if packed is None else packed, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        grad_x = input_gradient(grad, weight) if ctx.turned is None else product(grad, ctx.turned, None)
        return grad_x, None, None, None, None


def merged_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    scaling: float,
    rows: Sequence[tuple[int, int]],
    int8: bool,
    *adapters: Tensor,
) -> Tensor:
    """Returns x W^T + bias, W the weight with adapters added to some of its rows: x [..., in] -> [..., out], x's dtype.

    weight, fp32 [out, in], gets no gradient; the adapters do: lora_A, fp32 [rank, in], and lora_B, fp32 [rows, rank],
    for each of `rows`, (first, end). scaling * lora_B lora_A is added in fp32 and the sum rounded once, so an update
    smaller than the weight's own rounding is not lost on average. This is one product of the layer's size;
    x lora_A^T lora_B^T beside the layer would read and write every activation again. int8: the products by W are in
    int8, those of the adapters' own gradients are not.
    """
    return _MergedLinear.apply(x, weight, bias, scaling, rows, int8, *adapters)


class _MergedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        scaling: float,
        rows: Sequence[tuple[int, int]],
        int8: bool,
        *adapters: Tensor,
    ) -> Tensor:
        merged = merged_weight(weight, scaling, rows, adapters, x.dtype)
        ctx.scaling, ctx.rows, ctx.int8 = scaling, rows, int8
        ctx.save_for_backward(x, merged, *adapters)
        return product(x, pack_int8(merged, bias) if int8 else merged, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, merged, *adapters = ctx.saved_tensors
        grad_x = None
        if ctx.needs_input_grad[0]:
            in_int8 = pack_int8(merged, transpose=True) if ctx.int8 else None
            grad_x = input_gradient(grad, merged) if in_int8 is None else product(grad, in_int8, None)
        flat_x, flat_grad = x.flatten(0, -2), grad.flatten(0, -2)
        grads: list[Tensor] = []
        for (first, last), lora_A, lora_B in zip(ctx.rows, adapters[::2], adapters[1::2], strict=True):
            grads += _adapter_gradients(flat_x, flat_grad[:, first:last], lora_A, lora_B, ctx.scaling)
        return grad_x, None, None, None, None, None, *grads


def _adapter_gradients(
    x: Tensor, grad: Tensor, lora_A: Tensor, lora_B: Tensor, scaling: float
) -> tuple[Tensor, Tensor]:
    """Returns the gradients of lora_A [rank, in] and lora_B [out, rank], fp32. x [tokens, in], grad [tokens, out]."""
    if serve(x, x.shape[1], grad.shape[1]):
        return kernels.adapter_gradients(x.contiguous(), grad, lora_A, lora_B, scaling)
    z = x @ lora_A.t().to(x.dtype)  # [tokens, rank]
    grad_z = grad @ lora_B.to(x.dtype)  # [tokens, rank]
    # Transposed outside: the product reads the wide operand row by row this way, twice as fast.
    grad_B = (z.t() @ grad).t().float()  # [out, rank]
    grad_A = (grad_z.t() @ x).float()  # [rank, in]
    return grad_A * scaling, grad_B * scaling
