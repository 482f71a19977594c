"""The learning rate and the evaluations of a run, as pure functions of the step."""

import math

WARMUP = 0.06  # share of the steps; without it, new adapters' first steps sometimes spoil a run at 1e-3 and above
EVALUATIONS = 4  # at least, in a run: one pass over many rows would otherwise be judged by its last step alone


def learning_rate_factor(step: int, total_steps: int, warmup: float = WARMUP) -> float:
    """Returns the factor of the peak learning rate at `step`, counted from 0, of `total_steps`.

    It rises linearly over the first ceil(warmup * total_steps) steps, reaches 1 at the first step after them, and then
    falls linearly towards 0, which it would reach at step == total_steps.
    """
    warmup_steps = math.ceil(warmup * total_steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    return max(0.0, 1.0 - (step - warmup_steps) / max(1, total_steps - warmup_steps))


def evaluations(epochs: int) -> int:
    """Returns how often a run evaluates on its validation rows: after each epoch, and at least EVALUATIONS times."""
    return max(epochs, EVALUATIONS)


def evaluates_after(step: int, total_steps: int, epochs: int) -> bool:
    """Returns whether the run evaluates on its validation rows after `step`, counted from 1.

    Evaluations are at equal distances, and the last one is after the last step.
    """
    count = evaluations(epochs)
    return step * count // total_steps > (step - 1) * count // total_steps
