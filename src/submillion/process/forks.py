"""Forks: a child process must be able to compute, whatever the threads of its parent were doing when it was made.

A child has one thread alone, the one that forked, and a copy of every lock. A lock of torch's libraries that another
thread holds at that moment is never unlocked in the child, which waits for it for ever.
"""

import functools
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

WAIT_SECONDS = 30.0  # that a fork waits for other threads at most


class _Gate:
    """Lets threads compute piece by piece, and has a fork wait until no other thread is within a piece."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._pieces: Counter[int] = Counter()  # how many each thread is within, by the thread's identity
        self._forking = 0

    @contextmanager
    def piece(self) -> Iterator[None]:
        thread = threading.get_ident()
        with self._condition:
            # A thread that is within a piece already must continue, or a fork would wait for it in vain.
            self._condition.wait_for(lambda: not self._forking or self._pieces[thread])
            self._pieces[thread] += 1
        try:
            yield
        finally:
            with self._condition:
                self._pieces[thread] -= 1
                if not self._pieces[thread]:
                    del self._pieces[thread]
                self._condition.notify_all()

    def before_fork(self) -> None:
        """Waits for the other threads, and lets none begin a piece until `after_in_parent`."""
        thread = threading.get_ident()
        self._condition.acquire()
        self._forking += 1
        self._condition.wait_for(lambda: not self._pieces.keys() - {thread}, timeout=WAIT_SECONDS)

    def after_in_parent(self) -> None:
        self._forking -= 1
        self._condition.notify_all()
        self._condition.release()

    def after_in_child(self) -> None:
        """Resets the gate in a child process, for the one thread that it has."""
        thread = threading.get_ident()
        pieces = self._pieces[thread]
        self.__init__()  # type: ignore[misc]
        if pieces:
            self._pieces[thread] = pieces


_gate = _Gate()
piece_of_work = _gate.piece


@functools.cache
def make_forks_safe() -> None:
    """Makes forks wait, from here on, for other threads' pieces of work, and makes children compute in one thread."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_gate.before_fork, after_in_parent=_gate.after_in_parent, after_in_child=_begin_anew)


def _begin_anew() -> None:
    """Sets a child process to one thread: OpenMP's threads do not survive a fork, and work for them would never end."""
    import torch

    _gate.after_in_child()
    torch.set_num_threads(1)
