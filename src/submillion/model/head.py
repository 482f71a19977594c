"""The classification head, in fp32: pooled hidden state to logits."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from submillion.model.families import ROBERTA_HEAD, StockHead
from submillion.model.functional import Dropout, dropped

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": F.relu, "gelu": F.gelu}


class Head(nn.Module):
    """stock: dropout, dense, activation, dropout, out_proj, as transformers' class for the family has it; linear:
    dropout, out_proj.

    RoBERTa's activation is the tangens hyperbolicus; ModernBERT's head has a layer norm before the second dropout.
    Initialised as the stock heads are: weights normal with standard deviation 0.02, biases zero.
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
        # torch's own initialisation draws from its global generator, and is overwritten here. (nn.utils.skip_init would
        # avoid the draw, but imports sympy: a second, of the three that a short prediction takes.)
        with torch.random.fork_rng(devices=()):
            self.dense = nn.Linear(hidden_size, hidden_size, bias=stock.dense_bias) if is_stock else None
            self.norm = (
                nn.LayerNorm(hidden_size, stock.norm_eps, bias=stock.norm_bias) if is_stock and stock.norm else None
            )
            self.out_proj = nn.Linear(hidden_size, num_labels)
        for linear in filter(None, (self.dense, self.out_proj)):
            nn.init.normal_(linear.weight, std=0.02, generator=generator)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(self, pooled: Tensor, dropout: Dropout | None = None) -> Tensor:
        """pooled [batch, hidden] -> logits [batch, labels], both fp32."""
        if self.dense is not None:
            pooled = ACTIVATIONS[self.stock.activation](self.dense(dropped(pooled, self.dropout_rate, dropout)))
        if self.norm is not None:
            pooled = self.norm(pooled)
        return self.out_proj(dropped(pooled, self.dropout_rate, dropout))
