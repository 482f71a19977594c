"""Compiles kernels.c with the machine's own C compiler, keeps the libraries in the user's cache, and loads them.

Each of the two libraries takes half a second to compile, once for each processor and compiler. Without a compiler or
without AVX-512, torch's operations compute the same (attention.py, functional.py), but nothing in int8. Without a
compiler, training in bf16 has about three quarters of the speed (docs/log.md). Without AVX-512, torch's operations are
faster than vectors of sixteen numbers that have to be taken apart.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("kernels.c")
LANES = 16  # vectorised sizes are multiples of this
_FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")
_DEFINES: dict[torch.dtype, tuple[str, ...]] = {torch.bfloat16: ("-DBF16",), torch.float32: ()}
_OFF = "SUBMILLION_KERNELS"


class Built(NamedTuple):
    """The loaded libraries, by the dtype they compute in; none if this machine cannot run them."""

    libraries: dict[torch.dtype, ctypes.CDLL]
    reason: str  # why there are libraries or none, for the run's printout


@functools.cache
def built() -> Built:
    """Loads the libraries, and compiles those that are not in the cache.

    If a machine cannot compile or run them, that is not an error: the reason is in the result.
    """
    if os.environ.get(_OFF) == "off":
        return Built({}, f"torch's own: {_OFF}=off")
    if platform.system() != "Linux":
        return Built({}, f"torch's own: the compiled ones are for Linux so far, this is {platform.system()}")
    capability = torch.backends.cpu.get_cpu_capability()
    if not capability.startswith("AVX512"):
        return Built({}, f"torch's own: the compiled ones want AVX-512, this processor has {capability}")
    compiler = shutil.which(os.environ.get("CC", "")) or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return Built({}, "torch's own, slower: no C compiler (cc, gcc or $CC) was found")
    try:
        with _cache_folder() as folder:
            libraries = {dtype: _library(compiler, defines, folder) for dtype, defines in _DEFINES.items()}
    except (OSError, subprocess.SubprocessError) as error:
        lines = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        error_line = next((line for line in lines if "error" in line), lines[0] if lines else "")
        return Built({}, f"torch's own, slower: {compiler} or the loader failed: {error_line}")
    return Built(libraries, f"compiled for this processor by {compiler}")


def serve(x: Tensor, *sizes: int) -> bool:
    """Returns whether the kernels can compute on tensors with x's device and dtype and these vectorised sizes.

    In an export they never do: a graph holds torch's own operations.
    """
    if torch.compiler.is_exporting():
        return False
    return x.device.type == "cpu" and not any(size % LANES for size in sizes) and x.dtype in built().libraries


def multiplies_int8() -> bool:
    """Returns whether the bf16 library has `linear_int8`: it does if the CPU multiplies bytes at twice bf16's rate."""
    return hasattr(built().libraries.get(torch.bfloat16), "linear_int8")


def _library(compiler: str, defines: Sequence[str], folder: Path) -> ctypes.CDLL:
    """Loads the library from the folder; compiles it into the folder first if it is not there or not whole.

    The file's name is a hash of all that the library depends on, so several machines can share a cache. Raises OSError
    or subprocess.SubprocessError if the compiler or the loader fails.
    """
    openmp = list(map(str, _torch_openmp()))
    command = [compiler, *_FLAGS, *defines]
    compiler_file = Path(compiler).stat()  # tells another version of the compiler under the same name
    version = f"{compiler_file.st_size} {compiler_file.st_mtime_ns}"
    made_from = chr(0).join([*command, version, SOURCE.read_text("utf-8"), _processor(), *openmp])
    name = f"kernels-{hashlib.sha256(made_from.encode()).hexdigest()[:24]}.so"
    path = folder / name
    with suppress(OSError):  # not there, or cut short by a full disk or a crash
        return ctypes.CDLL(str(path))
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        new = Path(temporary) / name
        # torch's copy of the OpenMP library comes first: with another copy, the C code would start a second pool of
        # threads, and each pool would wait for the other's threads, which spin before they sleep.
        arguments = [*command, str(SOURCE), *openmp, "-lm", "-o", str(new)]
        subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=120)
        new.replace(path)  # in one step, so that no other process loads half a library
    return ctypes.CDLL(str(path))


@contextmanager
def _cache_folder() -> Iterator[Path]:
    """Yields a folder in $XDG_CACHE_HOME or ~/.cache, or a temporary one if that cannot be written to.

    The temporary folder is new and is deleted afterwards: if its name under /tmp were fixed, another user could put a
    library there first.
    """
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "submillion"
        home.mkdir(parents=True, exist_ok=True)
        writable = os.access(home, os.W_OK)
    except (OSError, RuntimeError):  # RuntimeError: this user has no home
        writable = False
    if writable:
        yield home
        return
    with tempfile.TemporaryDirectory(prefix="submillion-") as folder:
        yield Path(folder)


def _torch_openmp() -> list[Path]:
    """Returns the path of torch's own copy of GNU's OpenMP library, if it has one."""
    return sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))


def _processor() -> str:
    """Returns the lines of /proc/cpuinfo that -march=native depends on."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines() if Path("/proc/cpuinfo").is_file() else []
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
