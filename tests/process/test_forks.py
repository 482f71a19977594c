"""A fork waits for what other threads compute, and no thread waits for another without end."""

import os
import threading
from collections.abc import Callable, Iterator

import pytest

from submillion.process import forks
from submillion.process.forks import _Gate

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
SECONDS = 20.0


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Gate]:
    """One that no fork of this process knows: the tests call what a fork would."""
    monkeypatch.setattr(forks, "WAIT_SECONDS", SECONDS)
    yield _Gate()


def started(job: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=job)
    thread.start()
    return thread


def wait_until(condition: Callable[[], object]) -> None:
    for _ in range(int(SECONDS * 1000)):
        if condition():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it did not come true")


def test_a_fork_waits_for_a_piece_of_another_thread(gate: _Gate) -> None:
    within, leave, order = threading.Event(), threading.Event(), []

    def works() -> None:
        with gate.piece():
            within.set()
            assert leave.wait(SECONDS)
            order.append("piece")

    def forks_now() -> None:
        gate.before_fork()
        order.append("fork")
        gate.after_in_parent()

    worker = started(works)
    assert within.wait(SECONDS)
    forker = started(forks_now)
    wait_until(lambda: gate._forking)
    assert order == []
    leave.set()
    for thread in (worker, forker):
        thread.join(SECONDS)
    assert order == ["piece", "fork"]


def test_no_piece_begins_while_a_fork_waits_but_one_within_another(gate: _Gate) -> None:
    within, order = threading.Event(), []

    def works() -> None:
        with gate.piece():
            within.set()
            wait_until(lambda: gate._forking)
            with gate.piece():
                order.append("inner piece")

    def comes_late() -> None:
        with gate.piece():
            order.append("late piece")

    worker = started(works)
    assert within.wait(SECONDS)
    threads = [worker]

    gate_open = threading.Event()

    def forks_now() -> None:
        gate.before_fork()
        threads.append(started(comes_late))
        order.append("fork")
        gate_open.set()
        gate.after_in_parent()

    forker = started(forks_now)
    assert gate_open.wait(SECONDS)
    for thread in (*threads, forker):
        thread.join(SECONDS)
    assert order == ["inner piece", "fork", "late piece"] and not gate._pieces


def test_a_thread_that_forks_within_its_own_piece_does_not_wait_for_itself(gate: _Gate) -> None:
    with gate.piece():
        gate.before_fork()
        gate.after_in_parent()
    assert not gate._pieces


def test_a_fork_does_not_wait_for_ever(gate: _Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "WAIT_SECONDS", 0.01)
    within, leave = threading.Event(), threading.Event()

    def works() -> None:
        with gate.piece():
            within.set()
            leave.wait(SECONDS)

    worker = started(works)
    assert within.wait(SECONDS)
    gate.before_fork()
    gate.after_in_parent()
    leave.set()
    worker.join(SECONDS)


def test_a_child_begins_anew(gate: _Gate) -> None:
    """Whatever another thread of the parent was within, and in the piece that the forking thread was in."""
    gate._pieces[-1] = 1  # of a thread that is not in the child
    with gate.piece():
        gate._condition.acquire()
        gate._forking += 1
        gate.after_in_child()
        with gate.piece():
            assert gate._pieces.keys() == {threading.get_ident()}
    assert not gate._pieces and not gate._forking
