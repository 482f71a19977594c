"""Rows that are ready for the network."""

from dataclasses import dataclass

import numpy as np

from submillion.text.tokenizer import Tokens


@dataclass(frozen=True)
class TokenRows:
    """Tokens of some rows, and the right answer for each."""

    tokens: Tokens
    targets: np.ndarray
    """The task's targets: for one label a text int64 [rows], indices into the label names."""

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: np.ndarray) -> "TokenRows":
        """Returns the rows with these indices, int64 [some]."""
        return TokenRows(self.tokens.take(rows), self.targets[rows])
