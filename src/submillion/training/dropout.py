"""Dropout with a generator of its own, cheap on a CPU. On a GPU the masks are torch's, its generator seeded once."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from submillion.seeds import numpy_generator


class Dropout:
    """Inverted dropout (Srivastava et al., 2014): zero each element with probability `rate`, scale the rest up.

    On a CPU, torch draws its masks one number at a time, which takes a tenth of a training step. Here one random byte
    decides an element, eight to a draw, so a rate is rounded to a multiple of 1/256 (0.1 becomes 26/256 = 0.1016) and
    the scale is the exact inverse of what is then kept: the expectation is unchanged.
    """

    def __init__(self, seed: int) -> None:
        rng = numpy_generator(seed, "dropout")
        self._bits = np.random.SFC64(rng.integers(2**63))
        self._cuda_seed = int(rng.integers(2**63))
        self._cuda_seeded = False

    def __call__(self, x: Tensor, rate: float) -> Tensor:
        """x, with some elements zeroed: same shape and dtype."""
        if rate == 0.0:
            return x
        if x.is_cuda:
            return self._on_cuda(x, rate)
        dropped = min(255, max(1, round(rate * 256)))
        raw = self._bits.random_raw(-(-x.numel() // 8)).view(np.uint8)[: x.numel()]
        keep = torch.from_numpy(raw).view(x.shape) >= dropped
        return x * keep * (256 / (256 - dropped))

    def _on_cuda(self, x: Tensor, rate: float) -> Tensor:
        if not self._cuda_seeded:
            torch.cuda.manual_seed(self._cuda_seed)
            self._cuda_seeded = True
        return F.dropout(x, rate)
