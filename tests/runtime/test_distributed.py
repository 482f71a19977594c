"""Two processes over gloo: they train as one does, agree on everything, and end together."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from one_process import CASES, trained

from submillion.errors import ConfigError
from submillion.runtime.distributed import ALONE, World, join
from submillion.training.dropout import Dropout

TESTS = Path(__file__).resolve().parents[1]
SECONDS = 90  # to start two processes on a busy machine, far less than the 10 minutes a hang would take


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def two_processes(case: str, folder: Path) -> list[tuple[int, str]]:
    """Exit code and stderr of each; nothing but themselves ends them, unlike under torchrun."""
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    argv = [sys.executable, str(Path(__file__).with_name("one_process.py")), case, str(folder)]
    processes = []
    for rank in ("0", "1"):
        environment = os.environ | common | {"RANK": rank, "LOCAL_RANK": rank, "PYTHONPATH": path}
        processes.append(subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True))
    try:
        errors = [process.communicate(timeout=SECONDS)[1] for process in processes]
        return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def shared_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared_work")
    ended = two_processes("train", folder)
    assert [code for code, _ in ended] == [0, 0], "\n".join(error for _, error in ended)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one_does(case: str, shared_work: Path) -> None:
    alone = trained(case)
    for rank in range(2):
        with np.load(shared_work / f"{case}-{rank}.npz") as found:
            assert set(found) == set(alone)
            for name, expected in alone.items():
                np.testing.assert_allclose(found[name], expected, atol=1e-5, rtol=1e-5, err_msg=f"{rank} {name}")


@pytest.mark.parametrize("case", CASES)
def test_both_processes_end_with_the_same_bits(case: str, shared_work: Path) -> None:
    with np.load(shared_work / f"{case}-0.npz") as first, np.load(shared_work / f"{case}-1.npz") as second:
        assert [name for name in first if not np.array_equal(first[name], second[name])] == []


def test_a_loss_that_is_not_finite_on_one_ends_both(tmp_path: Path) -> None:
    ended = two_processes("not finite", tmp_path)
    assert [code for code, _ in ended] == [2, 2]
    errors = sorted(error[error.index("error:") :] for _, error in ended)
    assert errors[0].startswith("error: another process of this run has ended")
    assert "training rows [3]" in errors[1]
    assert not any("Traceback" in error for _, error in ended)


def test_a_process_that_is_killed_ends_the_other_within_seconds(tmp_path: Path) -> None:
    start = time.monotonic()
    (code, error), (killed, _) = two_processes("killed", tmp_path)
    assert time.monotonic() - start < SECONDS
    assert killed == -9 and code == 2 and "another process of this run has ended" in error
    assert "Traceback" not in error


def test_processes_with_different_rows_are_refused(tmp_path: Path) -> None:
    ended = two_processes("other data", tmp_path)
    assert [code for code, _ in ended] == [2, 2]
    assert any("do not start from the same rows" in error for _, error in ended)


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 7])
def test_the_shares_are_every_row_once(rows: int) -> None:
    shares = [World(rank, 3).share(np.arange(rows)) for rank in range(3)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with join() as world:
        assert world is ALONE and world.is_first and not torch.distributed.is_initialized()


@pytest.mark.parametrize(("size", "message"), [("2", "RANK"), ("two", "whole number")])
def test_half_an_environment_is_an_error(size: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(ConfigError, match=message), join():
        pass


def test_each_process_has_masks_of_its_own() -> None:
    masks = [Dropout(0, rank)((64,), 0.5, torch.ones(1)) for rank in (0, 1)]
    alone = Dropout(0)((64,), 0.5, torch.ones(1))
    assert torch.equal(masks[0], alone) and not torch.equal(masks[1], alone)  # type: ignore[arg-type]
