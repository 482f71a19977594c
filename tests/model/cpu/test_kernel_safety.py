"""The C code writes where it is told to: whatever torch's default dtype is, and for any number of rows."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from kernel_calls import F32, ODD, kernel_calls, random

from submillion.model.cpu import kernels
from submillion.model.cpu.build import built
from submillion.model.cpu.dropout import Drop
from submillion.model.cpu.products import linear_int8, pack_int8

COMPILED = pytest.mark.skipif(not built().libraries, reason=built().reason)
NOTHING = Drop.at(0.0, 0)


@pytest.fixture(params=[torch.float16, torch.bfloat16, torch.float64], ids=str)
def default_dtype(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    """torch's default for what a test sets it to; float32 again afterwards."""
    yield request.param
    torch.set_default_dtype(torch.float32)


@COMPILED
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rows", ODD)
def test_the_default_dtype_decides_nothing(rows: int, dtype: torch.dtype, default_dtype: torch.dtype) -> None:
    for name, call in kernel_calls(dtype, rows):
        expected = call()
        torch.set_default_dtype(default_dtype)
        found = call()
        torch.set_default_dtype(torch.float32)
        assert [t.dtype for t in found] == [t.dtype for t in expected], name
        assert all(map(torch.equal, found, expected)), name


def test_packing_without_a_bias_does_not_depend_on_the_default_dtype(default_dtype: torch.dtype) -> None:
    weight, x = random(32, 48, dtype=torch.bfloat16), random(5, 48, dtype=torch.bfloat16)
    expected = linear_int8(x, pack_int8(weight), then_gelu=False)
    torch.set_default_dtype(default_dtype)
    packed = pack_int8(weight)
    assert packed.bias.dtype == packed.scale.dtype == packed.total.dtype == F32
    assert torch.equal(linear_int8(x, packed, then_gelu=False), expected)


@COMPILED
@pytest.mark.parametrize("wrong", ["dtype", "size", "strides", "device"])
def test_a_tensor_that_the_c_code_cannot_follow_is_refused(wrong: str) -> None:
    def spoiled(tensor: torch.Tensor) -> torch.Tensor:
        if wrong == "dtype":
            return tensor.double()
        if wrong == "size":
            return torch.cat([tensor, tensor], dim=-1)
        if wrong == "device":
            return tensor.to("meta")
        return torch.stack([tensor, tensor], dim=-1)[..., 0]

    x, weight = random(4, 48), random(48)
    qkv, lengths = [random(2, 3, 48, seed=seed) for seed in range(3)], torch.tensor([3, 2])
    lora_A, lora_B, out = random(2, 48), random(16, 2), torch.empty(16, 48)
    context, norms = kernels.attention(qkv, 3, None, lengths, None, NOTHING)
    _, total, means = kernels.add_norm(x, x, weight, weight, 1e-5, NOTHING, True)
    assert total is not None
    calls = [
        lambda: kernels.multiply_(x, spoiled(x)),
        lambda: kernels.add_norm(x, spoiled(x), weight, weight, 1e-5, NOTHING, True),
        lambda: kernels.add_norm(x, x, spoiled(weight), weight, 1e-5, NOTHING, True),
        lambda: kernels.add_norm(x, x, weight, spoiled(weight), 1e-5, NOTHING, True),
        lambda: kernels.add_norm_backward(spoiled(x), total, weight, means, NOTHING),
        lambda: kernels.add_norm_backward(x, total, weight, spoiled(means), NOTHING),
        lambda: kernels.attention([qkv[0], spoiled(qkv[1]), qkv[2]], 3, None, lengths, None, NOTHING),
        lambda: kernels.attention([*qkv[:2], spoiled(qkv[2])], 3, None, lengths, None, NOTHING),
        lambda: kernels.attention(qkv, 3, spoiled(random(1, 3, 3, 3)), lengths, None, NOTHING),
        lambda: kernels.attention(qkv, 3, None, spoiled(lengths), None, NOTHING),
        lambda: kernels.attention_backward(
            spoiled(context), qkv, qkv, 3, None, lengths, None, NOTHING, norms
        ),
        lambda: kernels.attention_backward(
            context, qkv, [*qkv[:2], spoiled(qkv[2])], 3, None, lengths, None, NOTHING, norms
        ),
        lambda: kernels.attention_backward(
            context, qkv, qkv, 3, None, lengths, None, NOTHING, spoiled(norms)
        ),
        lambda: kernels.merge(random(16, 48), spoiled(lora_A), lora_B, 1.0, out),
        lambda: kernels.merge(random(16, 48), lora_A, lora_B, 1.0, spoiled(out)),
        lambda: kernels.adapter_gradients(spoiled(x), random(4, 16), lora_A, lora_B, 1.0),
        lambda: kernels.adapter_gradients(x, random(4, 16), spoiled(lora_A), lora_B, 1.0),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises((ValueError, RuntimeError)):
            call()


@COMPILED
def test_sizes_that_do_not_fill_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match=r"gelu: expected sizes that are multiples of 16, found \[12\]"):
        kernels.gelu(random(12), False)
    with pytest.raises(ValueError, match="multiples of 16"):
        kernels.add_norm(random(2, 24), random(2, 24), random(24), random(24), 1e-5, NOTHING, False)
    with pytest.raises(ValueError, match="expected 2 rows"):
        kernels.attention([random(3, 4, 48)] * 3, 3, None, torch.tensor([4, 4]), None, NOTHING)


@COMPILED
def test_no_call_leaves_its_memory(tmp_path: Path) -> None:
    """Under AddressSanitizer, which stops the process at the first byte that is read or written outside."""
    compiler = shutil.which("gcc")
    library = (
        compiler
        and subprocess.run([compiler, "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    )
    if not library or not Path(library).is_file():
        pytest.skip("gcc with AddressSanitizer is not on this machine")
    environment = os.environ | {
        "CC": "gcc",
        "LD_PRELOAD": library,
        "ASAN_OPTIONS": "detect_leaks=0",
        "XDG_CACHE_HOME": str(tmp_path),
        "OMP_NUM_THREADS": "2",
    }
    script = Path(__file__).with_name("kernel_calls.py")
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr[-3000:]
    assert int(done.stdout.split()[-2]) > 90
