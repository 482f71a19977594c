"""Dropout masks from their own generator, cheap on a CPU. On a GPU torch draws them, with its generator seeded once."""

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from submillion.seeds import numpy_generator


class Dropout:
    """Draws masks of inverted dropout (Srivastava et al., 2014): 0 with probability `rate`, else 1 / (1 - rate).

    On a CPU, torch draws its masks one number at a time, which takes a tenth of a training step. Here 16 random bits
    decide an element, and each draw decides four. The scale is rounded to bf16 and the rate to fit it (0.1 becomes
    0.0986), so the expectation is kept exactly and masks are the same in bf16 and fp32.
    """

    def __init__(self, seed: int, rank: int = 0) -> None:
        """rank: the number of this process among the processes of the run; each draws its own masks."""
        rng = numpy_generator(seed, f"dropout {rank}" if rank else "dropout")
        self._bits = np.random.SFC64(rng.integers(2**63))
        self._cuda_seed = int(rng.integers(2**63))
        self._cuda_seeded = False

    def __call__(self, shape: Sequence[int], rate: float, like: Tensor) -> Tensor | None:
        """Returns a mask [*shape] to multiply by, of like's dtype and device; None for rate 0."""
        if rate == 0.0:
            return None
        if like.is_cuda:
            return self._on_cuda(shape, rate, like)
        scale = torch.tensor(1 / (1 - rate), dtype=torch.float32).bfloat16()
        kept = min(2**16 - 1, round(2**16 / scale.item()))
        size = prod(shape)
        draws = torch.from_numpy(self._bits.random_raw(-(-size // 4)).view(np.int16)[:size])  # uniform over int16
        last_dropped = 2**15 - 1 - kept
        # In place, without a comparison: its result would be bytes, and widening bytes takes longer than all of this.
        bits = draws.clamp_(last_dropped, last_dropped + 1).sub_(last_dropped).mul_(scale.view(torch.int16))
        return bits.view(torch.bfloat16).view(tuple(shape)).to(like.dtype)

    def key(self) -> int:
        """Returns 64 bits from the same generator, for a mask that the C code draws."""
        return int(self._bits.random_raw())

    def _on_cuda(self, shape: Sequence[int], rate: float, like: Tensor) -> Tensor:
        if not self._cuda_seeded:
            torch.cuda.manual_seed(self._cuda_seed)
            self._cuda_seeded = True
        return torch.nn.functional.dropout(torch.ones(shape, dtype=like.dtype, device=like.device), rate)
