"""Length-bucketed batches: rows of like length together, so that little of a batch is padding."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from submillion.data.tokenizer import Tokens

BUCKET_BATCHES = 100  # batches sorted by length together: enough to leave little padding, few enough to mix rows
LENGTH_MULTIPLE = 2  # padded lengths: half the distinct shapes, each of which costs the kernels' caches memory
CPU_TOKENS = 2560  # in one pass forward and back, padding counted: more need more memory and are no faster on a CPU


def training_batches(lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """One epoch: every row once, batches of rows of like length, both rows and batches shuffled anew by `rng`.

    lengths: tokens of each row, int [rows]. Returns row indices, int64 [batch_size] each, the rest in one short batch.
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
    """Every row once, longest first: the largest batch comes first, so memory peaks at once and not after an hour.

    full_length: where rows are shorter, as many more of them as hold the tokens of batch_size rows of this length.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(batch_size, batch_size * full_length // max(1, int(lengths[order[start]])))
        yield order[start : start + rows]
        start += rows


def parts_of_batch(lengths: np.ndarray, rows: np.ndarray, tokens: int) -> list[np.ndarray]:
    """rows, cut into equal parts of at most `tokens` padded tokens where one pass of all would hold more.

    The sum of the parts' gradients is the batch's. Batches of long rows, which are few, would decide the memory that a
    run needs; a part at a time they need as much as any other.
    """
    longest = int(lengths[rows].max())
    rows_at_once = max(1, tokens // max(1, longest))
    return np.array_split(rows, -(-len(rows) // rows_at_once))


def pad_batch(
    tokens: Tokens, rows: np.ndarray, pad_id: int, limit: int, multiple: int = LENGTH_MULTIPLE
) -> tuple[Tensor, Tensor]:
    """input_ids and attention_mask, int64 [batch, length]: length is the longest row's, rounded up, at most `limit`."""
    lengths = tokens.lengths[rows]
    longest = int(lengths.max())
    length = max(longest, min(limit, -(-longest // multiple) * multiple))
    mask = np.arange(length) < lengths[:, None]
    input_ids = np.full((len(rows), length), pad_id, dtype=np.int64)
    input_ids[mask] = tokens.take(rows).packed()
    return torch.from_numpy(input_ids), torch.from_numpy(mask.astype(np.int64))
