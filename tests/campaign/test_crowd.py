"""A thread that predicts gives the same bits while others load models, train, fork and change torch's settings.

A short share of the campaign; `make campaign` runs ten minutes of it.
"""

import os
import subprocess
import sys
from pathlib import Path

SECONDS = float(os.environ.get("SUBMILLION_CAMPAIGN_SECONDS", "10"))


def test_no_thread_disturbs_another(tiny_base: Path, tmp_path: Path) -> None:
    """In a process of its own: what used to go wrong killed it."""
    script = Path(__file__).with_name("crowd.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tiny_base), str(tmp_path), str(SECONDS)],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(script.parents[1])},
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stdout[-500:]} {done.stderr[-3000:]}"
    counts = dict(part.rsplit(" ", 1) for part in done.stdout.strip().split(", ") if part)
    assert {"predicts", "loads", "trains in fp32", "trains in bf16", "transformers loads"} <= counts.keys()
