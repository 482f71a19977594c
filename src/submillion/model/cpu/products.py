"""Matrix products of frozen linear layers, without gradients: in the layer's dtype, or in int8.

On a CPU each is one call of kernels.c or of oneDNN if these are available and the sizes suit them, else torch's own
operations.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from submillion.model.cpu import kernels
from submillion.model.cpu.build import multiplies_int8, serve


def _onednn(name: str) -> Callable[..., Tensor] | None:
    """Returns a bf16 operation on the CPU that is private to torch: torch's own compiler calls it.

    Returns None if this torch or this processor lacks it: torch's public operations compute the same, slower.
    """
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return getattr(torch.ops.mkldnn, name, None) if supported and supported() else None


_LINEAR, _REORDER = _onednn("_linear_pointwise"), _onednn("_reorder_linear_weight")


def pack(weight: Tensor) -> Tensor | None:
    """Returns a bf16 CPU weight [out, in] in the layout that oneDNN multiplies by; None for any other weight."""
    if weight.dtype != torch.bfloat16 or weight.device.type != "cpu" or _LINEAR is None or _REORDER is None:
        return None
    return _REORDER(weight)


def packed_linear(x: Tensor, packed: "Tensor | Int8Weight", bias: Tensor, then_gelu: bool) -> Tensor:
    """Returns x weight^T + bias, or its GELU, computed before the sum is rounded: [..., in] -> [..., out].

    packed: what `pack` returns, or what `pack_int8` returns; the latter's own bias then replaces `bias`.
    """
    if isinstance(packed, Int8Weight):
        return linear_int8(x, packed, then_gelu)
    return _LINEAR(x, packed, bias, "gelu" if then_gelu else "none", [], "none" if then_gelu else "")  # type: ignore[misc]


class Int8Weight(NamedTuple):
    """A linear layer in int8: weight [out, in] is `values` times `scale`, to half a scale."""

    values: Tensor  # int8 [out, in]; if `panel` is not 0, in the order that kernels.c reads
    scale: Tensor  # fp32 [out]: a 127th of the row's largest absolute number
    total: Tensor  # fp32 [out]: the sum of the row's values
    bias: Tensor  # fp32 [out]
    panel: int


def pack_int8(weight: Tensor, bias: Tensor | None = None, transpose: bool = False) -> Int8Weight:
    """Rounds a contiguous weight [out, in], or its transpose, to int8; bias [out], None for zeros."""
    rows, columns = reversed(weight.shape) if transpose else weight.shape
    bias = torch.zeros(rows, dtype=torch.float32, device=weight.device) if bias is None else bias.float()
    if weight.dtype == torch.bfloat16 and serve(weight, rows, columns) and multiplies_int8():
        panel = next(panel for panel in (64, 16) if rows % panel == 0)
        return Int8Weight(*kernels.pack_int8(weight, panel, transpose), bias, panel)
    weight = (weight.t() if transpose else weight).float()
    scale = weight.abs().amax(dim=1) / 127
    values = (weight / scale.clamp_min(1e-30)[:, None]).round().to(torch.int8)
    return Int8Weight(values, scale, values.sum(dim=1).float(), bias, panel=0)


def linear_int8(x: Tensor, packed: Int8Weight, then_gelu: bool) -> Tensor:
    """Returns x weight^T + bias, or its GELU, by a product in int8: [..., in] -> [..., out] in x's dtype.

    Each token of x is rounded to its own 255 steps, from its smallest number to its largest, so that a row's result
    does not depend on its batch, and one large number reduces only its own token's precision (Yao et al., 2022,
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


def merged_weight(
    weight: Tensor, scaling: float, rows: Sequence[tuple[int, int]], adapters: Sequence[Tensor], dtype: torch.dtype
) -> Tensor:
    """Returns weight + scaling * lora_B lora_A in some of its rows: fp32 [out, in] -> [out, in] in dtype.

    rows, adapters: as `functional.merged_linear` takes them.
    """
    merged = torch.empty(weight.shape, dtype=dtype, device=weight.device)
    end = 0
    for (first, last), lora_A, lora_B in zip(rows, adapters[::2], adapters[1::2], strict=True):
        merged[end:first] = weight[end:first]
        if serve(merged, weight.shape[1]):
            kernels.merge(weight[first:last], lora_A, lora_B, scaling, merged[first:last])
        else:
            merged[first:last] = torch.addmm(weight[first:last].float(), lora_B, lora_A, alpha=scaling)
        end = last
    merged[end:] = weight[end:]
    return merged


def product(x: Tensor, weight: Tensor | Int8Weight, bias: Tensor | None) -> Tensor:
    """Returns x weight^T + bias, [..., in] -> [..., out]; an int8 weight's own bias replaces `bias`."""
    if isinstance(weight, Int8Weight):
        return linear_int8(x, weight, then_gelu=False)
    if x.dtype == torch.bfloat16 and x.device.type == "cpu" and _LINEAR is not None:
        # oneDNN adds the bias while the sums are in its registers; torch.addmm fills the output with the bias first.
        return _LINEAR(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


def input_gradient(grad: Tensor, weight: Tensor) -> Tensor:
    """Returns grad weight, [..., out] -> [..., in], as one product; torch makes many for a stack of single tokens."""
    return (grad.flatten(0, -2) @ weight).view(*grad.shape[:-1], weight.shape[1])
