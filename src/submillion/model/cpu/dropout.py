"""Dropout: a mask as a tensor, or a key from which kernels.c draws the same share of zeros while it computes."""

import ctypes
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Dropout(Protocol):
    """A source of masks: drawn here as tensors, or drawn by the C code from a key."""

    def __call__(self, shape: Sequence[int], rate: float, like: Tensor) -> Tensor | None:
        """Returns a mask of like's dtype and device, 0 or the inverse of the share that is kept; None for rate 0."""

    def key(self) -> int:
        """Returns 64 bits, new at each call, that decide a mask."""


class Drop(ctypes.Structure):
    """Tells the C code what to drop: it keeps an element if the hash of the key and its index is below the threshold.

    A threshold of 0 drops nothing.
    """

    _fields_ = (
        ("key", ctypes.c_uint32 * 2),
        ("threshold", ctypes.c_uint32),
        ("scale", ctypes.c_float),
    )

    @classmethod
    def at(cls, rate: float, key: int) -> "Drop":
        """Makes one from a rate, from 0 (nothing is dropped) to below 1, and a key of 64 bits."""
        threshold = min(2**32 - 1, round(2**32 * (1 - rate))) if rate else 0
        return cls((key & 0xFFFFFFFF, key >> 32), threshold, 1 / (1 - rate))


def drop_of(rate: float, dropout: Dropout | None) -> Drop:
    """Returns what the C code drops at this rate; nothing without dropout."""
    return Drop.at(rate, dropout.key()) if rate and dropout else Drop.at(0.0, 0)


def dropped(x: Tensor, rate: float, dropout: Dropout | None) -> Tensor:
    """Returns x with a share of `rate` set to 0 and the rest scaled up; x itself without dropout."""
    keep = dropout(x.shape, rate, x) if dropout else None
    return x if keep is None else x * keep
