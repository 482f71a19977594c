"""A small share of the fuzz campaign: damaged files of every format end in an answer or a SubmillionError."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*words: str, timeout: float = 200) -> subprocess.CompletedProcess[str]:
    """Runs a program of its own: a fault in a library's C code would end this one."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", *words], capture_output=True, text=True, cwd=ROOT, timeout=timeout
    )


def test_two_thousand_damaged_files(tmp_path: Path) -> None:
    done = run("-m", "tests.campaign.fuzz", "--inputs", "2000", "--seed", "7", "--keep", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "inputs 2,000" in done.stdout and "failed" not in done.stdout and "read " in done.stdout


BROKEN = """
import json, sys
from pathlib import Path
from tests.campaign import fuzz
def broken(path, settings): {body}
fuzz.training_reads, fuzz.SECONDS = broken, 1
counts, failures = fuzz.campaign(3, 1, 0, Path(sys.argv[1]))
print(json.dumps([counts, failures]))
"""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise KeyError('x')", "KeyError: 'x'"),
        ("import os; os.system('true')", "started os.system"),
        ("all(True for _ in iter(int, 1))", "TooSlow"),
    ],
)
def test_a_reader_at_fault_is_seen(tmp_path: Path, body: str, words: str) -> None:
    done = run("-c", BROKEN.format(body=body), str(tmp_path))
    counts, failures = json.loads(done.stdout)
    assert counts["failed"] == 3 and all(words in failure for failure in failures)
    assert len(list(tmp_path.iterdir())) == 3
