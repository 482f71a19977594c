"""What every benchmark shares: ratios over pairs, the roof, the table, the results file, the figure."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib import metadata
from pathlib import Path
from statistics import mean, median, stdev
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("torch", "transformers", "peft", "accelerate", "numpy", "tokenizers", "onnxruntime", "openvino")
LOSS_BAND = 0.15  # nats: ours may end this much above the peer's and still count as learning


@dataclass(frozen=True)
class Spread:
    """Median of repeated measurements with the lowest and the highest."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One line of the table: what was aimed at and what was measured."""

    name: str
    unit: str  # "x": ratio to a peer; "%": share of 100
    target: float
    measured: Spread
    better: Literal["high", "low"] = "high"
    note: str = ""

    @property
    def met(self) -> bool:
        if self.better == "high":
            return self.measured.median >= self.target
        return self.measured.median <= self.target


def spread(values: Sequence[float]) -> Spread:
    """Returns median, lowest and highest. Raises ValueError for no values."""
    if not values:
        raise ValueError("no measurements")
    return Spread(median(values), min(values), max(values))


def mean_and_deviation(shares: Sequence[float]) -> str:
    """Returns shares of 1 as "93.9 (0.1)": mean and standard deviation in per cent; "90.0" for one, "" for none."""
    values = [100 * share for share in shares]
    deviation = f" ({stdev(values):.1f})" if len(values) > 1 else ""
    return f"{mean(values):.1f}{deviation}" if values else ""


def paired_ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Returns ours / theirs within each pair: drift of the machine moves both sides of a pair alike."""
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def roof_share(parameters: int, tokens_per_second: float, peak_flops: float, flops_per_weight: int = 4) -> float:
    """Returns which share, 0 to 1, of the best measured matmul rate (FLOP/s) the encoder's products take.

    flops_per_weight and token: 4 in training with frozen weights (2 forward, 2 for the gradient of the input; frozen
    weights have no gradient), 2 in prediction. Attention, adapters and everything elementwise count as zero.
    """
    return flops_per_weight * parameters * tokens_per_second / peak_flops


def learns(ours_final: float, theirs_final: float, band: float = LOSS_BAND) -> bool:
    """Returns whether our mean loss over the last steps (nats) is within the band above the peer's; NaN never is."""
    return ours_final <= theirs_final + band


def table_cells(row: Row) -> tuple[str, str, str, str, str]:
    """Returns name, target, measured, spread, verdict."""
    sign = "≥" if row.better == "high" else "≤"
    digits = 1 if row.unit == "%" else 2
    values = [f"{value:.{digits}f}{row.unit}" for value in (row.measured.median, row.measured.low, row.measured.high)]
    verdict = "met" if row.met else "missed"
    return (
        row.name,
        f"{sign} {row.target:g}{row.unit}",
        values[0],
        f"{values[1]} to {values[2]}",
        f"{verdict}; {row.note}" if row.note else verdict,
    )


def table(rows: Sequence[Row]) -> "Table":
    from rich.table import Table

    grid = Table(title="target and measured: median of the pairs, lowest to highest", title_justify="left")
    for name in ("what", "target", "measured", "spread", ""):
        grid.add_column(name)
    for row in rows:
        grid.add_row(*table_cells(row))
    return grid


def print_rows(rows: Sequence[Row]) -> None:
    from rich.console import Console

    Console().print(table(rows))


def print_rates(title: str, rates: dict[str, list[float]]) -> None:
    """Prints a table. rates: rows/s of each repetition, by side."""
    from rich.console import Console
    from rich.table import Table

    grid = Table(title=title, title_justify="left")
    for name in ("side", "rows/s, median", "low", "high"):
        grid.add_column(name)
    for name, values in rates.items():
        rate = spread(values)
        grid.add_row(name, *(f"{value:.1f}" for value in (rate.median, rate.low, rate.high)))
    Console().print(grid)


def versions() -> dict[str, str]:
    numbers = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            numbers[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return numbers


def machine() -> dict[str, Any]:
    """Returns the processor's model, the cores this process may use, the memory in GiB, and the GPU if there is one."""
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0.0
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return {**gpu, "processor": model, "cores": cores, "memory_gib": round(memory, 1)}


def machine_slug(host: dict[str, Any]) -> str:
    """Returns a machine as part of a file name: letters, digits and dashes."""
    text = f"{host.get('gpu') or host['processor']}-{host['cores']}cores".lower()
    return "-".join("".join(c if c.isalnum() else " " for c in text).split())


def results_path(host: dict[str, Any], folder: Path = RESULTS, day: date | None = None, suffix: str = "") -> Path:
    return folder / f"{(day or date.today()).isoformat()}-{machine_slug(host)}{suffix}.json"


def write_results(
    rows: Sequence[Row], details: dict[str, Any], folder: Path = RESULTS, day: date | None = None, suffix: str = ""
) -> Path:
    """Writes <date>-<machine><suffix>.json: the table's rows and every single measurement behind them."""
    host = details.get("machine") or machine()
    path = results_path(host, folder, day, suffix)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [asdict(row) | {"met": row.met} for row in rows]
    content = {"machine": host, "versions": versions(), "rows": lines, **details}
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def draw_speed(panels: dict[str, dict[str, list[float]]], path: Path) -> Path:
    """Draws bars of rows/s with lowest and highest, a panel per comparison; the first side of each is ours."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(panels), 1, figsize=(8, 1.9 * len(panels) + 0.3), squeeze=False)
    for axis, (title, rates) in zip(axes[:, 0], panels.items(), strict=True):
        spreads = [spread(values) for values in rates.values()]
        middle = [one.median for one in spreads]
        errors = [[one.median - one.low for one in spreads], [one.high - one.median for one in spreads]]
        colours = ["#1b7f5c", *["#9aa5b1"] * (len(spreads) - 1)]
        axis.barh(range(len(spreads)), middle, xerr=errors, color=colours, ecolor="#444444")
        axis.set_yticks(range(len(spreads)), list(rates), fontsize=8)
        axis.invert_yaxis()
        axis.set_title(title, loc="left", fontsize=9)
        axis.set_xlabel("rows/s", fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
