"""Plots for a report: loss and accuracy over a run's steps, calibration, coverage, accuracy under noise."""

import logging
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from submillion.atomic import write_atomically

if TYPE_CHECKING:
    import matplotlib.figure

_TRAIN, _VALIDATION = "#9a9a9a", "#c2410c"


def figure_class() -> "type[matplotlib.figure.Figure]":
    """Imports matplotlib and returns its Figure, which draws without pyplot: no global state, no display.

    matplotlib looks for a home that it can write to when it is imported, and builds a list of fonts. Where there is no
    such home it uses a temporary folder, which is all that a plot needs: its warnings of that, and of the time that the
    fonts take, are not shown.
    """
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        from matplotlib.figure import Figure
    finally:
        logger.setLevel(level)
    return Figure


def plot_history(history: list[dict[str, Any]], best_step: int, title: str) -> dict[str, bytes]:
    """Draws a run's loss and accuracy and returns the files' contents, {"loss.png": ..., "accuracy.png": ...}.

    history: the records of history.jsonl; validation values are in some of them only.
    """
    return {
        "loss.png": _plot(history, "loss", "Loss (cross-entropy, nats)", best_step, title),
        "accuracy.png": _plot(history, "accuracy", "Accuracy (%)", best_step, title),
    }


def _plot(history: list[dict[str, Any]], what: str, label: str, best_step: int, title: str) -> bytes:
    """Draws one of a run's plots and returns its PNG."""
    Figure = figure_class()
    scale = 100.0 if what == "accuracy" else 1.0
    steps = [record["step"] for record in history]
    train = [record[f"train_{what}"] * scale for record in history]
    evaluated = [record for record in history if f"validation_{what}" in record]
    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    if len(steps) > 20:
        axes.plot(steps, train, color=_TRAIN, alpha=0.35, linewidth=1)
        axes.plot(steps, _smooth(train), color=_TRAIN, linewidth=2, label="training, smoothed")
    else:
        axes.plot(steps, train, color=_TRAIN, linewidth=2, label="training")
    if evaluated:
        at = [record["step"] for record in evaluated]
        values = [record[f"validation_{what}"] * scale for record in evaluated]
        axes.plot(at, values, color=_VALIDATION, linewidth=2, marker="o", markersize=4, label="validation")
        best = values[at.index(best_step)] if best_step in at else values[-1]
        axes.axvline(best_step, color=_VALIDATION, linestyle=":", linewidth=1)
        text = (
            f"kept: step {best_step:,}, {best:.1f} %" if what == "accuracy" else f"kept: step {best_step:,}, {best:.3f}"
        )
        left = best_step > sum(axes.get_xlim()) / 2
        axes.annotate(
            text,
            (best_step, best),
            xytext=(-8 if left else 8, -14 if what == "accuracy" else 12),
            textcoords="offset points",
            ha="right" if left else "left",
            va="top" if what == "accuracy" else "bottom",
            color=_VALIDATION,
        )
    axes.set(xlabel="Optimiser step", ylabel=label)
    axes.set_title(title, loc="left", fontsize=10, parse_math=False)  # a file's name may have dollars in it
    axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower center" if what == "accuracy" else "upper center")
    return _png(figure)


def plot_calibration(
    calibration: Mapping[str, Any], probabilities: np.ndarray, labels: np.ndarray, folder: Path
) -> list[Path]:
    """Writes folder/reliability.png and folder/coverage.png and returns their paths.

    calibration: of `calibration_metrics` for these probabilities, float [rows, labels], and labels, int64 [rows].
    """
    from submillion.inference.calibration import BINS, coverage_curve

    Figure = figure_class()
    figure = Figure(figsize=(4.6, 4.6), dpi=150, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    bins = calibration["bins"]
    confidence = [100 * one["confidence"] for one in bins]
    above.plot([0, 100], [0, 100], color=_TRAIN, linestyle=":", linewidth=1, label="as sure as right")
    above.plot(
        confidence, [100 * one["accuracy"] for one in bins], color=_VALIDATION, marker="o", label="rows of a bin"
    )
    above.set(ylabel="Accuracy (%)", xlim=(0, 100), ylim=(0, 102))
    above.set_title(f"Calibration error {calibration['ece']:.2%} of {len(labels):,} rows", loc="left", fontsize=10)
    above.legend(frameon=False, loc="upper left")
    below.hist(100 * probabilities.max(axis=1), bins=np.linspace(0, 100, BINS + 1), color=_TRAIN, edgecolor="white")
    below.set(xlabel="Confidence (%)", ylabel="Rows", yscale="log")
    right = probabilities.argmax(axis=1) == labels
    curve = 100 * coverage_curve(probabilities.max(axis=1), right)
    shares = 100 * np.arange(1, len(curve) + 1) / len(curve)
    coverage = Figure(figsize=(6, 4), dpi=150, layout="constrained")
    axes = coverage.subplots()
    axes.plot(shares, curve, color=_VALIDATION, linewidth=2)
    for share, accuracy in calibration["coverage"].items():
        place = (100 * float(share), 100 * accuracy)
        axes.plot(*place, color=_VALIDATION, marker="o", markersize=4)
        axes.annotate(
            f"{accuracy:.1%}", place, xytext=(-4, -6), textcoords="offset points", ha="right", va="top", fontsize=8
        )
    settled = curve[len(curve) // 10 :]  # the surest few rows alone swing by whole points
    axes.set(xlabel="Rows answered, the surest first (%)", ylabel="Accuracy on them (%)", xlim=(0, 101))
    axes.set_ylim(max(0.0, settled.min() - 2), 100.5)
    axes.set_title("Accuracy against coverage, when unsure rows go to a person", loc="left", fontsize=10)
    for panel in (above, below, axes):
        panel.spines[["top", "right"]].set_visible(False)
    return [_written(figure, folder / "reliability.png"), _written(coverage, folder / "coverage.png")]


def plot_noise(robustness: Mapping[str, Any], path: Path) -> Path:
    """Accuracy under each corruption at its three strengths, the hardest at the top; what `suite.measure` returns."""
    Figure = figure_class()
    each = robustness["noise"]["each"]
    names = sorted(each, key=lambda name: -each[name]["high"])
    figure = Figure(figsize=(7, 0.27 * len(names) + 1.3), dpi=150, layout="constrained")
    axes = figure.subplots()
    for strength, colour in (("low", "#fdba74"), ("medium", _VALIDATION), ("high", "#7c2d12")):
        axes.plot(
            [100 * each[name][strength] for name in names], names, "o", color=colour, label=strength, markersize=5
        )
    for place, name in enumerate(names):
        found = [100 * accuracy for accuracy in each[name].values()]
        axes.plot([min(found), max(found)], [place, place], color="#e5e5e5", linewidth=2, zorder=0)
    axes.axvline(100 * robustness["clean"], color=_TRAIN, linestyle=":", linewidth=1, label="clean")
    axes.set(xlabel="Accuracy (%)")
    title = f"Accuracy under noise, {robustness['rows']:,} rows; clean {robustness['clean']:.1%}, "
    axes.set_title(title + f"mean at medium {robustness['noise']['mean']['medium']:.1%}", loc="left", fontsize=10)
    axes.grid(axis="x", color="#e5e5e5", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower left", fontsize=8)
    return _written(figure, path)


def _png(figure: Any) -> bytes:
    content = BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _written(figure: Any, path: Path) -> Path:
    with write_atomically(path, "wb") as file:
        file.write(_png(figure))
    return path


def _smooth(values: list[float]) -> list[float]:
    """Centred mean over a tenth of the points, shorter at the ends."""
    half = max(1, len(values) // 20)
    windows = (values[max(0, index - half) : index + half + 1] for index in range(len(values)))
    return [sum(window) / len(window) for window in windows]
