"""The device and the type of the arithmetic, each with its reason."""

from dataclasses import dataclass
from typing import Literal

import torch

from submillion.memory import keep_freed_memory
from submillion.model import kernels


@dataclass(frozen=True)
class Compute:
    device: torch.device
    dtype: torch.dtype
    reason: str  # for the run's printout

    @property
    def precision(self) -> Literal["bf16", "fp32"]:
        return "bf16" if self.dtype == torch.bfloat16 else "fp32"

    @property
    def has_int8(self) -> bool:
        """Whether a model that computes in bf16 predicts faster in int8 here."""
        return self.device.type == "cpu" and self.precision == "bf16" and kernels.multiplies_int8()


def choose_compute(precision: str) -> Compute:
    """precision: "auto", "bf16", "fp32", or "int8", which is bf16 for all but the products of a prediction.

    A GPU where there is one; auto is bf16 where the processor is fast at it.

    On a CPU the process keeps the memory it frees from here on: see submillion.memory.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    if device.type == "cpu":
        keep_freed_memory()
    if precision != "auto":
        return Compute(device, torch.float32 if precision == "fp32" else torch.bfloat16, f"as asked, on {name}")
    if device.type == "cuda":
        fast, what = torch.cuda.is_bf16_supported(including_emulation=False), "bf16 arithmetic"
    else:
        fast, what = _cpu_has_bf16(), "bf16 instructions (AVX512-BF16 or AMX)"
    if fast:
        return Compute(device, torch.bfloat16, f"{name} has {what}")
    return Compute(device, torch.float32, f"{name} has no {what}")


def _cpu_has_bf16() -> bool:
    """Instructions that multiply bf16 numbers; emulation is slower than fp32."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # private names: absent counts as no
    return any(getattr(torch.cpu, name, bool)() for name in checks)
