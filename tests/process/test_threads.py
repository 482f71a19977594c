"""How many threads a pass gets, and when waiting ones sleep early."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from submillion.process import threads
from submillion.process.threads import SMALL_PASS, sized_for, usable_cores

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="control groups and schedstat are Linux's")


@pytest.fixture
def four_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch set to four threads, on eight cores, without a word in the environment."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "usable_cores", lambda: 8)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def write_groups(root: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str]) -> None:
    """Makes a stand-in of /sys/fs/cgroup and /proc/self/cgroup, seen from eight cores."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content + "\n", encoding="utf-8")
    (root / "own").write_text(own + "\n", encoding="utf-8")
    monkeypatch.setattr(threads, "_CGROUPS", root)
    monkeypatch.setattr(threads, "_OWN_GROUPS", root / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/", {}, 8),
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "100000 100000"}, 1),
        ("0::/", {"cpu.max": "250000 100000"}, 2),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "1600000 100000"}, 8),
        ("0::/a/b", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/a/b", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "200000 100000"}, 2),
        ("0::/of/the/host", {"cpu.max": "200000 100000"}, 2),
        ("0::/", {"unified/cpu.max": "200000 100000"}, 2),
        (
            "4:cpu,cpuacct:/a",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "200000", "cpu,cpuacct/a/cpu.cfs_period_us": "50000"},
            4,
        ),
        ("1:cpu:/a", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, 8),
        ("1:cpu:/docker/x", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ("3:cpuset:/a\n7:memory:/a", {"cpuset/a/cpu.cfs_quota_us": "100000", "cpuset/a/cpu.cfs_period_us": "1"}, 8),
        ("0::/", {"cpu.max": "not a number"}, 8),
        ("0::/", {"cpu.max": "100000 0"}, 8),
    ],
    ids=str,
)
def test_a_quota_limits_the_cores(
    own: str, files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_groups(tmp_path, monkeypatch, own, files)
    assert usable_cores() == cores


def test_affinity_limits_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_groups(tmp_path, monkeypatch, "0::/", {"cpu.max": "300000 100000"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5}, raising=False)
    assert usable_cores() == 1
    monkeypatch.setattr(threads, "_OWN_GROUPS", tmp_path / "missing")  # as on a system without control groups
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    assert usable_cores() == 3


@LINUX
def test_the_kernel_s_own_quota_is_read(tmp_path: Path) -> None:
    folders = [Path("/sys/fs/cgroup/cpu/submillion-test"), Path("/sys/fs/cgroup/submillion-test")]
    files = [("cpu.cfs_quota_us", "150000"), ("cpu.max", "150000 100000")]
    for folder, (name, content) in zip(folders, files, strict=True):
        try:
            folder.mkdir()
            (folder / name).write_text(content)
        except OSError:
            continue
        try:
            code = (
                f"import os, pathlib; pathlib.Path({str(folder / 'cgroup.procs')!r}).write_text(str(os.getpid()));"
                "from submillion.process.threads import usable_cores; print(usable_cores())"
            )
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
            assert done.stdout.split() == ["1"], done.stderr
            return
        finally:
            folder.rmdir()
    pytest.skip("this user can make no control group with a quota")


def test_a_small_pass_runs_in_one_thread_and_leaves_no_trace(four_threads: None) -> None:
    with sized_for(SMALL_PASS - 1):
        assert torch.get_num_threads() == 1
        other: list[int] = []
        thread = threading.Thread(target=lambda: other.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert other == [4], "only the calling thread is concerned"
        with sized_for(10**6):
            assert torch.get_num_threads() == 1, "a part of a small pass is small"
    assert torch.get_num_threads() == 4


def test_a_large_pass_takes_the_cores_that_there_are(four_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with sized_for(SMALL_PASS):
        assert torch.get_num_threads() == 4, "never more than torch is set to"
    monkeypatch.setattr(threads, "usable_cores", lambda: 3)
    with pytest.raises(KeyError), sized_for(10**6):
        assert torch.get_num_threads() == 3
        raise KeyError
    assert torch.get_num_threads() == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    with sized_for(10**6):
        assert torch.get_num_threads() == 4, "whoever names a number gets it, whatever the quota is"


@pytest.mark.parametrize("crowded", [True, False])
def test_waiting_threads_sleep_early_while_others_want_the_cores(
    crowded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    seconds, looked, held = iter(range(10**6)), threading.Event(), threading.Event()

    def waited() -> float:
        count = next(seconds)
        if count > 5:
            looked.set()
        return float(count) if crowded else 0.0

    monkeypatch.setattr(threads, "_seconds_waited", waited)
    monkeypatch.setattr(threads, "_hold_a_team", held.set)
    monkeypatch.setattr(threads, "LOOK_SECONDS", 0.001)
    watch = threads._Watch()
    with watch.during_a_pass():
        assert looked.wait(20)
    assert held.is_set() == crowded


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_whoever_says_how_threads_wait_is_not_watched(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    watch = threads._Watch()
    with watch.during_a_pass():
        assert watch._thread is None


@LINUX
def test_an_idle_team_is_more_threads_than_cores_and_goes_again() -> None:
    code = """
import os, threading, time, torch
from submillion.process import threads
def count(): return len(os.listdir("/proc/self/task"))
torch.set_num_threads(2)
torch.ones(10**6).neg_()
before = count()
threads.HOLD_SECONDS = 1.0
holder = threading.Thread(target=threads._hold_a_team)
holder.start()
most = before
while holder.is_alive():
    most = max(most, count())
    time.sleep(0.01)
for _ in range(500):
    if count() == before: break
    time.sleep(0.01)
print(most - before, count() - before, torch.get_num_threads())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    more, left, own_threads = map(int, done.stdout.split())
    assert more == (os.cpu_count() or 1) + 1 and left == 0 and own_threads == 2, done.stdout + done.stderr


@LINUX
def test_the_seconds_that_threads_waited_are_the_system_s() -> None:
    if not Path("/proc/self/schedstat").is_file():
        pytest.skip("this kernel counts no waiting")
    before = threads._seconds_waited()
    assert 0 <= before <= threads._seconds_waited() < 1e6
