"""Whether a trained model predicts in int8, and which of its rows still want bf16."""

import numpy as np

from submillion.data.tokenizer import Tokens
from submillion.model.classifier import TextClassifier
from submillion.training.device import Compute
from submillion.training.distributed import ALONE, World
from submillion.training.loop import compute_logits, leads

ROWS = 1_000  # compared at most
MOST_AGAIN = 0.1  # of the rows: with more of them computed twice, little of the gain is left


def try_int8(
    model: TextClassifier, tokens: Tokens, batch_size: int, compute: Compute, world: World = ALONE
) -> dict[str, float]:
    """Turns int8 on where this processor is faster by it and the labels hold; returns what was found, {} for no.

    margin: the largest change that int8 makes to the difference of two logits of a row, among these rows. A row whose
    two best logits are further apart keeps its label; `compute_logits` computes the others again in bf16. again: the
    share of these. Where it is above MOST_AGAIN, int8 stays off.
    """
    if not compute.has_int8:
        return {}
    tokens = tokens.take(np.linspace(0, len(tokens) - 1, min(len(tokens), ROWS)).round().astype(np.int64))
    exact = compute_logits(model, tokens, batch_size, compute, None, world)
    model.use_int8(0.0)
    rounded = compute_logits(model, tokens, batch_size, compute, None, world)
    change = rounded - exact
    margin = float((change.max(axis=1) - change.min(axis=1)).max())
    again = float((leads(rounded) < margin).mean())
    if again > MOST_AGAIN:
        model.use_int8(None)
        return {}
    model.use_int8(margin)
    return {"margin": margin, "again": again}
