"""The frozen-prefix cache: layers below the lowest trained one compute the same in every pass, so they run once.

A row's hidden states on entering the lowest trained layer lie in one temporary file, without padding; every pass reads
them and goes on from that layer. "The same" is to rounding: a row is computed beside other rows than in its training
batch, which the order of sums sees and nothing else does. In fp32 a step from the same parameters has the uncached
loss to 1e-6; in bf16 a state now and then is its neighbouring bf16 number. Over many steps such differences grow, as
those of another number of threads do. With model.dropout 0, which the cache needs, frozen layers draw no masks, so the
trained layers' masks are the same draws with and without it.
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

from submillion.config import TrainConfig
from submillion.data.tokenizer import Tokens
from submillion.errors import TrainingError
from submillion.model.classifier import TextClassifier
from submillion.training.batches import evaluation_batches, pad_batch
from submillion.training.device import Compute
from submillion.training.progress import is_quiet, progress

_STORED = {torch.bfloat16: np.uint16, torch.float32: np.float32}  # numpy has no bf16: its bits


@dataclass(frozen=True)
class Prefix:
    """The hidden states of one split's rows on entering layer `first_layer`."""

    first_layer: int
    values: np.ndarray  # the file, of all splits: uint16 (bits of bf16) or float32 [tokens, hidden]
    starts: np.ndarray  # where a row's first token lies, int64 [rows]
    lengths: np.ndarray  # int64 [rows]
    dtype: torch.dtype

    def batch(self, rows: np.ndarray, length: int) -> Tensor:
        """[batch, length, hidden] of dtype on the CPU. Zeros after a row's end, which no token attends to."""
        x = np.zeros((len(rows), length, self.values.shape[1]), self.values.dtype)
        for place, row in enumerate(rows):
            start, end = self.starts[row], self.starts[row] + self.lengths[row]
            x[place, : end - start] = self.values[start:end]
        return torch.from_numpy(x).view(self.dtype)


@contextmanager
def frozen_prefix(
    model: TextClassifier,
    splits: Sequence[tuple[Tokens, int]],
    config: TrainConfig,
    compute: Compute,
    is_first: bool = True,
) -> Iterator[list[Prefix | None]]:
    """The cache of each split, given with its number of passes; None where every pass begins at the tokens.

    Fills it on entering, frees the file on leaving. Where the lowest layers are frozen, says on standard error what is
    kept, or why nothing is; of several processes, each of which keeps all rows, the first says so. Raises TrainingError
    where the file cannot be written.
    """
    layers, hidden_size = model.encoder.first_trained_layer, model.encoder.shape.hidden_size
    if not layers:
        yield [None] * len(splits)
        return
    kept = [tokens for tokens, passes in splits if passes > 1]
    num_tokens = sum(int(tokens.lengths.sum()) for tokens in kept)
    num_bytes = num_tokens * hidden_size * compute.dtype.itemsize
    obstacle = _obstacle(model.encoder.dropout_rate, num_bytes, config.prefix_cache_gb)
    what = f"off, {obstacle}" if obstacle else f"{num_bytes / 1e6:,.1f} MB of temporary file"
    if is_first and not is_quiet():
        print(f"prefix cache: {what} (frozen layers at the bottom: {layers})", file=sys.stderr, flush=True)
    if obstacle:
        yield [None] * len(splits)
        return
    with tempfile.TemporaryFile(prefix="submillion-") as file:  # without a name on POSIX: gone even when killed
        try:
            starts = _write(file, model, kept, config.eval_batch_size, compute)
        except OSError as error:
            fix = "fix: --train.prefix-cache-gb 0, or a TMPDIR with more room"
            raise TrainingError(f"the prefix cache in {tempfile.gettempdir()} failed: {error}\n{fix}") from error
        values = np.asarray(np.memmap(file, _STORED[compute.dtype], "r", shape=(num_tokens, hidden_size)))
        caches = (
            Prefix(layers, values, first, tokens.lengths, compute.dtype)
            for tokens, first in zip(kept, starts, strict=True)
        )
        yield [next(caches) if passes > 1 else None for _, passes in splits]


def _obstacle(dropout_rate: float, num_bytes: int, limit_gb: float) -> str:
    """Why frozen layers run in every pass; empty where nothing is in the way."""
    needed = f"{num_bytes / 1e6:,.1f} MB are needed"
    if not limit_gb:
        return "train.prefix_cache_gb is 0"
    if dropout_rate:
        return f"model.dropout is {dropout_rate}, so frozen layers compute something else in each pass"
    if not num_bytes:
        return "no row is computed twice"
    if num_bytes > limit_gb * 1e9:
        return f"{needed}, train.prefix_cache_gb = {limit_gb:g} allows {limit_gb * 1e3:,.1f}"
    folder = tempfile.gettempdir()
    if num_bytes > (free := shutil.disk_usage(folder).free):
        return f"{needed}, {folder} has {free / 1e6:,.1f} free"
    return ""


@torch.inference_mode()
def _write(
    file: IO[bytes], model: TextClassifier, splits: Sequence[Tokens], batch_size: int, compute: Compute
) -> list[np.ndarray]:
    """Appends the hidden states of every row, and returns where each split's rows begin, in tokens, int64 [rows].

    Rows lie in the order they are computed in, by length: written from end to end, a full disk is an error here, where
    a page of a mapped file that finds no room would end the process.
    """
    encoder, all_starts, written = model.encoder, [], 0
    with progress("frozen layers", sum(len(tokens) for tokens in splits)) as advance:
        for tokens in splits:
            starts = np.zeros(len(tokens), dtype=np.int64)
            for rows in evaluation_batches(tokens.lengths, batch_size):
                batch = pad_batch(tokens, rows, encoder.shape.pad_id, encoder.shape.max_tokens)
                input_ids, attention_mask = (tensor.to(compute.device) for tensor in batch)
                x = encoder.run(encoder.embed(input_ids), attention_mask, range(encoder.first_trained_layer))
                x = x[attention_mask == 1].to(compute.dtype).cpu()  # [tokens of the batch, hidden], row after row
                file.write(x.view(torch.uint8).numpy().data)
                starts[rows] = written + np.cumsum(tokens.lengths[rows]) - tokens.lengths[rows]
                written += len(x)
                advance(len(rows))
            all_starts.append(starts)
    file.flush()
    return all_starts
