"""Sentences about metrics that the console and the model card share."""

from collections.abc import Mapping
from math import sqrt
from typing import Any

from submillion.errors import escaped
from submillion.training.result import RunResult
from submillion.training.run import Run

MOST_NAMED = 10  # labels named in a line; the rest are counted


def wilson_interval(share: float, rows: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share of so many rows: E. B. Wilson, 1927, J. Am. Stat. Assoc. 22, 209-212."""
    z = 1.959964
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z * sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows)) / (1 + z * z / rows)
    return max(0.0, centre - half), min(1.0, centre + half)


def macro_f1_shown(metrics: Mapping[str, Any]) -> str:
    """Returns macro-F1 of what `Task.metrics` returns, with the labels that had no rows, if any."""
    if "without_rows" not in metrics:
        return f"{metrics['macro_f1']:.4f}"
    absent = [escaped(name) for name in metrics["without_rows"]["labels"]]
    more = f" and {len(absent) - MOST_NAMED:,} more" if len(absent) > MOST_NAMED else ""
    others = f"over the others it is {metrics['without_rows']['macro_f1_of_others']:.4f}"
    names = ", ".join(absent[:MOST_NAMED])
    return f"{metrics['macro_f1']:.4f} (labels without rows here count as 0: {names}{more}; {others})"


def overlap_sentence(split: str, metrics: Mapping[str, Any]) -> str:
    """Returns how right the model is on near duplicates of training rows; "" if the split has none.

    metrics: as `Task.metrics` returns them.
    """
    if not (overlap := metrics.get("overlap")):
        return ""
    others = overlap["accuracy_of_others"]
    rest = "" if others is None else f", {others:.2%} of the others"
    rows = f"{overlap['rows']:,} of the {metrics['rows']:,} {split} rows are near duplicates of training rows"
    return f"{rows}: {overlap['accuracy']:.2%} of these are right{rest}."


def after_the_kept_step(run: Run, result: RunResult) -> str:
    """Returns what follows a sentence about the step that was kept, which may be nothing.

    It says whether the training was interrupted before its schedule ended, and whether its adapters were scaled.
    """
    planned, scale = result.planned_steps, run.config.robust.adapter_scale
    schedule = f"; the schedule was made for {planned:,} steps" if result.steps < planned else ""
    scaled = f"; its adapters were then multiplied by {scale:g}" if result.rank and scale != 1 else ""
    return schedule + scaled
