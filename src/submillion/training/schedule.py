"""The learning rate as a pure function of the step."""

import math


def learning_rate_factor(step: int, total_steps: int, warmup_fraction: float, schedule: str) -> float:
    """What the peak learning rate is multiplied with at `step` (0-based) of `total_steps`.

    It rises linearly over the first ceil(warmup_fraction * total_steps) steps, reaching 1 at the first step after them,
    then stays (constant), or falls to 0 along a line (linear) or half a cosine (cosine), 0 at step == total_steps.
    """
    warmup = math.ceil(warmup_fraction * total_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, total_steps - warmup)
    if schedule == "constant":
        return 1.0
    if schedule == "linear":
        return max(0.0, 1.0 - done)
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
    raise ValueError(f"unknown schedule {schedule!r}")
