"""The table and the figure of benchmarks.accuracy."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# measure -> where it stands in a run's metrics; shares of 1
MEASURES: dict[str, tuple[str, ...]] = {
    "clean": ("accuracy",),
    "noise, medium": ("robustness", "noise", "mean", "medium"),
    "noise, high": ("robustness", "noise", "mean", "high"),
    "worst of 20": ("robustness", "worst_of_20"),
    "post": ("robustness", "style", "post"),
    "BBC": ("robustness", "shift", "BBC News", "accuracy"),
    "modern": ("robustness", "shift", "modern news", "accuracy"),
    "attack": ("robustness", "attack", "accuracy"),
    "ECE": ("calibration", "ece"),
}


def value_of(run: dict[str, Any], path: Sequence[str]) -> float | None:
    """Returns the number at this path of a run's metrics; None if it was not measured."""
    value: Any = run
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Returns {system: {measure: "93.9 (0.1)"}}: mean and standard deviation over the seeds, in per cent."""
    table: dict[str, dict[str, str]] = {}
    for run in runs:
        table.setdefault(run["system"], {})
    for system, cells in table.items():
        seeds = [run for run in runs if run["system"] == system]
        for measure_name, path in MEASURES.items():
            shares = [value for run in seeds if (value := value_of(run, path)) is not None]
            cells[measure_name] = report.mean_and_deviation(shares)
    return table


def print_table(table: dict[str, dict[str, str]], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(title=title, title_justify="left")
    for name in ("measure", *table):
        shown.add_column(name)
    for measure_name in MEASURES:
        shown.add_row(measure_name, *(cells[measure_name] for cells in table.values()))
    Console().print(shown)


def draw_budgets(runs: Sequence[dict[str, Any]], path: Path) -> Path:
    """Draws accuracy, clean, noisy and shifted, against the trainable parameters: mean and range over the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3.4))
    _draw_curves(axis, runs)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def _draw_curves(axis: "Axes", runs: Sequence[dict[str, Any]]) -> None:
    counts = sorted({run["parameters"]["trainable"] for run in runs})
    for name, colour in (("clean", "#1b7f5c"), ("noise, medium", "#c7762b"), ("BBC", "#4a6fa5")):
        points = []
        for count in counts:
            seeds = [value_of(run, MEASURES[name]) for run in runs if run["parameters"]["trainable"] == count]
            if shares := [100 * share for share in seeds if share is not None]:  # what was not measured is not drawn
                points.append((count, sum(shares) / len(shares), min(shares), max(shares)))
        if points:
            places, means, lowest, highest = zip(*points, strict=True)
            axis.plot(places, means, marker="o", label=name, color=colour)
            axis.vlines(places, lowest, highest, color=colour, alpha=0.5)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.set_xlabel("trainable parameters")
    axis.set_title("accuracy, %", loc="left", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", alpha=0.25)
    axis.legend(frameon=False, fontsize=8)
