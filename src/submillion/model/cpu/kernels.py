"""Calls kernels.c: what a CPU computes between the matrix products, and the products in int8.

No tensor that is made here takes torch's default dtype, which any thread of the process may change at any time.
"""

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from submillion.model.cpu.call import address_like, addresses, call, check_vectors, row_stride
from submillion.model.cpu.dropout import Drop

F32, I64 = torch.float32, torch.int64


class Shape(ctypes.Structure):
    """The sizes of attention, and the distances in memory between its rows, as the C code declares them."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in ("batch", "queries", "length", "heads", "size", "q_row", "k_row", "v_row", "bias_head")
    )


def gelu(x: Tensor, slope: bool) -> Tensor:
    """Returns gelu(x) for x [...]; with slope, x holds gelu'(x) afterwards."""
    check_vectors("gelu", x.numel())
    y = torch.empty_like(x)
    call("gelu", x.dtype, *addresses(x.dtype, x.shape, x=x, y=y), x.numel(), slope)
    return y


def multiply_(x: Tensor, y: Tensor) -> Tensor:
    """Multiplies x by y in place, and returns it; both have the same sizes and dtype."""
    check_vectors("multiply", x.numel())
    call("multiply", x.dtype, *addresses(x.dtype, x.shape, x=x, y=y, product=x), x.numel())
    return x


def pack_int8(weight: Tensor, panel: int, transpose: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Rounds a bf16 weight [rows, columns], or its transpose, to int8, in the order that `linear_int8` reads.

    Returns the weight, scale and total that `linear_int8` takes. panel: how many outputs are stored together; it must
    divide their number.
    """
    rows, columns = weight.shape
    outputs = columns if transpose else rows
    check_vectors("pack_int8", rows, columns, panel)
    if outputs % panel:
        raise ValueError(f"pack_int8: expected a panel that divides {outputs} outputs, found {panel}")
    values = torch.empty(weight.shape, dtype=torch.int8, device="cpu")
    scale, total = torch.empty(2, outputs, dtype=F32, device="cpu")
    call(
        "pack_int8_turned" if transpose else "pack_int8",
        weight.dtype,
        *addresses(torch.bfloat16, (rows, columns), weight=weight),
        *addresses(torch.int8, (rows, columns), values=values),
        *addresses(F32, (outputs,), scale=scale, total=total),
        *(rows, columns, panel),
    )
    return values, scale, total


def linear_int8(
    x: Tensor, weight: Tensor, scale: Tensor, total: Tensor, bias: Tensor, panel: int, then_gelu: bool
) -> Tensor:
    """Returns x weight^T + bias, or its GELU: x, bf16 [..., in] -> bf16 [..., out].

    weight: int8 in panels, as many numbers as [out, in]; scale, total, bias: fp32 [out].
    """
    x = x.contiguous()
    size, outputs = x.shape[-1], len(scale)
    check_vectors("linear_int8", size, outputs, panel)
    if weight.numel() != size * outputs or outputs % panel:
        raise ValueError(f"linear_int8: expected {size} x {outputs} bytes in panels of {panel}, found {weight.numel()}")
    y = torch.empty(*x.shape[:-1], outputs, dtype=x.dtype, device="cpu")
    call(
        "linear_int8",
        x.dtype,
        *addresses(torch.bfloat16, x.shape, x=x),
        *addresses(torch.int8, weight.shape, weight=weight),
        *addresses(F32, (outputs,), scale=scale, total=total, bias=bias),
        *addresses(x.dtype, y.shape, y=y),
        *(x.numel() // size, size, outputs, panel, then_gelu),
    )
    return y


def add_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, drop: Drop, keep_total: bool
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Returns norm(residual + dropped(x)), the sum if keep_total, and its mean and inverse deviation, fp32 [2, rows].

    x, residual [..., size]; weight, bias: fp32 [size].
    """
    size, dtype = x.shape[-1], x.dtype
    check_vectors("add_norm", size)
    rows = x.numel() // size
    y, total = torch.empty_like(x), torch.empty_like(x) if keep_total else None
    norms = torch.empty(2, rows, dtype=F32, device="cpu")
    call(
        "add_norm",
        dtype,
        *addresses(dtype, x.shape, x=x, residual=residual),
        *addresses(F32, (size,), weight=weight, bias=bias),
        *(float(eps), drop),
        *addresses(dtype, x.shape, total=total, y=y),
        *addresses(F32, (rows,), mean=norms[0], rstd=norms[1]),
        *(rows, size),
    )
    return y, total, norms


def add_norm_backward(grad: Tensor, total: Tensor, weight: Tensor, norms: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
    """Returns the gradients of x and of the residual, [..., size]; the same tensor twice if nothing is dropped."""
    size, dtype = total.shape[-1], total.dtype
    check_vectors("add_norm_backward", size)
    rows = total.numel() // size
    grad_total = torch.empty_like(total)
    grad_x = torch.empty_like(total) if drop.threshold else grad_total
    call(
        "add_norm_backward",
        dtype,
        *addresses(dtype, total.shape, grad=grad, total=total),
        *addresses(F32, (size,), weight=weight),
        *addresses(F32, (rows,), mean=norms[0], rstd=norms[1]),
        drop,
        *addresses(dtype, total.shape, grad_total=grad_total, grad_x=grad_x),
        *(rows, size),
    )
    return grad_x, grad_total


def merge(weight: Tensor, lora_A: Tensor, lora_B: Tensor, scaling: float, out: Tensor) -> None:
    """Writes weight + scaling * lora_B lora_A into out [rows, in]; all others are fp32.

    weight [rows, in], lora_A [rank, in], lora_B [rows, rank].
    """
    (rows, size), rank = weight.shape, len(lora_A)
    check_vectors("merge", size)
    call(
        "merge",
        out.dtype,
        *addresses(F32, (rows, size), weight=weight),
        *addresses(F32, (rank, size), lora_A=lora_A),
        *addresses(F32, (rows, rank), lora_B=lora_B),
        float(scaling),
        *addresses(out.dtype, (rows, size), out=out),
        *(rows, size, rank),
    )


def adapter_gradients(x: Tensor, grad: Tensor, lora_A: Tensor, lora_B: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    """Returns the gradients of lora_A [rank, in] and lora_B [out, rank], fp32.

    x [tokens, in]; grad [tokens, out], which may be columns of a wider tensor.
    """
    (tokens, size), outputs, rank = x.shape, grad.shape[1], len(lora_A)
    check_vectors("adapter_gradients", size, outputs)
    grad = grad if grad.stride(1) == 1 else grad.contiguous()
    grad_row = row_stride("grad", grad, x.dtype, (tokens, outputs))
    lora_Bt = lora_B.t().contiguous()
    grad_A, grad_Bt = torch.empty_like(lora_A), torch.empty_like(lora_Bt)
    call(
        "adapter_gradients",
        x.dtype,
        *addresses(x.dtype, (tokens, size), x=x),
        *(ctypes.c_void_p(grad.data_ptr()), grad_row),
        *addresses(F32, (rank, size), lora_A=lora_A),
        *addresses(F32, (rank, outputs), lora_Bt=lora_Bt),
        float(scaling),
        *addresses(F32, (rank, size), grad_A=grad_A),
        *addresses(F32, (rank, outputs), grad_Bt=grad_Bt),
        *(tokens, size, outputs, rank),
    )
    return grad_A, grad_Bt.t()


def attention(
    inputs: Sequence[Tensor], num_heads: int, bias: Tensor | None, lengths: Tensor, starts: Tensor | None, drop: Drop
) -> tuple[Tensor, Tensor]:
    """Returns the context, in the query's sizes, and what the backward pass needs, fp32 [2, batch, heads, queries].

    inputs: query [batch, queries, hidden], key and value [batch, length, hidden], which may be parts of wider
    contiguous tensors. With starts, int64 [batch + 1], they are packed, [tokens, hidden], and row b's tokens begin at
    starts[b]; the query may then be [batch, hidden], one token of each row. lengths: int64 [batch]. bias: fp32,
    contiguous, [1, heads or 1, queries, length].
    """
    layout = _attention_layout(inputs, num_heads, bias, lengths, starts)
    dtype, out_shape = inputs[0].dtype, inputs[0].shape
    out = torch.empty(out_shape, dtype=dtype, device="cpu")
    norms = torch.empty(layout.norms_shape, dtype=F32, device="cpu")
    call(
        "attention",
        dtype,
        *(*layout.places, drop),
        *addresses(dtype, out_shape, out=out),
        *addresses(F32, layout.norms_shape, norms=norms),
        layout.shape,
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

    grad: the context's gradient, contiguous. All others are as `attention` takes and returns them.
    """
    layout = _attention_layout(inputs, num_heads, bias, lengths, starts)
    call(
        "attention_backward",
        grad.dtype,
        *addresses(inputs[0].dtype, inputs[0].shape, grad=grad),
        *(*layout.places, drop),
        *addresses(F32, layout.norms_shape, norms=norms),
        *(address_like("grads", part_grad, part) for part_grad, part in zip(grads, inputs, strict=True)),
        layout.shape,
    )


class _Layout(NamedTuple):
    """Where the rows of attention's inputs are in memory."""

    places: tuple[object, ...]  # of query, key, value, bias, lengths, and of each row's first query and first key
    shape: Shape
    norms_shape: tuple[int, ...]
    kept: tuple[Tensor, ...]  # tensors made here, which must live as long as their addresses are in use


def _attention_layout(
    inputs: Sequence[Tensor], num_heads: int, bias: Tensor | None, lengths: Tensor, starts: Tensor | None
) -> _Layout:
    """Checks what `attention` takes, and returns its layout.

    Raises ValueError for sizes, dtypes or strides that the C code does not support.
    """
    query, key = inputs[:2]
    batch, hidden, dtype = len(lengths), query.shape[-1], query.dtype
    check_vectors("attention", hidden // num_heads)
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
    expected = {"query": query.shape, "key": key.shape, "value": key.shape}
    strides = [
        row_stride(f"attention's {name}", part, dtype, sizes)
        for part, (name, sizes) in zip(inputs, expected.items(), strict=True)
    ]
    heads = bias.shape[1] if bias is not None else 1
    if heads not in (1, num_heads):
        raise ValueError(f"attention's bias: expected 1 or {num_heads} heads, found {heads}")
    places = (
        *(ctypes.c_void_p(part.data_ptr()) for part in inputs),
        *addresses(F32, (1, heads, queries, length), bias=bias),
        *addresses(I64, (batch,), lengths=lengths),
        *addresses(I64, (batch + 1,), q_starts=q_starts, k_starts=k_starts),
    )
    bias_head = queries * length if heads > 1 else 0
    shape = Shape(batch, queries, length, num_heads, hidden // num_heads, *strides, bias_head)
    return _Layout(places, shape, (2, batch, num_heads, queries), (q_starts, k_starts))
