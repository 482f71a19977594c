"""The operations a training step spends its time in beside attention, with their gradients written out.

Autograd's own gradients of the same lines would store more, copy more, and read every activation again for the
adapters. Each function here is equal to its plain form to rounding; tests/model holds them to it.
On a CPU each is one call of kernels.c where that is to be had and the sizes suit it, else torch's operations.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from submillion.model import kernels


def _onednn(name: str) -> Callable[..., Tensor] | None:
    """An operation for bf16 on a CPU that is private to torch: what its own compiler calls.

    None where this torch or this processor lacks it: torch's public operations compute the same.
    """
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return getattr(torch.ops.mkldnn, name, None) if supported and supported() else None


_LINEAR, _REORDER = _onednn("_linear_pointwise"), _onednn("_reorder_linear_weight")


class Dropout(Protocol):
    """Where masks come from: drawn here as tensors, or drawn by the C code from a key."""

    def __call__(self, shape: Sequence[int], rate: float, like: Tensor) -> Tensor | None:
        """A mask of like's dtype and device: 0, or the inverse of the share that is kept; None for rate 0."""

    def key(self) -> int:
        """64 bits, new at each call, that decide a mask."""


def dropped(x: Tensor, rate: float, dropout: Dropout | None) -> Tensor:
    """x, some of it 0 and the rest larger where there is dropout."""
    keep = dropout(x.shape, rate, x) if dropout else None
    return x if keep is None else x * keep


def add_norm(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    rate: float = 0.0,
    dropout: Dropout | None = None,
) -> Tensor:
    """layer_norm(residual + dropped(x)), all [..., hidden]; weight and bias, fp32 [hidden], are scale and shift."""
    frozen = not (weight.requires_grad or bias.requires_grad) and weight.dtype == bias.dtype == torch.float32
    if frozen and kernels.serve(x, x.shape[-1]):
        return _KernelAddNorm.apply(x, residual, weight, bias, eps, drop_of(rate, dropout))
    return _AddNorm.apply(x, residual, weight, bias, eps, dropout(x.shape, rate, x) if dropout else None)


def gelu(x: Tensor) -> Tensor:
    """x times the normal distribution's function at x (Hendrycks and Gimpel, arXiv:1606.08415). May overwrite x."""
    return _KernelGelu.apply(x) if kernels.serve(x, x.numel()) and x.is_contiguous() else F.gelu(x)


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    packed: "Tensor | Int8Weight | None" = None,
    turned: "Tensor | Int8Weight | None" = None,
) -> Tensor:
    """x weight^T + bias: x [..., in] -> [..., out], all of one dtype. Frozen: weight and bias get no gradient.

    packed, turned: `pack` of the weight and of its transpose, where they are kept; the products are faster by them. Or
    `pack_int8` of each, and they are in int8, the gradient's too.
    """
    return _Linear.apply(x, weight, bias, packed, turned)


def pack(weight: Tensor) -> Tensor | None:
    """A bf16 weight [out, in] in the layout that oneDNN multiplies by; None for any other."""
    if weight.dtype != torch.bfloat16 or weight.device.type != "cpu" or _LINEAR is None or _REORDER is None:
        return None
    return _REORDER(weight)


def packed_linear(x: Tensor, packed: "Tensor | Int8Weight", bias: Tensor, then_gelu: bool) -> Tensor:
    """x weight^T + bias, and its GELU before it is rounded if wanted. Without gradients.

    packed: of `pack`, or of `pack_int8`, with its own bias.
    """
    if isinstance(packed, Int8Weight):
        return linear_int8(x, packed, then_gelu)
    return _LINEAR(x, packed, bias, "gelu" if then_gelu else "none", [], "none" if then_gelu else "")  # type: ignore[misc]


class Int8Weight(NamedTuple):
    """A linear layer in bytes: weight [out, in] is `values` times `scale`, to half a scale."""

    values: Tensor  # int8 [out, in]; where `panel` is not 0, in the order that kernels.c reads
    scale: Tensor  # fp32 [out]: the row's largest number is 127 of it
    total: Tensor  # fp32 [out]: the sum of the row's values
    bias: Tensor  # fp32 [out]
    panel: int


def pack_int8(weight: Tensor, bias: Tensor | None = None, transpose: bool = False) -> Int8Weight:
    """Of weight [out, in], contiguous, or its transpose; bias [out], None for zeros."""
    rows, columns = reversed(weight.shape) if transpose else weight.shape
    bias = torch.zeros(rows, dtype=torch.float32, device=weight.device) if bias is None else bias.float()
    if weight.dtype == torch.bfloat16 and kernels.serve(weight, rows, columns) and kernels.multiplies_int8():
        panel = next(panel for panel in (64, 16) if rows % panel == 0)
        return Int8Weight(*kernels.pack_int8(weight, panel, transpose), bias, panel)
    weight = (weight.t() if transpose else weight).float()
    scale = weight.abs().amax(dim=1) / 127
    values = (weight / scale.clamp_min(1e-30)[:, None]).round().to(torch.int8)
    return Int8Weight(values, scale, values.sum(dim=1).float(), bias, panel=0)


def linear_int8(x: Tensor, packed: Int8Weight, then_gelu: bool) -> Tensor:
    """x weight^T + bias, [..., in] -> [..., out] in x's dtype, or its GELU, the product in int8. Without gradients.

    Each token of x is rounded to 255 steps of its own, from its smallest number to its largest, so that a row's result
    does not depend on its batch, and one large number costs its own token's precision alone (Yao et al., 2022,
    arXiv:2206.01861). The sums of products are whole numbers, exact; only x and the weight are rounded.
    """
    if packed.panel:
        return kernels.linear_int8(x, packed.values, packed.scale, packed.total, packed.bias, packed.panel, then_gelu)
    lowest, highest = x.float().amin(dim=-1, keepdim=True), x.float().amax(dim=-1, keepdim=True)
    lowest, highest = lowest.clamp_max(0), highest.clamp_min(0)
    scale = (highest - lowest) / 255
    zero = (-lowest / scale.clamp_min(1e-30)).round()
    values = (x.float() / scale.clamp_min(1e-30) + zero).round().clamp(0, 255) - zero
    y = F.linear(values, packed.values.float()) * (scale * packed.scale) + packed.bias
    return (F.gelu(y) if then_gelu else y).to(x.dtype)


def merged_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    scaling: float,
    rows: Sequence[tuple[int, int]],
    int8: bool,
    *adapters: Tensor,
) -> Tensor:
    """x W^T + bias: x [..., in] -> [..., out], in x's dtype, with W = weight and adapters added to some of its rows.

    weight, fp32 [out, in], gets no gradient. adapters: lora_A, fp32 [rank, in], and lora_B, fp32 [rows, rank], for each
    of `rows`, given as (first, end); they do. scaling * lora_B lora_A is added in fp32 and the sum rounded once, so an
    update smaller than weight's own rounding is not lost on average. One product of the layer's size where
    x lora_A^T lora_B^T beside the layer would read and write every activation. int8: the products by W are in int8, the
    adapters' own gradients are not.
    """
    return _MergedLinear.apply(x, weight, bias, scaling, rows, int8, *adapters)


def merged_weight(
    weight: Tensor, scaling: float, rows: Sequence[tuple[int, int]], adapters: Sequence[Tensor], dtype: torch.dtype
) -> Tensor:
    """W of `merged_linear`, [out, in] in dtype."""
    merged = torch.empty(weight.shape, dtype=dtype, device=weight.device)
    end = 0
    for (first, last), lora_A, lora_B in zip(rows, adapters[::2], adapters[1::2], strict=True):
        merged[end:first] = weight[end:first]
        if kernels.serve(merged, weight.shape[1]):
            kernels.merge(weight[first:last], lora_A, lora_B, scaling, merged[first:last])
        else:
            merged[first:last] = torch.addmm(weight[first:last].float(), lora_B, lora_A, alpha=scaling)
        end = last
    merged[end:] = weight[end:]
    return merged


def drop_of(rate: float, dropout: Dropout | None) -> kernels.Drop:
    """What the C code drops; nothing at rate 0 or without dropout."""
    return kernels.Drop.at(rate, dropout.key()) if rate and dropout else kernels.Drop.at(0.0, 0)


def _product(x: Tensor, weight: Tensor | Int8Weight, bias: Tensor | None) -> Tensor:
    if isinstance(weight, Int8Weight):
        return linear_int8(x, weight, then_gelu=False)
    if x.dtype == torch.bfloat16 and x.device.type == "cpu" and _LINEAR is not None:
        # oneDNN adds the bias to what it has in its registers; torch.addmm fills the output with it first.
        return _LINEAR(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


def _input_gradient(grad: Tensor, weight: Tensor) -> Tensor:
    """grad weight, [..., out] -> [..., in]: as one product, where a stack of single tokens would become many."""
    return (grad.flatten(0, -2) @ weight).view(*grad.shape[:-1], weight.shape[1])


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
        return _product(x, weight if packed is None else packed, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        grad_x = _input_gradient(grad, weight) if ctx.turned is None else _product(grad, ctx.turned, None)
        return grad_x, None, None, None, None


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
        return _product(x, pack_int8(merged, bias) if int8 else merged, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, merged, *adapters = ctx.saved_tensors
        grad_x = None
        if ctx.needs_input_grad[0]:
            in_int8 = pack_int8(merged, transpose=True) if ctx.int8 else None
            grad_x = _input_gradient(grad, merged) if in_int8 is None else _product(grad, in_int8, None)
        flat_x, flat_grad = x.flatten(0, -2), grad.flatten(0, -2)
        grads: list[Tensor] = []
        for (first, last), lora_A, lora_B in zip(ctx.rows, adapters[::2], adapters[1::2], strict=True):
            grads += _adapter_gradients(flat_x, flat_grad[:, first:last], lora_A, lora_B, ctx.scaling)
        return grad_x, None, None, None, None, None, *grads


def _adapter_gradients(
    x: Tensor, grad: Tensor, lora_A: Tensor, lora_B: Tensor, scaling: float
) -> tuple[Tensor, Tensor]:
    """x [tokens, in], grad [tokens, out] -> the gradients of lora_A and lora_B, fp32."""
    if kernels.serve(x, x.shape[1], grad.shape[1]):
        return kernels.adapter_gradients(x.contiguous(), grad, lora_A, lora_B, scaling)
    z = x @ lora_A.t().to(x.dtype)  # [tokens, rank]
    grad_z = grad @ lora_B.to(x.dtype)  # [tokens, rank]
    # Transposed outside: the product reads the wide operand row by row this way, twice as fast.
    grad_B = (z.t() @ grad).t().float()  # [out, rank]
    grad_A = (grad_z.t() @ x).float()  # [rank, in]
    return grad_A * scaling, grad_B * scaling


class _KernelAddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, drop: kernels.Drop
    ) -> Tensor:
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
