"""Random tensors, and a function's values and gradients against those of its plain form."""

from collections.abc import Sequence

import torch
from torch import Tensor

KEY = 0x1234_5678_9ABC_DEF1


class FixedDropout:
    """Every mask from one key, or one tensor."""

    def __init__(self, keep: Tensor | None = None) -> None:
        self.keep = keep

    def __call__(self, shape: Sequence[int], rate: float, like: Tensor) -> Tensor | None:
        assert self.keep is not None and tuple(self.keep.shape) == tuple(shape)
        return self.keep

    def key(self) -> int:
        return KEY


def tensors(*shapes: tuple[int, ...], seed: int = 0, grad: bool = True) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator).requires_grad_(grad) for shape in shapes]


def check(ours: Tensor, plain: Tensor, inputs: list[Tensor], tolerance: float = 1e-5) -> None:
    (direction,) = tensors(tuple(plain.shape), seed=9, grad=False)
    torch.testing.assert_close(ours, plain.to(ours.dtype), atol=tolerance * max(1.0, plain.abs().max().item()), rtol=0)
    found = torch.autograd.grad(ours, inputs, direction.to(ours.dtype))
    expected = torch.autograd.grad(plain, inputs, direction.to(plain.dtype))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance * max(1.0, b.abs().max().item()), rtol=0)
