"""Several processes for one run: each takes its share of every batch, and their sums are one process's.

`torchrun --nproc-per-node N train.py` starts the processes; gloo connects them on CPUs, NCCL on GPUs. Without torchrun
there is one process, ALONE, for which everything here does nothing.
"""

import atexit
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

from submillion.errors import ConfigError, DistributedError

# A process that dies closes its connections and ends the others at once; this is for one that hangs or is cut off. All
# of them load the same files and compute like shares between two sums, so they are never minutes apart in a sound run.
PATIENCE = timedelta(minutes=10)
# The latest sum is kept until the next one, even if it fails. Whoever drops the last reference frees its tensors, which
# takes Python's lock: a gloo thread that asks for the lock while the interpreter ends aborts the process.
_latest: list[dist.Work] = []
_VARIABLES = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # torchrun sets them beside WORLD_SIZE


@dataclass(frozen=True)
class World:
    """The processes of a run, and which of them this one is."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))  # what the backend can add on

    @property
    def is_first(self) -> bool:
        """Returns whether this is the process that prints and writes files."""
        return self.rank == 0

    def share(self, rows: np.ndarray) -> np.ndarray:
        """Returns this process's rows of a batch, int64 [about rows / size].

        There may be none, if the batch has fewer rows than there are processes.
        """
        return rows[self.rank :: self.size]

    def sum_(self, tensor: Tensor) -> Tensor:
        """Adds up the tensor over the processes, in place, and returns it. Every process gets the same bits.

        The tensor must have the same shape and dtype in all of them. Raises DistributedError if a process is gone.
        """
        if self.size == 1:
            return tensor
        moved = tensor.to(self.device)
        try:
            work = dist.all_reduce(moved, async_op=True)
            _latest[:] = [work]
            work.wait()
        except RuntimeError as error:
            raise DistributedError(_gone(error)) from None
        return tensor if moved is tensor else tensor.copy_(moved)

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Adds up the gradients over the processes, as one tensor: they are few and each sum has a fixed cost.

        A process whose share of the batch was empty has no gradient, and adds zeros.
        """
        if self.size == 1:
            return
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
        parts = self.sum_(flat).split([p.numel() for p in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def gather_rows(self, values: np.ndarray) -> np.ndarray:
        """Completes an array, fp32 [rows, columns], in place and returns it: one process each has filled a row.

        The other processes have left that row 0. A sum with zeros keeps every value exactly. Raises what `sum_` raises.
        """
        self.sum_(torch.from_numpy(values))
        return values

    def from_first(self, tensor: Tensor) -> Tensor:
        """Copies the first process's tensor to all processes, in place, and returns it.

        It must have the same shape and dtype in all of them. Raises what `sum_` raises.
        """
        return self.sum_(tensor if self.is_first else tensor.zero_())

    def all(self, flag: bool) -> bool:
        """Returns whether the flag is set in every process."""
        return int(self.sum_(torch.tensor([int(flag)])).item()) == self.size

    def check_same(self, *arrays: np.ndarray) -> None:
        """Raises DistributedError if the processes do not hold the same arrays."""
        if self.size == 1:
            return
        checksum = 0
        for array in arrays:
            checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
        found = torch.zeros(self.size, dtype=torch.int64)
        found[self.rank] = checksum
        if len(set(self.sum_(found).tolist())) > 1:
            raise DistributedError(
                "the processes of this run do not start from the same rows and parameters\n"
                "fix: the same data, base model and versions on every machine"
            )

    def wait(self) -> None:
        """Returns once every process has called this, so that all can read what the first one has written."""
        self.sum_(torch.zeros(1, dtype=torch.float32))


ALONE = World()


@contextmanager
def join() -> Iterator[World]:
    """Joins the processes that torchrun has started and yields their World; yields ALONE without torchrun.

    If there is a process group already, of another join or of the caller, that one is used. Within the block, "cuda" is
    this process's own GPU, and torch's threads are its share of the cores unless OMP_NUM_THREADS sets their number.
    Raises ConfigError for an environment that torchrun does not make, and DistributedError if the processes do not find
    each other.
    """
    size = _whole_number("WORLD_SIZE", 1)
    if size == 1:
        yield ALONE
        return
    device = _own_device()
    if dist.is_initialized():
        yield World(dist.get_rank(), dist.get_world_size(), device)
        return
    threads = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, threads // _whole_number("LOCAL_WORLD_SIZE", size)))
    try:
        if device.type == "cuda":
            torch.cuda.set_device(device)
            dist.init_process_group("nccl", timeout=PATIENCE, device_id=device)
        else:
            dist.init_process_group("gloo", timeout=PATIENCE)
    except RuntimeError as error:
        raise DistributedError(_gone(error)) from None
    # Left open until the process ends, for a second run in it: processes that close and reopen one wait for ever.
    atexit.register(dist.destroy_process_group)
    try:
        yield World(dist.get_rank(), size, device)
    except BaseException:
        # The others may be in the middle of a sum, and NCCL would wait for them: let the end of the process close it.
        # gloo does not wait. If the ending interpreter closed it instead, its threads could abort the process.
        if device.type == "cuda":
            atexit.unregister(dist.destroy_process_group)
        raise
    finally:
        torch.set_num_threads(threads)


def _own_device() -> torch.device:
    missing = [name for name in _VARIABLES if name not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(missing)} is not set\n"
            "fix: start with torchrun, or unset WORLD_SIZE for one process"
        )
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local_rank, gpus = _whole_number("LOCAL_RANK", 0), torch.cuda.device_count()
    if local_rank >= gpus:
        raise ConfigError(
            f"process {local_rank} of this machine has no GPU: it has {gpus}\nfix: --nproc-per-node {gpus}"
        )
    return torch.device("cuda", local_rank)


def _whole_number(name: str, default: int) -> int:
    value = os.environ.get(name) or str(default)
    if not value.isdecimal():
        raise ConfigError(f"the environment variable {name} is {value!r}, expected a whole number")
    return int(value)


def _gone(error: RuntimeError) -> str:
    reason = str(error).strip().split("\n")[0]
    return f"another process of this run has ended or does not answer; its own error says why\nfound: {reason}"
