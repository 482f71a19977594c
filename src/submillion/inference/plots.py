"""Plots of a run, for a report: loss and accuracy over the steps, the best step marked."""

from pathlib import Path
from typing import Any

from submillion.atomic import write_atomically

_TRAIN, _VALIDATION = "#9a9a9a", "#c2410c"


def plot_history(history: list[dict[str, Any]], best_step: int, folder: Path, title: str) -> list[Path]:
    """Writes folder/loss.png and folder/accuracy.png and returns their paths.

    history: the records of history.jsonl; validation values are in some of them only.
    """
    loss = _plot(history, "loss", "Loss (cross-entropy, nats)", best_step, folder / "loss.png", title)
    accuracy = _plot(history, "accuracy", "Accuracy (%)", best_step, folder / "accuracy.png", title)
    return [loss, accuracy]


def _plot(history: list[dict[str, Any]], what: str, label: str, best_step: int, path: Path, title: str) -> Path:
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

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
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower center" if what == "accuracy" else "upper center")
    with write_atomically(path, "wb") as file:
        figure.savefig(file, format="png")
    return path


def _smooth(values: list[float]) -> list[float]:
    """Centred mean over a tenth of the points, shorter at the ends."""
    half = max(1, len(values) // 20)
    windows = (values[max(0, index - half) : index + half + 1] for index in range(len(values)))
    return [sum(window) / len(window) for window in windows]
