"""Compiles and loads kernels.c: what a CPU computes between the matrix products, and those that are in int8.

The machine's own C compiler makes the two libraries once, in half a second each, for the processor it has; they stay in
the user's cache. Where there is no compiler, torch's operations compute the same (attention.py, functional.py), in
bf16 at about three quarters of the training speed (docs/log.md), and nothing in int8; without AVX-512 too, where they
are faster than vectors of sixteen numbers that have to be taken apart.
The C code shares torch's pool of OpenMP threads, so neither waits for the other's.
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

SOURCE = Path(__file__).with_suffix(".c")
LANES = 16  # sizes that are vectorised over are multiples of this
_FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")
_DEFINES: dict[torch.dtype, tuple[str, ...]] = {torch.bfloat16: ("-DBF16",), torch.float32: ()}
_OFF = "SUBMILLION_KERNELS"


class Drop(ctypes.Structure):
    """What the C code drops: an element is kept where a hash of the key and its number is below the threshold."""

    _fields_ = (
        ("key", ctypes.c_uint32 * 2),
        ("threshold", ctypes.c_uint32),
        ("scale", ctypes.c_float),
    )

    @classmethod
    def at(cls, rate: float, key: int) -> "Drop":
        """rate from 0 (nothing is dropped) up to, not including, 1; key: 64 bits."""
        kept = min(2**32 - 1, round(2**32 * (1 - rate))) if rate else 0
        return cls((key & 0xFFFFFFFF, key >> 32), kept, 1 / (1 - rate))


class Shape(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in ("batch", "queries", "length", "heads", "size", "q_row", "k_row", "v_row", "bias_head")
    )


class Built(NamedTuple):
    """The libraries by the type they compute in; none where there is a reason not to have them."""

    libraries: dict[torch.dtype, ctypes.CDLL]
    reason: str  # for the run's printout


@functools.cache
def built() -> Built:
    """Compiles the libraries, or finds them compiled by an earlier process, and loads them."""
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
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        shown = next((line for line in said if "error" in line), said[0] if said else "")
        return Built({}, f"torch's own, slower: {compiler} or the loader failed: {shown}")
    return Built(libraries, f"compiled for this processor by {compiler}")


def serve(x: Tensor, *sizes: int) -> bool:
    """Whether the kernels compute on tensors like x with these vectorised sizes."""
    return x.device.type == "cpu" and not any(size % LANES for size in sizes) and x.dtype in built().libraries


def multiplies_int8() -> bool:
    """Whether `linear_int8` is there: where the processor multiplies bytes at twice bf16's rate."""
    return hasattr(built().libraries.get(torch.bfloat16), "linear_int8")


def _library(compiler: str, defines: Sequence[str], folder: Path) -> ctypes.CDLL:
    """The library, from the folder if it is there whole, else compiled.

    Its file's name says what it was made from, so that another processor or compiler makes its own.
    """
    command = [compiler, *_FLAGS, *defines, str(SOURCE)]
    at = Path(compiler).stat()  # another version of it under the same name
    made_from = [*command[:-1], f"{at.st_size} {at.st_mtime_ns}", SOURCE.read_text("utf-8"), _processor()]
    made_from += map(str, _torch_openmp())
    name = f"kernels-{hashlib.sha256(chr(0).join(made_from).encode()).hexdigest()[:24]}.so"
    path = folder / name
    with suppress(OSError):  # not there, or cut short by a full disk or a crash
        return ctypes.CDLL(str(path))
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        new = Path(temporary) / name
        # torch's copy of the OpenMP library first: with one of its own, the C code would have threads of its own.
        arguments = [*command, *map(str, _torch_openmp()), "-lm", "-o", str(new)]
        subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=120)
        new.replace(path)
    return ctypes.CDLL(str(path))


@contextmanager
def _cache_folder() -> Iterator[Path]:
    """$XDG_CACHE_HOME or ~/.cache; where neither can be written to, a folder of this process, gone afterwards.

    Never one in /tmp that outlives it: another user could have put a library there first.
    """
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "submillion"
        home.mkdir(parents=True, exist_ok=True)
        kept = os.access(home, os.W_OK)
    except (OSError, RuntimeError):  # RuntimeError: this user has no home
        kept = False
    if kept:
        yield home
        return
    with tempfile.TemporaryDirectory(prefix="submillion-") as folder:
        yield Path(folder)


def _torch_openmp() -> list[Path]:
    return sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))


def _processor() -> str:
    """What -march=native depends on."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines() if Path("/proc/cpuinfo").is_file() else []
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


# The calls. Tensors are contiguous where nothing else is said; each function is described where it is used.


def _call(name: str, dtype: torch.dtype, *arguments: Tensor | ctypes.Structure | int | float | None) -> None:
    getattr(built().libraries[dtype], name)(*map(_converted, arguments))


def _converted(argument: Tensor | ctypes.Structure | int | float | None) -> object:
    match argument:
        case Tensor():
            return ctypes.c_void_p(argument.data_ptr())
        case ctypes.Structure():
            return ctypes.byref(argument)
        case float():
            return ctypes.c_float(argument)
        case None:
            return None
    return ctypes.c_int64(argument)


def gelu(x: Tensor, slope: bool) -> Tensor:
    """gelu(x); with slope, x holds gelu'(x) afterwards."""
    y = torch.empty_like(x)
    _call("gelu", x.dtype, x, y, x.numel(), int(slope))
    return y


def multiply_(x: Tensor, y: Tensor) -> Tensor:
    """x *= y."""
    _call("multiply", x.dtype, x, y, x, x.numel())
    return x


def pack_int8(weight: Tensor, panel: int, transpose: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Of a weight [rows, columns] or its transpose: what `linear_int8` takes for values, scale and total."""
    values = torch.empty_like(weight, dtype=torch.int8)
    scale, total = torch.empty(2, weight.shape[1 if transpose else 0])
    name = "pack_int8_turned" if transpose else "pack_int8"
    _call(name, weight.dtype, weight, values, scale, total, *weight.shape, panel)
    return values, scale, total


def linear_int8(
    x: Tensor, weight: Tensor, scale: Tensor, total: Tensor, bias: Tensor, panel: int, then_gelu: bool
) -> Tensor:
    """x weight^T + bias, [..., in] -> [..., out] in x's dtype, or its GELU: weight int8 in panels, the rest [out]."""
    x = x.contiguous()
    y = x.new_empty(*x.shape[:-1], len(scale))
    sizes = (x.numel() // x.shape[-1], x.shape[-1], len(scale), panel, int(then_gelu))
    _call("linear_int8", x.dtype, x, weight, scale, total, bias, y, *sizes)
    return y


def add_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, drop: Drop, keep_total: bool
) -> tuple[Tensor, Tensor | None, Tensor]:
    """y, the sum that was normalised (where it is wanted), and its mean and inverse deviation, fp32 [2, rows]."""
    rows, size = x.numel() // x.shape[-1], x.shape[-1]
    y, total = torch.empty_like(x), torch.empty_like(x) if keep_total else None
    norms = torch.empty(2, rows)
    _call("add_norm", x.dtype, x, residual, weight, bias, eps, drop, total, y, norms[0], norms[1], rows, size)
    return y, total, norms


def add_norm_backward(grad: Tensor, total: Tensor, weight: Tensor, norms: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
    """The gradients of x and of the residual; the same tensor where nothing is dropped."""
    rows, size = total.numel() // total.shape[-1], total.shape[-1]
    grad_total = torch.empty_like(total)
    grad_x = torch.empty_like(total) if drop.threshold else grad_total
    _call(
        "add_norm_backward", total.dtype, grad, total, weight, norms[0], norms[1], drop, grad_total, grad_x, rows, size
    )
    return grad_x, grad_total


def attention(
    inputs: Sequence[Tensor], num_heads: int, bias: Tensor | None, lengths: Tensor, starts: Tensor | None, drop: Drop
) -> tuple[Tensor, Tensor]:
    """Context, of the query's shape, and what the backward pass needs, fp32 [2, batch, heads, queries].

    inputs: query [batch, queries, hidden], key and value [batch, length, hidden], parts of wider contiguous tensors do;
    with starts, int64 [batch + 1], packed: [tokens, hidden], where row b's tokens lie from starts[b] on, or of the
    query [batch, hidden], one of each row. bias: fp32, contiguous, [1, heads or 1, queries, length].
    """
    rows = _rows(inputs, num_heads, bias, lengths, starts)
    out = inputs[0].new_empty(inputs[0].shape)
    norms = torch.empty(2, rows.shape.batch, rows.shape.heads, rows.shape.queries)
    _call("attention", out.dtype, *inputs, bias, lengths, *rows.starts, drop, out, norms, rows.shape)
    return out, norms


def attention_backward(
    grad: Tensor,
    inputs: Sequence[Tensor],
    grads: Sequence[Tensor],
    num_heads: int,
    bias: Tensor | None,
    lengths: Tensor,
    starts: Tensor | None,
    drop: Drop,
    norms: Tensor,
) -> None:
    """Writes the gradients of query, key and value into `grads`, which lie in memory as `inputs` do."""
    rows = _rows(inputs, num_heads, bias, lengths, starts)
    _call("attention_backward", grad.dtype, grad, *inputs, bias, lengths, *rows.starts, drop, norms, *grads, rows.shape)


class _Rows(NamedTuple):
    """Where attention's rows lie."""

    starts: tuple[Tensor, Tensor]  # int64 [batch + 1]: the first token of each row's queries, and of its keys
    shape: Shape


def _rows(
    inputs: Sequence[Tensor], num_heads: int, bias: Tensor | None, lengths: Tensor, starts: Tensor | None
) -> _Rows:
    query, key, _ = inputs
    batch, hidden = len(lengths), query.shape[-1]
    strides = [tensor.view(-1, hidden).stride(0) for tensor in inputs]
    if starts is None:
        queries, length = query.shape[1], key.shape[1]
        k_starts, q_starts = (torch.arange(batch + 1) * size for size in (length, queries))
    else:
        length = bias.shape[-1] if bias is not None else int(lengths.max())
        one_each = len(query) != len(key)
        queries = 1 if one_each else length
        k_starts, q_starts = starts, torch.arange(batch + 1) if one_each else starts
    bias_head = queries * length if bias is not None and bias.shape[1] > 1 else 0
    shape = Shape(batch, queries, length, num_heads, hidden // num_heads, *strides, bias_head)
    return _Rows((q_starts, k_starts), shape)


def merge(weight: Tensor, lora_A: Tensor, lora_B: Tensor, scaling: float, out: Tensor) -> None:
    """out = weight + scaling * lora_B lora_A: weight fp32 [rows, in], out [rows, in] in its own dtype."""
    _call("merge", out.dtype, weight, lora_A, lora_B, scaling, out, *weight.shape, len(lora_A))


def adapter_gradients(x: Tensor, grad: Tensor, lora_A: Tensor, lora_B: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    """Gradients of lora_A and lora_B, fp32. x [tokens, in]; grad [tokens, out], columns of a wider tensor do."""
    grad = grad if grad.stride(1) == 1 else grad.contiguous()
    lora_Bt = lora_B.t().contiguous()
    grad_A, grad_Bt = torch.empty_like(lora_A), torch.empty_like(lora_Bt)
    sizes = (len(x), x.shape[1], grad.shape[1], len(lora_A))
    _call("adapter_gradients", x.dtype, x, grad, grad.stride(0), lora_A, lora_Bt, scaling, grad_A, grad_Bt, *sizes)
    return grad_A, grad_Bt.t()
