"""The classification head, in fp32: pooled hidden state to logits."""

import torch
from torch import Tensor, nn

from submillion.model.lora import Dropout


class Head(nn.Module):
    """stock: dropout, dense, tanh, dropout, out_proj (RoBERTa's); linear: dropout, out_proj.

    Initialised as the stock heads are: weights normal with standard deviation 0.02, biases zero.
    """

    def __init__(
        self,
        kind: str,
        hidden_size: int,
        num_labels: int,
        dropout_rate: float,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.dropout_rate = dropout_rate
        # torch's own initialisation draws from its global generator, and is overwritten here. (nn.utils.skip_init would
        # avoid the draw, but imports sympy: a second, of the three that a short prediction takes.)
        with torch.random.fork_rng(devices=()):
            self.dense = nn.Linear(hidden_size, hidden_size) if kind == "stock" else None
            self.out_proj = nn.Linear(hidden_size, num_labels)
        for linear in filter(None, (self.dense, self.out_proj)):
            nn.init.normal_(linear.weight, std=0.02, generator=generator)
            nn.init.zeros_(linear.bias)

    def forward(self, pooled: Tensor, dropout: Dropout | None = None) -> Tensor:
        """pooled [batch, hidden] -> logits [batch, labels], both fp32."""
        if self.dense is not None:
            pooled = torch.tanh(self.dense(self._drop(pooled, dropout)))
        return self.out_proj(self._drop(pooled, dropout))

    def _drop(self, x: Tensor, dropout: Dropout | None) -> Tensor:
        keep = dropout(x.shape, self.dropout_rate, x) if dropout else None
        return x if keep is None else x * keep
