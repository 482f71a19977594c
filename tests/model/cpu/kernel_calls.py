"""Calls every function of kernels.c with rows of a given number. As a script: under AddressSanitizer, with odd numbers.

The inputs state their dtypes, so that what comes out depends on the functions alone.
"""

import sys
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from submillion.model.cpu import build, kernels
from submillion.model.cpu.dropout import Drop

F32 = torch.float32
HEADS, HIDDEN = 3, 48
ODD = (0, 1, 15, 16, 17)


def random(*sizes: int, dtype: torch.dtype = F32, seed: int = 0) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed), dtype=F32).to(dtype)


def kernel_calls(dtype: torch.dtype, rows: int) -> Iterator[tuple[str, Callable[[], list[Tensor]]]]:
    """Yields a name, and what calls the function and returns all that it wrote."""
    x, other = random(rows, HIDDEN, dtype=dtype), random(rows, HIDDEN, dtype=dtype, seed=1)
    weight, bias = random(HIDDEN, seed=2), random(HIDDEN, seed=3)
    drop = Drop.at(0.1, 3)

    def gelu() -> list[Tensor]:
        slope = x.clone()
        return [kernels.gelu(slope, True), slope, kernels.multiply_(x.clone(), other)]

    def add_norm() -> list[Tensor]:
        y, total, norms = kernels.add_norm(x, other, weight, bias, 1e-5, drop, True)
        assert total is not None
        return [y, total, norms, *kernels.add_norm_backward(other, total, weight, norms, drop)]

    def adapters() -> list[Tensor]:
        lora_A, lora_B = random(3, HIDDEN, seed=4), random(32, 3, seed=5)
        merged = torch.empty(32, HIDDEN, dtype=dtype)
        kernels.merge(random(32, HIDDEN, seed=6), lora_A, lora_B, 2.0, merged)
        grad = random(rows, 64, dtype=dtype, seed=7)[:, 16:48]  # columns of a wider tensor
        return [merged, *kernels.adapter_gradients(x, grad, lora_A, lora_B, 2.0)]

    yield from (("gelu", gelu), ("add_norm", add_norm), ("adapters", adapters))
    for lengths in ([rows], [rows, 1, max(1, rows // 2)]) if rows else ([],):
        for name in ("padded", "packed", "first token", "packed first token"):
            yield f"attention {name} {lengths}", _attention(dtype, lengths, name)
    if dtype == torch.bfloat16 and build.multiplies_int8():

        def int8() -> list[Tensor]:
            out = []
            for panel, outputs in ((16, 48), (64, 128)):
                for transpose in (False, True):
                    given = random(outputs, HIDDEN, dtype=dtype, seed=8)
                    given = given.t().contiguous() if transpose else given
                    packed = kernels.pack_int8(given, panel, transpose)
                    for then_gelu in (False, True):
                        zeros = torch.zeros(outputs, dtype=F32)
                        out.append(kernels.linear_int8(x, *packed, zeros, panel, then_gelu))
                    out += packed
            return out

        yield "int8", int8


def _attention(dtype: torch.dtype, lengths: list[int], kind: str) -> Callable[[], list[Tensor]]:
    """Forward and back, with a bias, of rows of these lengths."""
    batch, longest = len(lengths), max(lengths, default=0)
    packed, first = "packed" in kind, "first" in kind
    tokens = (sum(lengths),) if packed else (batch, longest)
    qkv = random(*tokens, 3 * HIDDEN, dtype=dtype)
    query, key, value = qkv.split(HIDDEN, -1)
    queries = 1 if first else longest
    if first:
        query = random(*((batch,) if packed else (batch, 1)), HIDDEN, dtype=dtype, seed=9)
    bias = random(1, HEADS, queries, longest, seed=10)
    starts = torch.tensor([0, *lengths], dtype=torch.int64).cumsum(0) if packed else None
    counts = torch.tensor(lengths, dtype=torch.int64)

    def call() -> list[Tensor]:
        drop, inputs = Drop.at(0.1, 3), [query, key, value]
        own_bias = None if packed and first and len(query) == len(key) else bias
        context, norms = kernels.attention(inputs, HEADS, own_bias, counts, starts, drop)
        grads = list(torch.zeros_like(qkv).split(HIDDEN, -1))
        if first:
            grads[0] = torch.zeros_like(query)
        grad = random(*context.shape, dtype=dtype, seed=11)
        kernels.attention_backward(grad, inputs, grads, HEADS, own_bias, counts, starts, drop, norms)
        return [context, *grads] if batch > 1 else [context, norms, *grads]  # after a short row, norms of nothing

    return call


def main() -> None:
    """Calls everything with the sanitizer compiled in, and prints how many calls there were."""
    build._FLAGS = (*build._FLAGS, "-fsanitize=address", "-g")
    assert build.built().libraries, build.built().reason
    count = 0
    for dtype in (torch.float32, torch.bfloat16):
        for rows in ODD:
            for name, call in kernel_calls(dtype, rows):
                print(dtype, rows, name, flush=True)
                call()
                count += 1
    print(f"{count} calls")


if __name__ == "__main__":
    sys.exit(main())
