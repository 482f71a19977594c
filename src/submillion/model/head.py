"""The classification head, in fp32: pooled hidden state to logits."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from submillion.model.cpu.dropout import Dropout, dropped
from submillion.model.families import ROBERTA_HEAD, StockHead

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": F.relu, "gelu": F.gelu}


class Head(nn.Module):
    """The classification head, of one of two kinds.

    stock: dropout, dense, activation, dropout, out_proj, as in transformers' class for the family. linear: dropout,
    out_proj. RoBERTa's activation is tanh; ModernBERT's head has a layer norm before the second dropout. It is
    initialised like the stock heads: weights normal with standard deviation 0.02, biases zero.
    """

    def __init__(
        self,
        kind: str,
        hidden_size: int,
        num_labels: int,
        dropout_rate: float,
        generator: torch.Generator | None = None,
        stock: StockHead = ROBERTA_HEAD,
    ) -> None:
        super().__init__()
        self.dropout_rate = dropout_rate
        self.stock = stock
        is_stock = kind == "stock"
        self.dense = _linear(hidden_size, hidden_size, stock.dense_bias, generator) if is_stock else None
        self.norm = _norm(hidden_size, stock) if is_stock and stock.norm else None
        self.out_proj = _linear(hidden_size, num_labels, True, generator)

    def forward(self, pooled: Tensor, dropout: Dropout | None = None) -> Tensor:
        """Returns logits [batch, labels] for pooled [batch, hidden], both fp32."""
        if self.dense is not None:
            pooled = ACTIVATIONS[self.stock.activation](self.dense(dropped(pooled, self.dropout_rate, dropout)))
        if self.norm is not None:
            pooled = self.norm(pooled)
        return self.out_proj(dropped(pooled, self.dropout_rate, dropout))


def _linear(size_in: int, size_out: int, has_bias: bool, generator: torch.Generator | None) -> nn.Linear:
    """Returns an fp32 layer whose weight is drawn from `generator` alone.

    torch's own initialisation would draw from the global generator, which other threads draw from too. And while
    transformers loads a model, in any thread, it does nothing at all.
    """
    linear = nn.Linear(size_in, size_out, bias=has_bias, device="meta", dtype=torch.float32)
    linear.weight = nn.Parameter(
        torch.empty(size_out, size_in, dtype=torch.float32).normal_(std=0.02, generator=generator)
    )
    if has_bias:
        linear.bias = nn.Parameter(torch.zeros(size_out, dtype=torch.float32))
    return linear


def _norm(size: int, stock: StockHead) -> nn.LayerNorm:
    norm = nn.LayerNorm(size, stock.norm_eps, bias=stock.norm_bias, device="meta", dtype=torch.float32)
    norm.weight = nn.Parameter(torch.ones(size, dtype=torch.float32))
    if stock.norm_bias:
        norm.bias = nn.Parameter(torch.zeros(size, dtype=torch.float32))
    return norm
