"""Plots are drawn without a writable home, and matplotlib's warnings about homes and fonts are not shown."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from news import news_rows, write_csv

PLOT = (
    "from submillion.report.plots import plot_history; "
    "records = [{'step': step, 'train_loss': 1.0, 'train_accuracy': 0.5} for step in (1, 2)]; "
    "assert all(content.startswith(b'\\x89PNG') for content in plot_history(records, 2, 'title').values())"
)
ANY_PLOT = "import matplotlib.figure"
# matplotlib warns where building its list of fonts takes more than five seconds; here it warns at once.
AT_ONCE = """
import threading
class Timer:
    def __init__(self, delay, warn): self.start = warn
    def cancel(self): pass
threading.Timer = Timer
"""


@pytest.fixture
def homeless(tmp_path: Path) -> dict[str, str]:
    """An environment whose home cannot be made, not even by root."""
    (tmp_path / "file").write_text("")
    removed = ("MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
    kept = {name: value for name, value in os.environ.items() if name not in removed}
    return kept | {"HOME": str(tmp_path / "file" / "home")}


def errors_of(argv: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run([sys.executable, *argv], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_home_that_cannot_be_written_gives_no_warning(homeless: dict[str, str]) -> None:
    assert "MPLCONFIGDIR" in errors_of(["-c", ANY_PLOT], homeless)
    assert errors_of(["-c", PLOT], homeless) == ""


def test_fonts_that_take_long_give_no_warning(tmp_path: Path) -> None:
    theirs, ours = (os.environ | {"MPLCONFIGDIR": str(tmp_path / name)} for name in ("theirs", "ours"))
    assert "building the font cache" in errors_of(["-c", AT_ONCE + ANY_PLOT], theirs)
    assert errors_of(["-c", AT_ONCE + PLOT], ours) == ""


def test_a_run_without_a_home_says_nothing_of_it(homeless: dict[str, str], tiny_base: Path, tmp_path: Path) -> None:
    rows = write_csv(tmp_path / "rows.csv", news_rows(8))
    argv = [
        "-m",
        "submillion",
        "train",
        "--data.source",
        str(rows),
        "--model.base",
        str(tiny_base),
        "--train.epochs",
        "1",
    ]
    argv += ["--output.dir", str(tmp_path / "model")]
    errors = errors_of(argv, homeless)
    assert "atplotlib" not in errors and homeless["HOME"] not in errors
    assert (tmp_path / "model" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_warnings_of_matplotlib_are_shown_again_once_it_is_there() -> None:
    code = PLOT + "; import logging; logging.getLogger('matplotlib').warning('of a plot')"
    assert errors_of(["-c", code], dict(os.environ)) == "of a plot\n"
