"""One seed, many generators: what one part draws never moves what another part draws."""

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def numpy_generator(seed: int, stream: str) -> np.random.Generator:
    """Returns an independent generator for a named use, such as "split" or "order"."""
    return np.random.default_rng([seed, zlib.crc32(stream.encode())])


def torch_generator(seed: int, stream: str) -> "torch.Generator":
    """Returns a torch generator on the CPU for a named use, such as "init"; otherwise like `numpy_generator`."""
    import torch

    state = int(numpy_generator(seed, stream).integers(2**63))
    return torch.Generator().manual_seed(state)
