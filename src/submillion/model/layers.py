"""What every family's encoder layer is made of beside its linear layers: layer norm and attention."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from submillion.model.functional import AttentionMask, Dropout, add_norm, attention


class LayerNorm(nn.Module):
    """Layer norm with frozen scale and shift, which stay in fp32 on a CPU: so do the statistics kept for the gradient.

    On a GPU they are in the compute type: torch has no other there. Where the architecture has no shift, `has_bias` is
    False and the shift a buffer of zeros.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, size: int, eps: float, has_bias: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.has_bias = has_bias
        self.register_buffer("weight", torch.ones(size))
        self.register_buffer("bias", torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, *self._scale_and_shift(x), self.eps)

    def add(self, x: Tensor, residual: Tensor, rate: float, dropout: Dropout | None) -> Tensor:
        """The norm of residual + dropped(x), all [..., hidden]."""
        return add_norm(x, residual, *self._scale_and_shift(x), self.eps, rate, dropout)

    def _scale_and_shift(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (self.weight.to(x.dtype), self.bias.to(x.dtype)) if x.is_cuda else (self.weight, self.bias)


def attend(
    parts: Sequence[Tensor], num_heads: int, mask: AttentionMask, rate: float, dropout: Dropout | None
) -> Tensor:
    """Query, key and value in one, two or three tensors, as `attention` takes them -> [batch, queries, hidden]."""
    if not parts[0].is_cuda:
        # Written out: on a CPU the fused kernel's backward takes as long as the rest of the step for short rows.
        return attention(parts, num_heads, mask, rate, dropout)
    hidden = sum(part.shape[-1] for part in parts) // 3
    query, key, value = (  # [batch, heads, length, head]
        view.unflatten(-1, (num_heads, -1)).transpose(1, 2) for part in parts for view in part.split(hidden, dim=-1)
    )
    bias = mask.joined(query.dtype).bias
    rate = rate if dropout else 0.0
    context = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=rate)
    return context.transpose(1, 2).flatten(2)
