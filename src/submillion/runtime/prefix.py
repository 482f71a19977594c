"""The frozen-prefix cache: layers below the lowest trained one compute the same in every pass, so they run once.

The hidden states that enter the lowest trained layer are kept in one temporary file, without padding; every pass reads
them and goes on from that layer. "The same" means to rounding: a row is computed beside other rows than in its training
batch, which changes only the order of sums. In fp32, a step from the same parameters has the uncached loss to 1e-6; in
bf16, a state is sometimes the neighbouring bf16 number. Over many steps such differences grow, as they do with another
number of threads. With model.dropout 0, which the cache needs, frozen layers draw no masks, so the trained layers'
masks are the same draws with and without the cache.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np
import torch
from torch import Tensor

from submillion.errors import TrainingError
from submillion.model.classifier import TextClassifier
from submillion.runtime.batches import EVALUATION_ROWS, evaluation_batches, pad_batch
from submillion.runtime.device import Compute
from submillion.runtime.progress import is_quiet, progress
from submillion.text.tokenizer import Tokens

MOST_BYTES = 4 * 10**9  # of a cache: beyond it, the disk is slower than most layers
_STORED = {torch.bfloat16: np.uint16, torch.float32: np.float32}  # numpy has no bf16: its bits


@dataclass(frozen=True)
class Prefix:
    """The hidden states of one split's rows on entering layer `first_layer`."""

    first_layer: int
    values: np.ndarray  # the file, of all splits: uint16 (bits of bf16) or float32 [tokens, hidden]
    starts: np.ndarray  # the index of each row's first token in `values`, int64 [rows]
    lengths: np.ndarray  # int64 [rows]
    dtype: torch.dtype

    def batch(self, rows: np.ndarray, length: int) -> Tensor:
        """Returns the hidden states of these rows, [batch, length, hidden] of `dtype` on the CPU.

        They are zeros after a row's end, which no token attends to.
        """
        x = np.zeros((len(rows), length, self.values.shape[1]), self.values.dtype)
        for place, row in enumerate(rows):
            start, end = self.starts[row], self.starts[row] + self.lengths[row]
            x[place, : end - start] = self.values[start:end]
        return torch.from_numpy(x).view(self.dtype)


@contextmanager
def frozen_prefix(
    model: TextClassifier,
    splits: Sequence[tuple[Tokens, int]],
    compute: Compute,
    is_first: bool = True,
) -> Iterator[list[Prefix | None]]:
    """Yields the cache of each split; None for a split whose passes all begin at the tokens.

    splits: the tokens of each split, and how many passes will read them. The caches are filled on entering, and the
    file is freed on leaving. If the lowest layers are frozen, a line on standard error says what is kept, or why
    nothing is. Each of several processes keeps all rows, and the first one prints the line. Raises TrainingError if the
    file cannot be written.
    """
    layers, hidden_size = model.first_trained_layer, model.encoder.shape.hidden_size
    if not layers:
        yield [None] * len(splits)
        return
    kept = [tokens for tokens, passes in splits if passes > 1]
    num_tokens = sum(int(tokens.lengths.sum()) for tokens in kept)
    num_bytes = num_tokens * hidden_size * compute.dtype.itemsize
    obstacle = _obstacle(model.encoder.dropout_rate, num_bytes)
    what = f"off, {obstacle}" if obstacle else f"{num_bytes / 1e6:,.1f} MB of temporary file"
    if is_first and not is_quiet():
        print(f"prefix cache: {what} (frozen layers at the bottom: {layers})", file=sys.stderr, flush=True)
    if obstacle:
        yield [None] * len(splits)
        return
    with tempfile.TemporaryFile(prefix="submillion-") as file:  # without a name on POSIX: gone even when killed
        try:
            starts = _write(file, model, kept, EVALUATION_ROWS, compute)
        except OSError as error:
            fix = "fix: set TMPDIR to a folder on a disk with more room"
            raise TrainingError(f"the prefix cache in {tempfile.gettempdir()} failed: {error}\n{fix}") from error
        values = np.asarray(np.memmap(file, _STORED[compute.dtype], "r", shape=(num_tokens, hidden_size)))
        caches = (
            Prefix(layers, values, first, tokens.lengths, compute.dtype)
            for tokens, first in zip(kept, starts, strict=True)
        )
        yield [next(caches) if passes > 1 else None for _, passes in splits]


def _obstacle(dropout_rate: float, num_bytes: int) -> str:
    """Returns why there is no cache, so that frozen layers run in every pass; "" if nothing is in the way."""
    needed = f"{num_bytes / 1e6:,.1f} MB are needed"
    if dropout_rate:
        return f"model.dropout is {dropout_rate}, so frozen layers compute something else in each pass"
    if not num_bytes:
        return "no row is computed twice"
    if num_bytes > MOST_BYTES:
        return f"{needed}, more than {MOST_BYTES / 1e6:,.0f}"
    folder = tempfile.gettempdir()
    if num_bytes > (free := shutil.disk_usage(folder).free):
        return f"{needed}, {folder} has {free / 1e6:,.1f} free"
    return ""


@torch.inference_mode()
def _write(
    file: IO[bytes], model: TextClassifier, splits: Sequence[Tokens], batch_size: int, compute: Compute
) -> list[np.ndarray]:
    """Appends the hidden states of every row, and returns where each split's rows begin, in tokens, int64 [rows].

    Rows lie in the order in which they are computed, by length. Because the file is written from end to end, a full
    disk raises an OSError here; a page of a mapped file that finds no room would end the process.
    """
    encoder, frozen, all_starts, written = model.encoder, range(model.first_trained_layer), [], 0
    int8 = model.int8_margin is not None
    with progress("frozen layers", sum(len(tokens) for tokens in splits)) as advance:
        for tokens in splits:
            starts = np.zeros(len(tokens), dtype=np.int64)
            for rows in evaluation_batches(tokens.lengths, batch_size):
                batch = pad_batch(tokens, rows, encoder.shape.pad_id, encoder.shape.max_tokens)
                input_ids, attention_mask = (tensor.to(compute.device) for tensor in batch)
                x = encoder.run(encoder.embed(input_ids), attention_mask, frozen, int8=int8)
                x = x[attention_mask == 1].to(compute.dtype).cpu()  # [tokens of the batch, hidden], row after row
                file.write(x.view(torch.uint8).numpy().data)
                starts[rows] = written + np.cumsum(tokens.lengths[rows]) - tokens.lengths[rows]
                written += len(x)
                advance(len(rows))
            all_starts.append(starts)
    file.flush()
    return all_starts
