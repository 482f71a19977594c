"""The parts of a network beside the pretrained encoder: its head, its input, and what trains in the encoder."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class AdapterSpec:
    """The LoRA adapters of one encoder."""

    rank: int = 2
    """Rank of every adapter; 0: there are none."""
    alpha: float = 4.0
    """The update of every adapter is scaled by alpha / rank."""
    dropout: float = 0.05
    """Share of the adapters' input that is dropped while training."""
    targets: tuple[str, ...] = ("query", "value")
    """Linear layers with adapters, from the settings' TARGETS; all-linear means all six."""
    layers: Literal["all"] | tuple[int, ...] = "all"
    """Which encoder layers have adapters, counted from 0."""


@dataclass(frozen=True)
class NetworkSpec:
    """The network around the encoder, and how many encoder layers train in full."""

    head: Literal["stock", "linear"] = "stock"
    """stock: the head that transformers' class for the family has; linear: one linear layer."""
    pooling: Literal["first", "mean"] = "first"
    """What the head reads: the first token's hidden state, or the mean over all tokens."""
    max_length: int = 128
    """The most tokens of a row, special tokens included; longer rows are cut."""
    window: int = 0
    """Longer rows are computed in equal windows of at most so many tokens, special ones included; 0: rows are whole."""
    ngram_buckets: int = 0
    """Rows of the hashed table of n-grams, each with a logit per label; 0: there is no table."""
    dropout: float = 0.1
    """Share dropped while training, of hidden states, attention weights and the head's input."""
    unfreeze_layers: int = 0
    """How many of the last encoder layers train in full; 0: all pretrained weights are frozen."""

    @property
    def has_windows(self) -> bool:
        """Returns whether a row can be longer than the window."""
        return 0 < self.window < self.max_length
