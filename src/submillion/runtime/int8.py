"""Decides whether an encoder trains in int8, whether the trained model predicts in it, and which rows need bf16."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from submillion.model.classifier import TextClassifier
from submillion.runtime.device import Compute
from submillion.runtime.distributed import ALONE, World
from submillion.runtime.forward import compute_logits, compute_pooled
from submillion.tasks.task import Task
from submillion.text.tokenizer import Tokens

MOST_CHANGE = 0.15  # of the pretrained features; 0.05 to 0.07 for MiniLM-L6 and mpnet, which train as well in int8
ROWS = 1_000  # compared at most
MOST_AGAIN = 0.1  # of the rows: with more of them computed twice, little of the gain is left


@dataclass(frozen=True)
class Int8Trial:
    """How far int8 changes the logits of some rows."""

    margin: float
    """The largest change of the difference between two logits of a row. `compute_logits` computes a row again in the
    compute type if a smaller change would change its answer."""
    again: float
    """The share of rows that are computed again."""


def features_change(
    model: TextClassifier, tokens: Tokens, batch_size: int, compute: Compute, world: World = ALONE
) -> float:
    """Returns how far int8 moves the pooled states of up to 128 rows, as a share of their distance from their mean.

    If a few numbers in the hidden states are far larger than the rest, few of the 255 steps are left for the rest.
    """
    tokens = _some(tokens, 128)
    exact, rounded = _both(compute_pooled, model, tokens, batch_size, compute, world)
    model.use_int8(None)
    spread = np.square(exact - exact.mean(axis=0)).sum()
    return float(np.sqrt(np.square(rounded - exact).sum() / max(spread, 1e-30)))


def try_int8(
    model: TextClassifier, task: Task, tokens: Tokens, batch_size: int, compute: Compute, world: World = ALONE
) -> Int8Trial | None:
    """Turns int8 on for prediction if it is on for training and the answers hold; otherwise turns it off.

    The answers do not hold if more than MOST_AGAIN of the rows would be computed twice, or if a logit is not finite.
    Returns None if int8 is off.
    """
    if not compute.int8:
        return None
    tokens = _some(tokens, ROWS)

    def logits(network: TextClassifier, *rest: Any) -> np.ndarray:
        return compute_logits(network, task, *rest)

    exact, rounded = _both(logits, model, tokens, batch_size, compute, world)
    change = rounded - exact
    margin = float((change.max(axis=1) - change.min(axis=1)).max())
    again = float((task.margins(rounded) < margin).mean())
    if not (np.isfinite(margin) and again <= MOST_AGAIN):
        model.use_int8(None)
        return None
    model.use_int8(margin)
    return Int8Trial(margin, again)


def _both(
    computed: Callable[..., np.ndarray],
    model: TextClassifier,
    tokens: Tokens,
    batch_size: int,
    compute: Compute,
    world: World,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what is computed without int8 and what is computed with it. int8 is on afterwards."""
    model.use_int8(0.0)
    exact = computed(model.without_int8(), tokens, batch_size, compute, None, world)
    return exact, computed(model, tokens, batch_size, compute, None, world)


def _some(tokens: Tokens, most: int) -> Tokens:
    """Returns up to `most` rows at equal distances."""
    return tokens.take(np.linspace(0, len(tokens) - 1, min(len(tokens), most)).round().astype(np.int64))
