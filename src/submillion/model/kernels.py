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


# The calls. The C code trusts its arguments, so each is checked first: memory of another type or size than it expects
# would be written over without a word. No scratch tensor takes torch's default dtype, which any thread of the process
# may change at any time.


def _address(name: str, tensor: Tensor, dtype: torch.dtype, *sizes: int) -> ctypes.c_void_p:
    """Returns where a contiguous CPU tensor of this dtype and these sizes lies; raises ValueError for any other."""
    if tensor.dtype is not dtype or tensor.shape != sizes or not tensor.is_cpu or not tensor.is_contiguous():
        raise ValueError(
            f"{name}: expected a contiguous {dtype} tensor {list(sizes)} on the CPU, "
            f"found {tensor.dtype} {list(tensor.shape)}, strides {tensor.stride()}, on {tensor.device}"
        )
    return ctypes.c_void_p(tensor.data_ptr())


def _vectors(name: str, *sizes: int) -> None:
    """Raises ValueError for a size that does not fill whole vectors."""
    if any(size % LANES for size in sizes):
        raise ValueError(f"{name}: expected sizes that are multiples of {LANES}, found {list(sizes)}")


def _call(name: str, dtype: torch.dtype, *arguments: object) -> None:
    """Calls a function of the library that computes in `dtype`: ints become int64, floats float."""
    library = built().libraries.get(dtype)
    if library is None:
        raise ValueError(f"{name}: expected {' or '.join(map(str, built().libraries)) or 'kernels'}, found {dtype}")
    getattr(library, name)(*map(_converted, arguments))


def _converted(argument: object) -> object:
    match argument:
        case ctypes.Structure():
            return ctypes.byref(argument)
        case float():
            return ctypes.c_float(argument)
        case int():
            return ctypes.c_int64(argument)
    return argument  # an address, or None


def gelu(x: Tensor, slope: bool) -> Tensor:
    """Returns gelu(x) for x [...]; with slope, x holds gelu'(x) afterwards."""
    _vectors("gelu", x.numel())
    y = torch.empty_like(x)
    _call("gelu", x.dtype, _address("x", x, x.dtype, *x.shape), _address("y", y, x.dtype, *x.shape), x.numel(), slope)
    return y


def multiply_(x: Tensor, y: Tensor) -> Tensor:
    """Multiplies x by y in place; both have the same sizes and dtype."""
    _vectors("multiply", x.numel())
    product = _address("x", x, x.dtype, *x.shape)
    _call("multiply", x.dtype, product, _address("y", y, x.dtype, *x.shape), product, x.numel())
    return x


def pack_int8(weight: Tensor, panel: int, transpose: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Returns what `linear_int8` takes as values, scale and total: of weight [rows, columns], or of its transpose."""
    rows, columns = weight.shape
    outputs = columns if transpose else rows
    _vectors("pack_int8", rows, columns, panel)
    if outputs % panel:
        raise ValueError(f"pack_int8: expected a panel that divides {outputs} outputs, found {panel}")
    values = torch.empty(weight.shape, dtype=torch.int8, device="cpu")
    scale, total = torch.empty(2, outputs, dtype=torch.float32, device="cpu")
    _call(
        "pack_int8_turned" if transpose else "pack_int8",
        weight.dtype,
        _address("weight", weight, torch.bfloat16, rows, columns),
        _address("values", values, torch.int8, rows, columns),
        _address("scale", scale, torch.float32, outputs),
        _address("total", total, torch.float32, outputs),
        rows,
        columns,
        panel,
    )
    return values, scale, total


def linear_int8(
    x: Tensor, weight: Tensor, scale: Tensor, total: Tensor, bias: Tensor, panel: int, then_gelu: bool
) -> Tensor:
    """Returns x weight^T + bias, or its GELU: x [..., in] -> [..., out] in x's dtype.

    weight: int8 in panels, as many numbers as [out, in]; scale, total, bias: fp32 [out].
    """
    x = x.contiguous()
    size, outputs = x.shape[-1], len(scale)
    _vectors("linear_int8", size, outputs, panel)
    if weight.numel() != size * outputs or outputs % panel:
        raise ValueError(f"linear_int8: expected {size} x {outputs} bytes in panels of {panel}, found {weight.numel()}")
    y = torch.empty(*x.shape[:-1], outputs, dtype=x.dtype, device="cpu")
    _call(
        "linear_int8",
        x.dtype,
        _address("x", x, torch.bfloat16, *x.shape),
        _address("weight", weight, torch.int8, *weight.shape),
        _address("scale", scale, torch.float32, outputs),
        _address("total", total, torch.float32, outputs),
        _address("bias", bias, torch.float32, outputs),
        _address("y", y, x.dtype, *y.shape),
        x.numel() // size,
        size,
        outputs,
        panel,
        then_gelu,
    )
    return y


def add_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, drop: Drop, keep_total: bool
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Returns norm(residual + dropped(x)), that sum if wanted, and its mean and inverse deviation, fp32 [2, rows].

    x, residual [..., size]; weight, bias: fp32 [size].
    """
    size, dtype = x.shape[-1], x.dtype
    _vectors("add_norm", size)
    rows = x.numel() // size
    y, total = torch.empty_like(x), torch.empty_like(x) if keep_total else None
    norms = torch.empty(2, rows, dtype=torch.float32, device="cpu")
    _call(
        "add_norm",
        dtype,
        _address("x", x, dtype, *x.shape),
        _address("residual", residual, dtype, *x.shape),
        _address("weight", weight, torch.float32, size),
        _address("bias", bias, torch.float32, size),
        float(eps),
        drop,
        None if total is None else _address("total", total, dtype, *x.shape),
        _address("y", y, dtype, *x.shape),
        _address("mean", norms[0], torch.float32, rows),
        _address("rstd", norms[1], torch.float32, rows),
        rows,
        size,
    )
    return y, total, norms


def add_norm_backward(grad: Tensor, total: Tensor, weight: Tensor, norms: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
    """Returns the gradients of x and of the residual, [..., size]; the same tensor twice if nothing is dropped."""
    size, dtype = total.shape[-1], total.dtype
    _vectors("add_norm_backward", size)
    rows = total.numel() // size
    grad_total = torch.empty_like(total)
    grad_x = torch.empty_like(total) if drop.threshold else grad_total
    _call(
        "add_norm_backward",
        dtype,
        _address("grad", grad, dtype, *total.shape),
        _address("total", total, dtype, *total.shape),
        _address("weight", weight, torch.float32, size),
        _address("mean", norms[0], torch.float32, rows),
        _address("rstd", norms[1], torch.float32, rows),
        drop,
        _address("grad_total", grad_total, dtype, *total.shape),
        _address("grad_x", grad_x, dtype, *total.shape),
        rows,
        size,
    )
    return grad_x, grad_total


def attention(
    inputs: Sequence[Tensor], num_heads: int, bias: Tensor | None, lengths: Tensor, starts: Tensor | None, drop: Drop
) -> tuple[Tensor, Tensor]:
    """Returns the context, in the query's sizes, and what the backward pass needs, fp32 [2, batch, heads, queries].

    inputs: query [batch, queries, hidden], key and value [batch, length, hidden], parts of wider contiguous tensors do;
    with starts, int64 [batch + 1], packed: [tokens, hidden], and row b's tokens lie from starts[b] on, or of the
    query [batch, hidden], one of each row. lengths: int64 [batch]. bias: fp32, contiguous, [1, heads or 1, queries,
    length].
    """
    rows = _rows(inputs, num_heads, bias, lengths, starts)
    out = torch.empty(inputs[0].shape, dtype=inputs[0].dtype, device="cpu")
    sizes = (2, rows.shape.batch, rows.shape.heads, rows.shape.queries)
    norms = torch.empty(sizes, dtype=torch.float32, device="cpu")
    _call(
        "attention",
        out.dtype,
        *rows.addresses,
        drop,
        _address("out", out, out.dtype, *out.shape),
        _address("norms", norms, torch.float32, *sizes),
        rows.shape,
    )
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
    """Writes the gradients of query, key and value into `grads`, which lie in memory as `inputs` do.

    grad: of the context, contiguous. Otherwise as `attention` takes and returns them.
    """
    dtype, rows = grad.dtype, _rows(inputs, num_heads, bias, lengths, starts)
    sizes = (2, rows.shape.batch, rows.shape.heads, rows.shape.queries)
    _call(
        "attention_backward",
        dtype,
        _address("grad", grad, inputs[0].dtype, *inputs[0].shape),
        *rows.addresses,
        drop,
        _address("norms", norms, torch.float32, *sizes),
        *(_view_address("grads", own, given) for own, given in zip(grads, inputs, strict=True)),
        rows.shape,
    )


def _view_address(name: str, tensor: Tensor, like: Tensor) -> ctypes.c_void_p:
    """Returns where a tensor lies that may be part of a wider one; raises ValueError if it does not lie as `like`."""
    given, expected = ((t.dtype, t.shape, t.stride(), t.is_cpu) for t in (tensor, like))
    if given != expected:
        raise ValueError(f"{name}: expected {expected} as dtype, sizes, strides, on a CPU; found {given}")
    return ctypes.c_void_p(tensor.data_ptr())


class _Rows(NamedTuple):
    """Where attention's rows lie."""

    addresses: tuple[object, ...]  # query, key, value, bias, lengths, and each row's first query and first key
    shape: Shape
    kept: tuple[Tensor, ...]  # tensors made here, which must live as long as their addresses


def _rows(
    inputs: Sequence[Tensor], num_heads: int, bias: Tensor | None, lengths: Tensor, starts: Tensor | None
) -> _Rows:
    """Checks what `attention` takes. Raises ValueError for sizes, dtypes or strides that the C code cannot follow."""
    query, key, value = inputs
    batch, hidden, dtype = len(lengths), query.shape[-1], query.dtype
    _vectors("attention", hidden // num_heads)
    if starts is None:
        queries, length = query.shape[1], key.shape[1]
        k_starts, q_starts = (torch.arange(batch + 1, device="cpu") * size for size in (length, queries))
        rows_of = [query.shape[0], key.shape[0]]
    else:
        length = bias.shape[-1] if bias is not None else int(lengths.max()) if batch else 0
        one_each = len(query) != len(key)
        queries = 1 if one_each else length
        k_starts, q_starts = starts, torch.arange(batch + 1, device="cpu") if one_each else starts
        rows_of = [len(query) if one_each else batch, batch]
    if rows_of != [batch, batch] or query.ndim != key.ndim:
        raise ValueError(f"attention: expected {batch} rows, found {list(query.shape)} and {list(key.shape)}")
    strides = [
        _row_stride(name, tensor, dtype, sizes)
        for name, tensor, sizes in (("query", query, query.shape), ("key", key, key.shape), ("value", value, key.shape))
    ]
    heads = bias.shape[1] if bias is not None else 1
    if heads not in (1, num_heads):
        raise ValueError(f"attention's bias: expected 1 or {num_heads} heads, found {heads}")
    addresses = (
        *(ctypes.c_void_p(tensor.data_ptr()) for tensor in inputs),
        None if bias is None else _address("bias", bias, torch.float32, 1, heads, queries, length),
        _address("lengths", lengths, torch.int64, batch),
        _address("q_starts", q_starts, torch.int64, batch + 1),
        _address("k_starts", k_starts, torch.int64, batch + 1),
    )
    shape = Shape(
        batch, queries, length, num_heads, hidden // num_heads, *strides, queries * length if heads > 1 else 0
    )
    return _Rows(addresses, shape, (q_starts, k_starts))


def _row_stride(name: str, tensor: Tensor, dtype: torch.dtype, sizes: torch.Size) -> int:
    """Returns how many numbers lie from a token's first to the next one's; raises ValueError for any other tensor."""
    flat = tensor.view(-1, tensor.shape[-1])
    if tensor.dtype is not dtype or tensor.shape != sizes or not tensor.is_cpu or flat.stride(1) != 1:
        raise ValueError(
            f"attention's {name}: expected {dtype} {list(sizes)} on the CPU, its last dimension contiguous, "
            f"found {tensor.dtype} {list(tensor.shape)}, strides {tensor.stride()}, on {tensor.device}"
        )
    return flat.stride(0)


def merge(weight: Tensor, lora_A: Tensor, lora_B: Tensor, scaling: float, out: Tensor) -> None:
    """Writes weight + scaling * lora_B lora_A into out [rows, in]; all others are fp32.

    weight [rows, in], lora_A [rank, in], lora_B [rows, rank].
    """
    rows, size = weight.shape
    rank = len(lora_A)
    _vectors("merge", size)
    _call(
        "merge",
        out.dtype,
        _address("weight", weight, torch.float32, rows, size),
        _address("lora_A", lora_A, torch.float32, rank, size),
        _address("lora_B", lora_B, torch.float32, rows, rank),
        float(scaling),
        _address("out", out, out.dtype, rows, size),
        rows,
        size,
        rank,
    )


def adapter_gradients(x: Tensor, grad: Tensor, lora_A: Tensor, lora_B: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    """Returns the gradients of lora_A [rank, in] and lora_B [out, rank], fp32.

    x [tokens, in]; grad [tokens, out], columns of a wider tensor do.
    """
    (tokens, size), outputs, rank = x.shape, grad.shape[1], len(lora_A)
    _vectors("adapter_gradients", size, outputs)
    if grad.dtype is not x.dtype or len(grad) != tokens or not grad.is_cpu:
        raise ValueError(
            f"grad: expected {x.dtype} {[tokens, outputs]} on the CPU, found {grad.dtype} {list(grad.shape)}"
        )
    grad = grad if grad.stride(1) == 1 else grad.contiguous()
    lora_Bt = lora_B.t().contiguous()
    grad_A, grad_Bt = torch.empty_like(lora_A), torch.empty_like(lora_Bt)
    _call(
        "adapter_gradients",
        x.dtype,
        _address("x", x, x.dtype, tokens, size),
        ctypes.c_void_p(grad.data_ptr()),
        grad.stride(0),
        _address("lora_A", lora_A, torch.float32, rank, size),
        _address("lora_Bt", lora_Bt, torch.float32, rank, outputs),
        float(scaling),
        _address("grad_A", grad_A, torch.float32, rank, size),
        _address("grad_Bt", grad_Bt, torch.float32, rank, outputs),
        tokens,
        size,
        outputs,
        rank,
    )
    return grad_A, grad_Bt.t()
