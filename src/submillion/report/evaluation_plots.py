"""Plots of an evaluation: calibration, accuracy against coverage, accuracy under noise."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from submillion.atomic import write_atomically
from submillion.report.plots import FAINT, GREY, STRONG, figure_class, png
from submillion.tasks.calibration import BINS, coverage_curve
from submillion.tasks.task import Task

if TYPE_CHECKING:
    import matplotlib.figure


def plot_evaluation(
    task: Task, metrics: Mapping[str, Any], probabilities: np.ndarray, targets: np.ndarray, folder: Path
) -> list[Path]:
    """Writes reliability.png, coverage.png and noise.png into folder and returns their paths.

    metrics: as `evaluate_source` returns them, with calibration and robustness, for these probabilities, float [rows,
    outputs], and targets.
    """
    confidence, right = task.confidence(probabilities), task.is_right(probabilities, targets)
    figures = {
        "reliability.png": _reliability(metrics["calibration"], confidence),
        "coverage.png": _coverage(metrics["calibration"], coverage_curve(confidence, right)),
        "noise.png": _noise(metrics["robustness"]),
    }
    for name, figure in figures.items():
        with write_atomically(folder / name, "wb") as file:
            file.write(png(figure))
    return [folder / name for name in figures]


def _reliability(calibration: Mapping[str, Any], confidence: np.ndarray) -> "matplotlib.figure.Figure":
    """Draws accuracy against confidence, and how many rows have which confidence, float [rows]."""
    figure = figure_class()(figsize=(4.6, 4.6), dpi=150, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    points = [(100 * one["confidence"], 100 * one["accuracy"]) for one in calibration["bins"]]
    above.plot([0, 100], [0, 100], color=GREY, linestyle=":", linewidth=1, label="as sure as right")
    above.plot(*zip(*points, strict=True), color=STRONG, marker="o", label="rows of a bin")
    above.set(ylabel="Accuracy (%)", xlim=(0, 100), ylim=(0, 102))
    title = f"Calibration error {calibration['ece']:.2%} of {len(confidence):,} rows"
    above.set_title(title, loc="left", fontsize=10)
    above.legend(frameon=False, loc="upper left")
    below.hist(100 * confidence, bins=np.linspace(0, 100, BINS + 1), color=GREY, edgecolor="white")
    below.set(xlabel="Confidence (%)", ylabel="Rows", yscale="log")
    below.tick_params(axis="y", which="minor", labelleft=False)  # on few rows these labels overlap
    for panel in (above, below):
        panel.spines[["top", "right"]].set_visible(False)
    return figure


def _coverage(calibration: Mapping[str, Any], curve: np.ndarray) -> "matplotlib.figure.Figure":
    """Draws `coverage_curve`, float [rows]."""
    figure = figure_class()(figsize=(6, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.plot(100 * np.arange(1, len(curve) + 1) / len(curve), 100 * curve, color=STRONG, linewidth=2)
    for share, accuracy in calibration["coverage"].items():
        point = (100 * float(share), 100 * accuracy)
        axes.plot(*point, color=STRONG, marker="o", markersize=4)
        axes.annotate(
            f"{accuracy:.1%}", point, xytext=(-4, -6), textcoords="offset points", ha="right", va="top", fontsize=8
        )
    settled = 100 * curve[len(curve) // 10 :]  # the surest few rows alone swing by whole points
    axes.set(xlabel="Rows answered, the surest first (%)", ylabel="Accuracy on them (%)", xlim=(0, 101))
    axes.set_ylim(max(0.0, settled.min() - 2), 100.5)
    axes.set_title("Accuracy against coverage, when unsure rows go to a person", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _noise(robustness: Mapping[str, Any]) -> "matplotlib.figure.Figure":
    """Draws accuracy under each corruption at its three strengths, the hardest at the top."""
    each = robustness["noise"]["each"]
    names = sorted(each, key=lambda name: -each[name]["high"])
    figure = figure_class()(figsize=(7, 0.27 * len(names) + 1.3), dpi=150, layout="constrained")
    axes = figure.subplots()
    for strength, colour in (("low", "#fdba74"), ("medium", STRONG), ("high", "#7c2d12")):
        accuracies = [100 * each[name][strength] for name in names]
        axes.plot(accuracies, names, "o", color=colour, label=strength, markersize=5)
    for place, name in enumerate(names):
        accuracies = [100 * accuracy for accuracy in each[name].values()]
        axes.plot([min(accuracies), max(accuracies)], [place, place], color=FAINT, linewidth=2, zorder=0)
    axes.axvline(100 * robustness["clean"], color=GREY, linestyle=":", linewidth=1, label="clean")
    axes.set(xlabel="Accuracy (%)")
    title = f"Accuracy under noise, {robustness['rows']:,} rows; clean {robustness['clean']:.1%}, "
    axes.set_title(title + f"mean at medium {robustness['noise']['mean']['medium']:.1%}", loc="left", fontsize=10)
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower left", fontsize=8)
    return figure
