"""The forward pass over rows, without gradients: logits, n-grams and pooled hidden states."""

import sys
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from submillion.model.classifier import TextClassifier
from submillion.model.cpu.dropout import Dropout
from submillion.process.forks import piece_of_work
from submillion.process.threads import sized_for
from submillion.runtime import gpu
from submillion.runtime.batches import LENGTH_MULTIPLE, Batch, evaluation_batches, pad_batch
from submillion.runtime.device import Compute
from submillion.runtime.distributed import ALONE, World
from submillion.runtime.gpu import Later, to_device
from submillion.runtime.prefix import Prefix
from submillion.runtime.progress import Advance
from submillion.tasks.task import Task
from submillion.text.tokenizer import Tokens


def compute_logits(
    model: TextClassifier,
    task: Task,
    tokens: Tokens,
    batch_size: int,
    compute: Compute,
    advance: Advance | None = None,
    world: World = ALONE,
    prefix: Prefix | None = None,
) -> np.ndarray:
    """Returns the logits of every row, in the rows' order and without dropout, fp32 [rows, labels].

    The adapters are merged once for the whole pass, not for each batch; a merged model is used as it is. The processes
    of `world` take turns at the batches, and all of them get all logits. Batches are not split between processes as
    they are in training, so the logits are those of a single process bit for bit. Rows longer than the model's window
    are computed in windows. With the prefix cache of these windows, the frozen layers do not run, and the logits are
    the same to rounding. If the model predicts in int8, rows whose answer int8 may have changed are computed again in
    the compute type. The logits include what the n-grams add. Raises ValueError if the model has fitted n-grams and the
    tokens were encoded without their content.
    """
    with sized_for(tokens_at_once(tokens.lengths, batch_size)):
        added = compute_ngrams(model, tokens, world)
        values = _windowed(model, tokens, batch_size, compute, advance, world, prefix) + added
        if model.int8_margin:
            close = np.flatnonzero(task.margins(values) < model.int8_margin)
            again = _windowed(model.without_int8(), tokens.take(close), batch_size, compute, None, world, None)
            values[close] = again + added[close]
    return values


def _windowed(
    model: TextClassifier,
    tokens: Tokens,
    batch_size: int,
    compute: Compute,
    advance: Advance | None,
    world: World,
    prefix: Prefix | None,
) -> np.ndarray:
    """Returns the encoder's logits of every row, the mean over its windows: fp32 [rows, labels]."""
    windows, row_of = tokens.windows(model.window)
    is_first = np.diff(row_of, prepend=-1) != 0  # of its row, whose windows follow one another
    found = np.zeros((len(windows), model.head.out_proj.out_features), dtype=np.float32)
    done = None if advance is None else lambda batch: advance(int(is_first[batch].sum()))
    found = _fill(found, model, model.head, windows, batch_size, compute, done, world, prefix)
    values = np.zeros((len(tokens), found.shape[1]), dtype=np.float32)
    np.add.at(values, row_of, found)
    return values / np.bincount(row_of, minlength=len(tokens))[:, None].astype(np.float32)


@torch.inference_mode()
def compute_ngrams(model: TextClassifier, tokens: Tokens, world: World = ALONE) -> np.ndarray:
    """Returns what the n-grams of every row add to its logits, fp32 [rows, labels]: zeros if none were fitted.

    The processes of `world` share the rows, and all get the whole result. Raises ValueError if the tokens were encoded
    without their content.
    """
    values = np.zeros((len(tokens), model.head.out_proj.out_features), dtype=np.float32)
    if model.ngrams is None or not model.ngrams.weight.any():
        return values
    if tokens.content is None:
        raise ValueError("n-grams read whole texts: encode them with their content")
    own = world.share(np.arange(len(tokens)))
    values[own] = model.ngrams(tokens.content.take(own)).cpu().numpy()
    return world.gather_rows(values)


def compute_pooled(
    model: TextClassifier,
    tokens: Tokens,
    batch_size: int,
    compute: Compute,
    advance: Advance | None = None,
    world: World = ALONE,
    prefix: Prefix | None = None,
) -> np.ndarray:
    """Returns what the head reads in training: the pooled hidden states of every row, fp32 [rows, hidden].

    Rows are computed whole, without windows, and in int8 alone if int8 is on; otherwise as in `compute_logits`.
    """
    values = np.zeros((len(tokens), model.encoder.shape.hidden_size), dtype=np.float32)
    done = None if advance is None else lambda rows: advance(len(rows))
    with sized_for(tokens_at_once(tokens.lengths, batch_size)):
        return _fill(values, model, torch.nn.Identity(), tokens, batch_size, compute, done, world, prefix)


@torch.inference_mode()
def _fill(
    values: np.ndarray,
    model: TextClassifier,
    head: torch.nn.Module,
    tokens: Tokens,
    batch_size: int,
    compute: Compute,
    done: Callable[[np.ndarray], None] | None,
    world: World,
    prefix: Prefix | None,
) -> np.ndarray:
    """Writes head(pooled hidden states) of every row into values, and returns them.

    values: zeros, fp32 [rows, columns]. done: is called with the rows of each batch, int64.
    """
    with piece_of_work():
        merged = model.merged()
    filled = Later(lambda states, rows: values.__setitem__(rows, states.numpy()))
    full_length = gpu.FULL_LENGTH if compute.device.type == "cuda" else 0
    for number, rows in enumerate(evaluation_batches(tokens.lengths, batch_size, full_length)):
        if number % world.size == world.rank:
            with piece_of_work():
                states = head(pooled_states(merged, model_inputs(merged, tokens, rows, compute, prefix), prefix))
            filled.add(number, states, rows)
            filled.settle(before=number - 1)
        if done:
            done(rows)
    filled.settle(before=sys.maxsize)
    return world.gather_rows(values)


def tokens_at_once(lengths: np.ndarray, batch_size: int) -> int:
    """Returns how many tokens a batch holds on average. lengths: tokens of each row, int [rows]."""
    return int(lengths.sum() * min(1.0, batch_size / max(1, len(lengths))))


def model_inputs(
    model: TextClassifier, tokens: Tokens, rows: np.ndarray, compute: Compute, prefix: Prefix | None
) -> Batch:
    """Returns these rows as a batch on the device: from their tokens, or from the prefix if there is one."""
    shape, on_gpu = model.encoder.shape, compute.device.type == "cuda"
    multiple = gpu.LENGTH_MULTIPLE if on_gpu else LENGTH_MULTIPLE
    input_ids, attention_mask = pad_batch(tokens, rows, shape.pad_id, shape.max_tokens, multiple)
    x = prefix.batch(rows, attention_mask.shape[1]) if prefix else input_ids
    return Batch(to_device(x, compute.device), to_device(attention_mask, compute.device))


def pooled_states(model: TextClassifier, batch: Batch, prefix: Prefix | None, dropout: Dropout | None = None) -> Tensor:
    """Returns what the head reads of a batch, fp32 [batch, hidden]."""
    x, attention_mask = batch
    if prefix:
        return model.pooled(x, attention_mask, dropout, prefix.first_layer)
    return model.pooled(model.encoder.embed(x, dropout), attention_mask, dropout)
