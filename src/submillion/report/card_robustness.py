"""The card's section on robustness."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from submillion.data.short_names import short_name
from submillion.report.card_results import pictures
from submillion.report.markdown import table, text
from submillion.text.noise import STRENGTHS

NOT_MEASURED = (
    "Not measured. `submillion evaluate --data.source FILE --robustness --model DIR`, with this folder as DIR, "
    "measures noise, style, shift and an attack, and writes what it finds here."
)


def render_robustness(metrics: Mapping[str, Any], source: str, adapter_scale: float, plots: Sequence[str]) -> str:
    """Returns the section of a model that was measured.

    metrics: as `evaluate_source` returns them, measured on `source`. plots: names of files that lie beside the card.
    """
    robustness, calibration = metrics["robustness"], metrics["calibration"]
    surest = ", ".join(
        f"{right:.1%} of the surest {float(share):.0%}"
        for share, right in calibration["coverage"].items()
        if float(share) < 1
    )
    scaled = f", with --adapter-scale {adapter_scale:g}" if adapter_scale != 1 else ""
    paragraphs = [
        f"Measured on {text(short_name(source))}: {robustness['rows']:,} of {robustness['of_rows']:,} rows, drawn with "
        f"seed {robustness['seed']}{scaled}.",
        table(("measure", "rows", "accuracy"), _measures(robustness), [1, 2]),
        f"On all {metrics['rows']:,} rows: accuracy {metrics['accuracy']:.2%} ({surest}), calibration error (ECE, 15 "
        f"bins) {calibration['ece']:.2%} at temperature {calibration['temperature']:.2f}.",
    ]
    if "shift" not in robustness:
        paragraphs.append("Rows of another kind were not measured.")
    return "\n\n".join([*paragraphs, *pictures(plots)])


def _measures(robustness: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yields (measure, rows, accuracy) of what `measure_robustness` returns."""
    rows, noise = f"{robustness['rows']:,}", robustness["noise"]
    yield "clean", rows, f"{robustness['clean']:.1%}"
    for strength in STRENGTHS:
        kinds = f"{len(noise['each'])} kinds of noise at {strength} strength"
        yield f"{kinds}, mean", rows, f"{noise['mean'][strength]:.1%}"
        worst = noise["worst"][strength]
        yield f"{kinds}, the worst ({worst['name']})", rows, f"{worst['accuracy']:.1%}"
    yield "right under all of 20 random corruptions of medium strength", rows, f"{robustness['worst_of_20']:.1%}"
    for name, accuracy in robustness["style"].items():
        yield f"rewritten by rule as a {name}", rows, f"{accuracy:.1%}"
    yield "greedy character attack, at most a fifth of the words", rows, f"{robustness['attack']['accuracy']:.1%}"
    for name, shift in robustness.get("shift", {}).items():
        yield f"rows of another kind: {name}", f"{shift['rows']:,}", f"{shift['accuracy']:.1%}"
