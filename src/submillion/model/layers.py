"""What every family's encoder layer is made of beside its linear layers: layer norm and attention."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from submillion.model.functional import add_norm, attention
from submillion.model.lora import Dropout

PADDING_BIAS = -1e30  # a weight of exactly 0, and still finite when a score or another bias is added


class LayerNorm(nn.Module):
    """Layer norm with frozen scale and shift, which stay in fp32: so do the statistics kept for the gradient.

    Where the architecture has no shift, `has_bias` is False and the shift a buffer of zeros.
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
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)

    def add(self, x: Tensor, residual: Tensor, keep: Tensor | None) -> Tensor:
        """The norm of residual + keep * x, all [..., hidden]; keep is a dropout mask."""
        return add_norm(x, residual, self.weight, self.bias, self.eps, keep)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    num_heads: int,
    bias: Tensor | None,
    dropout: Dropout | None,
    dropout_rate: float,
) -> Tensor:
    """query [batch, queries, hidden], key and value [batch, length, hidden] -> [batch, queries, hidden].

    bias, added to the attention scores, broadcasts to [batch, heads, queries, length].
    """
    if not query.is_cuda:
        # Written out: on a CPU the fused kernel's backward takes as long as the rest of the step for short rows.
        shape = (len(query) * num_heads, query.shape[1], key.shape[1])
        keep = dropout(shape, dropout_rate, query) if dropout else None
        return attention(query, key, value, num_heads, bias, keep)
    query, key, value = (  # [batch, heads, length, head]
        x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (query, key, value)
    )
    rate = dropout_rate if dropout else 0.0
    bias = None if bias is None else bias.to(query.dtype)
    context = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=rate)
    return context.transpose(1, 2).flatten(2)
