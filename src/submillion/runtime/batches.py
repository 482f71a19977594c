"""Length-bucketed batches: rows of like length together, so that little of a batch is padding."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from submillion.text.tokenizer import Tokens

BUCKET_BATCHES = 100  # batches sorted by length together: enough to leave little padding, few enough to mix rows
LENGTH_MULTIPLE = 2  # padded lengths: half the distinct shapes, each of which costs the kernels' caches memory
EVALUATION_ROWS = 64  # computed at once without gradients, unless a caller says otherwise
CPU_TOKENS = 2560  # in one pass forward and back, padding counted: more need more memory and are no faster on a CPU


class Batch(NamedTuple):
    """What the encoder takes: some rows, padded to one length."""

    x: Tensor
    """input_ids, int64 [batch, length]; or, behind a frozen prefix, the hidden states that enter the lowest trained
    layer, [batch, length, hidden]."""
    attention_mask: Tensor
    """int64 [batch, length], 1 at each token and 0 at padding."""


def training_batches(lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Returns the batches of one epoch: row indices, int64 [batch_size] each, the rest in one short batch.

    Every row comes once. A batch holds rows of similar length; `rng` shuffles both rows and batches anew.
    lengths: tokens of each row, int [rows].
    """
    order = rng.permutation(len(lengths))
    bucket = BUCKET_BATCHES * batch_size
    batches: list[np.ndarray] = []
    for start in range(0, len(order), bucket):
        rows = order[start : start + bucket]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[at : at + batch_size] for at in range(0, len(rows), batch_size)]
    return [batches[index] for index in rng.permutation(len(batches))]


def evaluation_batches(lengths: np.ndarray, batch_size: int, full_length: int = 0) -> Iterator[np.ndarray]:
    """Yields batches of row indices, int64, every row once, longest first.

    The largest batch comes first, so memory peaks at once and not after an hour. lengths: tokens of each row, int
    [rows]. full_length: a batch of shorter rows has more of them, up to the tokens of batch_size rows of this length.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(batch_size, batch_size * full_length // max(1, int(lengths[order[start]])))
        yield order[start : start + rows]
        start += rows


def parts_of_batch(lengths: np.ndarray, rows: np.ndarray, tokens: int) -> list[np.ndarray]:
    """Cuts a batch's rows into equal parts of at most `tokens` padded tokens each, but of one row at least.

    lengths: tokens of each row, int [rows]. The sum of the parts' gradients is the batch's. Batches of long rows are
    few, but would decide how much memory a run needs; computed in parts, they need no more than the others.
    """
    longest = int(lengths[rows].max())
    rows_at_once = max(1, tokens // max(1, longest))
    return np.array_split(rows, -(-len(rows) // rows_at_once))


def pad_batch(tokens: Tokens, rows: np.ndarray, pad_id: int, limit: int, multiple: int = LENGTH_MULTIPLE) -> Batch:
    """Returns the rows as one batch; its length is the longest row's, rounded up to a multiple, at most `limit`."""
    lengths = tokens.lengths[rows]
    longest = int(lengths.max())
    length = max(longest, min(limit, -(-longest // multiple) * multiple))
    mask = np.arange(length) < lengths[:, None]
    input_ids = np.full((len(rows), length), pad_id, dtype=np.int64)
    input_ids[mask] = tokens.take(rows).packed()
    return Batch(torch.from_numpy(input_ids), torch.from_numpy(mask.astype(np.int64)))
