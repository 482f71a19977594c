"""Calls the functions of kernels.c by name, and checks the memory that they are given.

The C code trusts its arguments: if memory has another dtype or size than it expects, it overwrites other memory without
an error. So no tensor's address is passed on before its dtype, sizes, strides and device are checked here.
"""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from submillion.model.cpu import build


def addresses(dtype: torch.dtype, sizes: Sequence[int], **tensors: Tensor | None) -> list[ctypes.c_void_p | None]:
    """Returns the addresses of contiguous CPU tensors of this dtype and these sizes; None for None.

    Raises ValueError, with the tensor's name, for any other tensor.
    """
    for name, tensor in tensors.items():
        if tensor is not None and (
            tensor.dtype is not dtype or tensor.shape != sizes or not tensor.is_cpu or not tensor.is_contiguous()
        ):
            raise ValueError(
                f"{name}: expected a contiguous {dtype} tensor {list(sizes)} on the CPU, "
                f"found {tensor.dtype} {list(tensor.shape)}, strides {tensor.stride()}, on {tensor.device}"
            )
    return [None if tensor is None else ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors.values()]


def check_vectors(name: str, *sizes: int) -> None:
    """Raises ValueError for a size that does not fill whole vectors."""
    if any(size % build.LANES for size in sizes):
        raise ValueError(f"{name}: expected sizes that are multiples of {build.LANES}, found {list(sizes)}")


def call(name: str, dtype: torch.dtype, *arguments: object) -> None:
    """Calls a function of the library that computes in `dtype`: ints become int64, floats float.

    Raises ValueError if no library computes in it.
    """
    libraries = build.built().libraries
    if dtype not in libraries:
        raise ValueError(f"{name}: expected {' or '.join(map(str, libraries)) or 'kernels'}, found {dtype}")
    getattr(libraries[dtype], name)(*map(_converted, arguments))


def _converted(argument: object) -> object:
    match argument:
        case ctypes.Structure():
            return ctypes.byref(argument)
        case float():
            return ctypes.c_float(argument)
        case int():
            return ctypes.c_int64(argument)
    return argument  # an address, or None


def row_stride(name: str, tensor: Tensor, dtype: torch.dtype, sizes: Sequence[int]) -> int:
    """Returns the distance between the first numbers of two neighbouring tokens, in numbers.

    Raises ValueError for a tensor of another dtype or other sizes, not on the CPU, or with a last dimension that is not
    contiguous.
    """
    flat = tensor.view(-1, tensor.shape[-1])
    if tensor.dtype is not dtype or tensor.shape != sizes or not tensor.is_cpu or flat.stride(1) != 1:
        raise ValueError(
            f"{name}: expected {dtype} {list(sizes)} on the CPU, its last dimension contiguous, "
            f"found {tensor.dtype} {list(tensor.shape)}, strides {tensor.stride()}, on {tensor.device}"
        )
    return flat.stride(0)


def address_like(name: str, tensor: Tensor, like: Tensor) -> ctypes.c_void_p:
    """Returns the address of a tensor that may be part of a wider one.

    Raises ValueError if its dtype, sizes, strides or device differ from those of `like`.
    """
    found, expected = ((t.dtype, t.shape, t.stride(), t.is_cpu) for t in (tensor, like))
    if found != expected:
        raise ValueError(f"{name}: expected {expected} as dtype, sizes, strides, on a CPU; found {found}")
    return ctypes.c_void_p(tensor.data_ptr())
