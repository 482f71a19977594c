"""Layer norm, as every family has it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from submillion.model.cpu.dropout import Dropout
from submillion.model.cpu.functional import add_norm


class LayerNorm(nn.Module):
    """Layer norm with frozen scale and shift, which stay in fp32 on a CPU, as do the statistics kept for the gradient.

    On a GPU they are in the compute type, because torch takes no other there. If the architecture has no shift,
    `has_bias` is False and the shift is a buffer of zeros.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, size: int, eps: float, has_bias: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.has_bias = has_bias
        self.register_buffer("weight", torch.ones(size, dtype=torch.float32))
        self.register_buffer("bias", torch.zeros(size, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, *self._scale_and_shift(x), self.eps)

    def add(self, x: Tensor, residual: Tensor, rate: float, dropout: Dropout | None) -> Tensor:
        """Returns the norm of residual + dropped(x), all [..., hidden]."""
        return add_norm(x, residual, *self._scale_and_shift(x), self.eps, rate, dropout)

    def _scale_and_shift(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (self.weight.to(x.dtype), self.bias.to(x.dtype)) if x.is_cuda else (self.weight, self.bias)
