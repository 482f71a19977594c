"""The device and the type of the arithmetic, each with its reason."""

from dataclasses import dataclass
from typing import Literal

import torch

from submillion.errors import ConfigError
from submillion.model.cpu.build import built, multiplies_int8
from submillion.process.forks import make_forks_safe
from submillion.process.memory import keep_freed_memory


@dataclass(frozen=True)
class Compute:
    device: torch.device
    dtype: torch.dtype  # of all that is not a product in int8
    reason: str  # for the run's printout
    int8: bool = False  # whether products by frozen weights are in int8

    @property
    def precision(self) -> Literal["int8", "bf16", "fp32"]:
        if self.int8:
            return "int8"
        return "bf16" if self.dtype == torch.bfloat16 else "fp32"


def choose_compute(precision: str) -> Compute:
    """Returns the device, a GPU if there is one, and the compute type.

    precision: "auto", "int8", "bf16" or "fp32"; auto is what the processor is fastest at. On a CPU the process keeps
    the memory it frees from here on: see `process.memory`. A child forked from here on computes in one thread. Raises
    ConfigError for int8 if this machine does not have it.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    if device.type == "cpu":
        keep_freed_memory()
    make_forks_safe()
    has_int8 = device.type == "cpu" and _cpu_has_int8()
    if precision == "int8" and not has_int8:
        raise ConfigError(
            "precision int8: expected a CPU with AVX512-BF16 and AVX512-VNNI, without AMX, and a C compiler, found "
            f"{name}, kernels {built().reason}\nfix: --train.precision auto, or --precision auto to predict"
        )
    if precision != "auto":
        dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        return Compute(device, dtype, f"as asked, on {name}", precision == "int8")
    if has_int8:
        return Compute(device, torch.bfloat16, f"{name} has int8 instructions (AVX512-VNNI), bf16 between", True)
    if device.type == "cuda":
        fast, what = torch.cuda.is_bf16_supported(including_emulation=False), "bf16 arithmetic"
    else:
        fast, what = _cpu_has_bf16(), "bf16 instructions (AVX512-BF16 or AMX)"
    if fast:
        return Compute(device, torch.bfloat16, f"{name} has {what}")
    return Compute(device, torch.float32, f"{name} has no {what}")


def _cpu_has_int8() -> bool:
    return multiplies_int8()


def _cpu_has_bf16() -> bool:
    """Returns whether the CPU has instructions that multiply bf16 numbers; emulation is slower than fp32."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # private names: absent counts as no
    return any(getattr(torch.cpu, name, bool)() for name in checks)
