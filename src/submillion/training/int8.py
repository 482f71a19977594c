"""Whether an encoder can train in int8, whether the trained model predicts in it, and which rows want bf16."""

from collections.abc import Callable

import numpy as np

from submillion.data.tokenizer import Tokens
from submillion.model.classifier import TextClassifier
from submillion.model.lora import without_int8
from submillion.training.device import Compute
from submillion.training.distributed import ALONE, World
from submillion.training.loop import compute_logits, compute_pooled, leads

MOST_CHANGE = 0.15  # of the pretrained features; 0.05 to 0.07 for MiniLM-L6 and mpnet, which train as well in int8
ROWS = 1_000  # compared at most
MOST_AGAIN = 0.1  # of the rows: with more of them computed twice, little of the gain is left


def features_change(
    model: TextClassifier, tokens: Tokens, batch_size: int, compute: Compute, world: World = ALONE
) -> float:
    """How far int8 moves what the head reads of up to 128 rows, as a share of how far the rows are from their mean.

    An encoder whose hidden states have a few numbers far beyond the rest leaves few of the 255 steps for the rest.
    """
    tokens = _some(tokens, 128)
    exact, rounded = _both(compute_pooled, model, tokens, batch_size, compute, world)
    model.use_int8(None)
    spread = np.square(exact - exact.mean(axis=0)).sum()
    return float(np.sqrt(np.square(rounded - exact).sum() / max(spread, 1e-30)))


def try_int8(
    model: TextClassifier, tokens: Tokens, batch_size: int, compute: Compute, world: World = ALONE
) -> dict[str, float]:
    """Turns int8 on for prediction where it is on for training and the labels hold; returns what was found, {} for no.

    margin: the largest change that int8 makes to the difference of two logits of a row, among these rows. A row whose
    two best logits are further apart has kept its label; `compute_logits` computes the others again in bf16. again:
    the share of these. Where it is above MOST_AGAIN, or a logit is no number, int8 goes off.
    """
    if not compute.int8:
        return {}
    tokens = _some(tokens, ROWS)
    exact, rounded = _both(compute_logits, model, tokens, batch_size, compute, world)
    change = rounded - exact
    margin = float((change.max(axis=1) - change.min(axis=1)).max())
    again = float((leads(rounded) < margin).mean())
    if not (np.isfinite(margin) and again <= MOST_AGAIN):
        model.use_int8(None)
        return {}
    model.use_int8(margin)
    return {"margin": margin, "again": again}


def _both(
    computed: Callable[..., np.ndarray],
    model: TextClassifier,
    tokens: Tokens,
    batch_size: int,
    compute: Compute,
    world: World,
) -> tuple[np.ndarray, np.ndarray]:
    """Without int8, and with it, which is on afterwards."""
    model.use_int8(0.0)
    with without_int8():
        exact = computed(model, tokens, batch_size, compute, None, world)
    return exact, computed(model, tokens, batch_size, compute, None, world)


def _some(tokens: Tokens, most: int) -> Tokens:
    """Rows at equal distances."""
    return tokens.take(np.linspace(0, len(tokens) - 1, min(len(tokens), most)).round().astype(np.int64))
