"""What a tiny run is made of and leaves, for the tests of training."""

import json
from pathlib import Path
from typing import Any

HEAD = 32 * 3 + 3  # hidden 32, 3 labels
ADAPTERS = 2 * 2 * 2 * (32 + 32)  # 2 layers, query and value, rank 2
COUNTED = ("best_step", "steps", "planned_steps", "interrupted", "parameters", "temperature")
RESOLVED = ("rank", "window", "precision")
TIMINGS = ("rows_per_second", "training_seconds")
MEASURED = {"accuracy", "macro_f1", "loss", "rows", "per_label", "confusion", "ece", "ece_uncalibrated"}


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def metrics_file(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def without_timing(metrics: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metrics.items() if key not in TIMINGS}
