"""A bag of n-grams beside the encoder: each token and each pair of neighbours has its own logit for each label.

It reads what the encoder does not: the whole text, also beyond max_length, at the price of a table lookup.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from submillion.text.tokenizer import Tokens

# A universal hash (Carter and Wegman, 1979): (FIRST * a + SECOND * b) mod PRIME mod buckets. In int64 it is exact, here
# and in an ONNX graph: ids are below 2^31.
FIRST, SECOND, PRIME = 1_103_515_245, 1_597_334_677, 2**31 - 1
_TOKENS = 2**20  # hashed at once, 57 bytes each at the peak; a longer row is hashed alone


class Ngrams(nn.Module):
    """fastText's linear model (arXiv:1607.01759) over token ids.

    A row's logits are the sum of its n-grams' rows in the table, divided by the square root of their number. Tokens and
    pairs share the table's buckets by hash. The table is zero until `submillion.training.ngram_fit.fit_ngrams`.
    """

    def __init__(self, buckets: int, num_labels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(buckets, num_labels, dtype=torch.float32))

    def forward(self, content: Tokens) -> Tensor:
        """Returns logits, fp32 [rows, labels], of the rows' tokens, whole and without special ones.

        They are 0 for an empty row. A row's logits do not depend on the others.
        """
        logits = [self._logits(content.take(rows)) for rows in _chunks(content.lengths)]
        return torch.cat(logits) if logits else self.weight.new_zeros(0, self.weight.shape[1])

    @torch.no_grad()
    def scale(self, factor: float) -> None:
        """Multiplies what n-grams add to the logits by `factor`."""
        self.weight.mul_(factor)

    def _logits(self, content: Tokens) -> Tensor:
        device, buckets = self.weight.device, len(self.weight)
        sums, counts = self.weight.new_zeros(len(content), self.weight.shape[1]), np.zeros(len(content), dtype=np.int64)
        for hashed, per_row in hashed_ngrams(content, buckets):
            starts = np.cumsum(per_row) - per_row
            ids, offsets = torch.from_numpy(hashed).to(device), torch.from_numpy(starts).to(device)
            sums = sums + F.embedding_bag(ids, self.weight, offsets, mode="sum")
            counts += per_row
        return sums / torch.from_numpy(counts).to(device).clamp_min(1).float().sqrt()[:, None]


def hashed_ngrams(content: Tokens, buckets: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns two pairs of arrays, for single tokens and for pairs of neighbours.

    Each has the bucket of every n-gram, int64 [n-grams], row after row, and their number in each row, int64 [rows].
    """
    lengths = content.lengths
    ids = content.packed().astype(np.int64) + 1  # 0 stands for no second token
    pairs = np.maximum(lengths - 1, 0)
    in_row = np.ones(len(ids), dtype=bool)
    in_row[np.cumsum(lengths)[lengths > 0] - 1] = False  # a row's last token begins no pair
    first = np.flatnonzero(in_row)
    none = np.zeros_like(ids)
    return [(_bucket(ids, none, buckets), lengths), (_bucket(ids[first], ids[first + 1], buckets), pairs)]


def _bucket(first: np.ndarray, second: np.ndarray, buckets: int) -> np.ndarray:
    return (FIRST * first + SECOND * second) % PRIME % buckets


def _chunks(lengths: np.ndarray) -> list[np.ndarray]:
    chunk = (np.cumsum(lengths) - 1) // _TOKENS  # the chunk of each row, by the row's end
    return np.split(np.arange(len(lengths)), np.flatnonzero(np.diff(chunk)) + 1) if len(lengths) else []
