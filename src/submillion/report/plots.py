"""Plots of a run, its loss and accuracy over the steps, and what all plots share."""

import logging
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

FAINT, GREY, STRONG = "#e5e5e5", "#9a9a9a", "#c2410c"  # lines of a grid, what is compared with, what matters
NAMES = ("loss.png", "accuracy.png")


def figure_class() -> "type[matplotlib.figure.Figure]":
    """Imports matplotlib and returns its Figure, which draws without pyplot: no global state, no display.

    matplotlib looks for a home that it can write to when it is imported, and builds a list of fonts. Without such a
    home it uses a temporary folder, which is all that a plot needs: its warnings of that, and of the time that the
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


def png(figure: "matplotlib.figure.Figure") -> bytes:
    """Returns the figure as a PNG file."""
    content = BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def plot_history(history: list[dict[str, Any]], best_step: int, title: str) -> dict[str, bytes]:
    """Draws a run's loss and accuracy and returns the files' contents, {"loss.png": ..., "accuracy.png": ...}.

    history: the records of history.jsonl; validation values are in some of them only.
    """
    contents = (
        _plot(history, "loss", "Loss (cross-entropy, nats)", best_step, title),
        _plot(history, "accuracy", "Accuracy (%)", best_step, title),
    )
    return dict(zip(NAMES, contents, strict=True))


def _plot(history: list[dict[str, Any]], measure: str, label: str, best_step: int, title: str) -> bytes:
    figure = figure_class()(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    scale = 100.0 if measure == "accuracy" else 1.0
    steps = [record["step"] for record in history]
    training = [record[f"train_{measure}"] * scale for record in history]
    if len(steps) > 20:
        axes.plot(steps, training, color=GREY, alpha=0.35, linewidth=1)
        axes.plot(steps, _smooth(training), color=GREY, linewidth=2, label="training, smoothed")
    else:
        axes.plot(steps, training, color=GREY, linewidth=2, label="training")
    validation = {
        record["step"]: record[f"validation_{measure}"] * scale
        for record in history
        if f"validation_{measure}" in record
    }
    if validation:
        _draw_validation(axes, validation, measure, best_step)
    axes.set(xlabel="Optimiser step", ylabel=label)
    axes.set_title(title, loc="left", fontsize=10, parse_math=False)  # a file's name may have dollars in it
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower center" if measure == "accuracy" else "upper center")
    return png(figure)


def _draw_validation(axes: "matplotlib.axes.Axes", values: dict[int, float], measure: str, best_step: int) -> None:
    """Draws the validation values, by step, and names the value of the step that was kept."""
    rises = measure == "accuracy"
    axes.plot(
        list(values), list(values.values()), color=STRONG, linewidth=2, marker="o", markersize=4, label="validation"
    )
    best = values.get(best_step, list(values.values())[-1])
    axes.axvline(best_step, color=STRONG, linestyle=":", linewidth=1)
    left = best_step > sum(axes.get_xlim()) / 2
    axes.annotate(
        f"kept: step {best_step:,}, {best:.1f} %" if rises else f"kept: step {best_step:,}, {best:.3f}",
        (best_step, best),
        xytext=(-8 if left else 8, -14 if rises else 12),
        textcoords="offset points",
        ha="right" if left else "left",
        va="top" if rises else "bottom",
        color=STRONG,
    )


def _smooth(values: list[float]) -> list[float]:
    """Returns the centred mean over a tenth of the points, shorter at the ends."""
    half = max(1, len(values) // 20)
    windows = (values[max(0, index - half) : index + half + 1] for index in range(len(values)))
    return [sum(window) / len(window) for window in windows]
