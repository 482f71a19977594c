"""Threads: how many a pass over rows gets, and how those that have nothing to do wait for work.

OpenMP's threads meet at the end of every operation, some hundred times in a pass. A thread that another program, or a
quota, keeps from its core holds up all the others, which spin and burn the time that it needs.
"""

import functools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

# A pass over fewer tokens runs in one thread: split among more, each operation is shorter than the wait at its end.
SMALL_PASS = 256
CROWDED = 0.3  # from so many seconds of waiting for a core in each second on, other programs want the cores too
LOOK_SECONDS, HOLD_SECONDS = 0.1, 60.0  # between two checks of that; how long threads then sleep early

_CGROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Returns how many cores this process may use, at least 1.

    They are limited by its affinity, and by the CPU quotas of its control groups (versions 1 and 2), rounded down.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = (_quota_in(folder) for folder in _control_groups())
    return max(1, int(min([cores, *(quota for quota in quotas if quota is not None)])))


def _control_groups() -> Iterator[Path]:
    """Yields the folders of the control groups that this process is in, and of those above them."""
    try:
        lines = _OWN_GROUPS.read_text("utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for root in (_CGROUPS / (controllers or "unified"), _CGROUPS / "cpu" if controllers else _CGROUPS):
            folder = root / path.lstrip("/")
            yield folder
            # The path may be of the host, and this container's own group is then the root of what is mounted here.
            yield from (above for above in folder.parents if above.is_relative_to(root))


def _quota_in(folder: Path) -> float | None:
    """Returns the quota in cores that a control group itself has; None if it has none."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = " ".join((folder / name).read_text("utf-8") for name in names).split()
            if quota not in ("max", "-1"):
                return int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return None


@contextmanager
def sized_for(tokens: int) -> Iterator[None]:
    """Runs a block on as many of torch's threads as suit a pass over `tokens` and this process's cores.

    There are never more than torch is set to use, and only the calling thread's operations are affected. CPU quotas do
    not count if OMP_NUM_THREADS sets the number of threads.
    """
    import torch

    threads = wanted = torch.get_num_threads()
    if tokens < SMALL_PASS:
        wanted = 1
    elif threads > 1 and "OMP_NUM_THREADS" not in os.environ:
        wanted = min(threads, usable_cores())
    with (
        _openmp().limit(limits=wanted) if wanted < threads else nullcontext(),
        _watch.during_a_pass() if wanted > 1 else nullcontext(),
    ):
        yield


@functools.cache
def _openmp() -> "ThreadpoolController":
    """Returns the controller that sets the number of OpenMP threads for the calling thread alone."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="openmp")


class _Watch:
    """Makes waiting threads sleep at once, instead of spinning, while other programs want the cores too.

    GNU OpenMP's threads spin 300,000 rounds before they sleep, but only 100 if it manages more threads than there are
    cores (its manual: GOMP_SPINCOUNT). Both numbers are read when the library is loaded, with torch, so they cannot be
    set later. But a second, idle team of threads makes the threads too many at any time, and it ends with the thread
    that made it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._passes = 0
        self._running = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def during_a_pass(self) -> Iterator[None]:
        """Watches while the block runs, unless the environment says how threads wait."""
        if {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
            yield
            return
        self._begin()
        try:
            yield
        finally:
            with self._lock:
                self._passes -= 1
                if not self._passes:
                    self._running.clear()

    def _begin(self) -> None:
        with self._lock:
            self._passes += 1
            self._running.set()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._look_on, name="submillion-watch", daemon=True)
                self._thread.start()

    def _look_on(self) -> None:
        """Checks, while passes run, whether the cores are crowded, and if so holds an idle team for a while."""
        while self._running.wait():
            waited, start = _seconds_waited(), time.perf_counter()
            time.sleep(LOOK_SECONDS)
            if _seconds_waited() - waited > CROWDED * (time.perf_counter() - start):
                holder = threading.Thread(target=_hold_a_team, name="submillion-idle-team", daemon=True)
                holder.start()
                holder.join()


def _seconds_waited() -> float:
    """Returns how long the threads of this process have waited for a core while they had work; 0 if it is not known."""
    nanoseconds = 0
    for task in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError, ValueError, IndexError):  # a thread that has ended since
            nanoseconds += int(task.read_text("utf-8").split()[1])
    return nanoseconds / 1e9


def _hold_a_team() -> None:
    """Makes a team with more threads than there are cores, and keeps it idle for HOLD_SECONDS."""
    import torch

    torch.get_num_threads()  # sets itself up in this thread, which would undo the next line
    threads = (os.cpu_count() or 1) + 1
    with _openmp().limit(limits=threads):
        torch.ones(threads * 32768, dtype=torch.float32, device="cpu").neg_()  # torch gives a thread 32,768 numbers
        time.sleep(HOLD_SECONDS)


_watch = _Watch()
