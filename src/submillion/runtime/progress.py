"""Shows the progress of long work on standard error: a live bar on a terminal, elsewhere a plain line at intervals."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

_QUIET_SECONDS = 2.0  # work that ends sooner shows nothing
_BAR_SECONDS = 0.1  # between two states of the bar
_LINE_SECONDS = 10.0  # between plain lines
_quiet: ContextVar[bool] = ContextVar("quiet", default=False)  # a thread's own: others go on showing


class Advance(Protocol):
    def __call__(self, rows: int, note: Callable[[], str] = str) -> None: ...


@contextmanager
def quiet() -> Iterator[None]:
    """Runs a block in which training shows and prints nothing."""
    before = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(before)


def is_quiet() -> bool:
    return _quiet.get()


@contextmanager
def progress(title: str, total_rows: int, shown: bool = True) -> Iterator[Advance]:
    """Yields advance(rows, note), to be called as rows are done.

    What `note` returns is shown beside the bar, such as "loss 0.412". It is called only when something is shown: on a
    GPU its answer waits for everything that is queued. shown: False in all but the first of several processes.
    """
    if not shown or is_quiet():
        yield lambda rows, note=str: None
    elif sys.stderr.isatty():
        with _bar(title, total_rows) as advance:
            yield advance
    else:
        yield _plain_lines(title, total_rows)


@contextmanager
def _bar(title: str, total_rows: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed:>7,} / {task.total:,} rows"),
        TextColumn("{task.fields[rate]:>6.0f} rows/s"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
    )
    start = time.perf_counter()
    bar = Progress(*columns, console=Console(stderr=True))
    task = bar.add_task(title, total=total_rows, rate=0.0, note="")
    done, last = 0, start

    def advance(rows: int, note: Callable[[], str] = str) -> None:
        nonlocal done, last
        done += rows
        now = time.perf_counter()
        if now - last < _BAR_SECONDS and done < total_rows:
            return
        last = now
        if now - start >= _QUIET_SECONDS and not bar.live.is_started:
            bar.start()
        bar.update(task, completed=done, rate=done / max(now - start, 1e-9), note=note())

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()


def _plain_lines(title: str, total_rows: int) -> Advance:
    start = last = time.perf_counter()
    done = 0

    def advance(rows: int, note: Callable[[], str] = str) -> None:
        nonlocal last, done
        done += rows
        now = time.perf_counter()
        if now - last < _LINE_SECONDS:
            return
        last = now
        rate = done / (now - start)
        left = (total_rows - done) / rate if rate else 0.0
        print(
            f"{title}: {done:,} / {total_rows:,} rows, {rate:.0f} rows/s, {_duration(left)} left"
            + (f", {shown}" if (shown := note()) else ""),
            file=sys.stderr,
            flush=True,
        )

    return advance


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"
