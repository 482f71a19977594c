"""kernels.c: how it is built, where it is not, its dropout, and what does not depend on how it is run."""

import functools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from submillion.model import kernels
from submillion.model.functional import gelu
from submillion.model.kernels import Built, Drop

COMPILED = pytest.mark.skipif(not kernels.built().libraries, reason=kernels.built().reason)
BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty cache folder, and a `built` that has not run."""
    monkeypatch.setattr(kernels, "built", functools.cache(kernels.built.__wrapped__))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SUBMILLION_KERNELS", raising=False)
    yield tmp_path / "cache" / "submillion"


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def keep_of(rate: float, key: int, size: int = 1_000_000, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The mask of a key, as what add_norm makes of ones."""
    ones = torch.ones(size // 1000, 1008, dtype=dtype)
    weight = torch.ones(1008)
    _, total, _ = kernels.add_norm(ones, torch.zeros_like(ones), weight, weight, 1e-5, Drop.at(rate, key), True)
    assert total is not None
    return total


@COMPILED
def test_the_libraries_are_compiled_once(fresh: Path) -> None:
    assert set(kernels.built().libraries) == {torch.float32, torch.bfloat16}
    files = {path: path.stat().st_mtime_ns for path in fresh.iterdir()}
    assert len(files) == 2 and all(path.suffix == ".so" for path in files)
    kernels.built.cache_clear()  # as the next process would
    assert kernels.built().libraries and {path: path.stat().st_mtime_ns for path in fresh.iterdir()} == files


@COMPILED
def test_another_processor_or_compiler_makes_its_own(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels.built()
    monkeypatch.setattr(kernels, "_processor", lambda: "another")
    kernels.built.cache_clear()
    assert kernels.built().libraries and len(list(fresh.iterdir())) == 4
    compiler = fresh.parent.parent / "cc"
    monkeypatch.setenv("CC", str(compiler))
    for version in (1, 2):
        compiler.write_text(f'#!/bin/sh\n# {version}\nexec {shutil.which("cc") or "gcc"} "$@"\n', encoding="utf-8")
        compiler.chmod(0o755)
        kernels.built.cache_clear()
        assert kernels.built().libraries and len(list(fresh.iterdir())) == 4 + 2 * version


def test_without_a_compiler_torch_s_operations_stand_in(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels.shutil, "which", lambda name: None)
    assert kernels.built() == Built({}, "torch's own, slower: no C compiler (cc, gcc or $CC) was found")
    x = torch.randn(16)
    torch.testing.assert_close(gelu(x.clone()), torch.nn.functional.gelu(x))


@pytest.mark.parametrize(
    ("script", "said"),
    [("echo in this function: >&2; echo error: no such flag >&2; exit 1", "error: no such flag"), ("true", "kernels-")],
)
def test_a_compiler_that_fails_is_named(script: str, said: str, fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = fresh.parent.parent / "broken-cc"
    compiler.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    libraries, reason = kernels.built()
    assert libraries == {} and "broken-cc or the loader failed" in reason and said in reason
    assert not list(fresh.glob("*")), "nothing half-made stays"


def test_they_can_be_turned_off(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUBMILLION_KERNELS", "off")
    assert kernels.built() == Built({}, "torch's own: SUBMILLION_KERNELS=off") and not fresh.exists()


@COMPILED
@pytest.mark.parametrize("home", [False, True])
def test_a_folder_that_stays_is_not_needed(
    home: bool, fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file in its place", encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(kernels.tempfile, "tempdir", str(tmp_path / "elsewhere"))
    if not home:
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", no_home)
    assert kernels.built().libraries and not list((tmp_path / "elsewhere").iterdir())


@COMPILED
def test_a_library_that_was_cut_short_is_made_again(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kernels.built()
    other = tmp_path / "other" / "submillion"  # for the loader knows a path that it has loaded
    other.mkdir(parents=True)
    for path in fresh.iterdir():
        (other / path.name).write_bytes(path.read_bytes()[:100])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    kernels.built.cache_clear()
    assert kernels.built().libraries and all(path.stat().st_size > 1000 for path in other.iterdir())


def test_without_avx512_torch_s_operations_are_faster(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert kernels.built() == Built({}, "torch's own: the compiled ones want AVX-512, this processor has AVX2")


@COMPILED
@pytest.mark.parametrize("size", [24, 40, 12])
def test_sizes_that_do_not_fill_a_vector_are_torch_s(size: int) -> None:
    assert not kernels.serve(torch.zeros(2, size), size) and kernels.serve(torch.zeros(2, 32), 32)
    assert not kernels.serve(torch.zeros(2, 32, dtype=torch.float64), 32)


@COMPILED
@pytest.mark.parametrize("rate", [0.001, 0.05, 0.1, 0.5, 0.9])
def test_the_share_of_zeros_is_the_rate_and_the_expectation_is_one(rate: float) -> None:
    keep = keep_of(rate, 99)
    assert (keep == 0).float().mean().item() == pytest.approx(rate, abs=0.002)
    assert keep.double().mean().item() == pytest.approx(1.0, abs=0.02)
    assert keep.max().item() == pytest.approx(1 / (1 - rate)) and len(keep.unique()) == 2


@COMPILED
def test_neighbours_rows_and_keys_are_dropped_independently() -> None:
    zeros = (keep_of(0.1, 7) == 0).double().flatten() - 0.1
    for apart in (1, 2, 3, 16, 64, 1008):
        assert abs((zeros[:-apart] * zeros[apart:]).mean().item()) < 5 * 0.09 / 1000
    for key in (8, 7 + 2**16, 7 + 2**32, 2**63):  # keys that differ in a bit, of either half
        other = (keep_of(0.1, key) == 0).double().flatten() - 0.1
        assert abs((zeros * other).mean().item()) < 5 * 0.09 / 1000


@COMPILED
def test_a_key_decides_a_mask_in_both_types() -> None:
    exact, rounded = keep_of(0.1, 5), keep_of(0.1, 5, dtype=torch.bfloat16)
    assert torch.equal(exact == 0, rounded == 0) and not torch.equal(exact, keep_of(0.1, 6))
    assert torch.equal(keep_of(0.0, 5), torch.ones_like(exact))


@COMPILED
@BOTH
def test_nothing_depends_on_which_thread_computes_a_row(dtype: torch.dtype) -> None:
    """The adapters' gradients are sums over threads, so equal to rounding; all else is equal bit for bit."""
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(5, 70, 144, generator=generator).to(dtype)
    lengths, grad = torch.tensor([70, 3, 41, 64, 7]), torch.randn(5, 70, 48, generator=generator).to(dtype)
    lora_A, lora_B = torch.randn(3, 144, generator=generator), torch.randn(48, 3, generator=generator)
    drop, found = Drop.at(0.1, 3), []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            inputs, grads = list(qkv.split(48, -1)), list(torch.empty_like(qkv).split(48, -1))
            context, norms = kernels.attention(inputs, 3, None, lengths, None, drop)
            kernels.attention_backward(grad, inputs, grads, 3, None, lengths, None, drop, norms)
            y, total, _ = kernels.add_norm(context, grad, torch.ones(48), torch.zeros(48), 1e-5, drop, True)
            sums = kernels.adapter_gradients(qkv.flatten(0, 1), grad.flatten(0, 1), lora_A, lora_B, 2.0)
            found.append(([context, *grads, y, total], sums))
    finally:
        torch.set_num_threads(before)
    for one, sums in found[1:]:
        assert all(map(torch.equal, one, found[0][0]))  # type: ignore[arg-type]
        for a, b in zip(sums, found[0][1], strict=True):
            torch.testing.assert_close(a, b, atol=1e-3 if dtype == torch.float32 else 2e-3, rtol=1e-5)
    assert all(map(torch.equal, found[1][1], found[3][1]))  # two threads twice


@COMPILED
def test_strides_that_say_nothing_are_not_followed() -> None:
    x, lora_A, lora_B = torch.randn(5, 48), torch.randn(2, 48), torch.randn(32, 2)
    grad = torch.ones(()).expand(5, 32)
    found = kernels.adapter_gradients(x, grad, lora_A, lora_B, 1.0)
    for one, other in zip(found, kernels.adapter_gradients(x, grad.clone(), lora_A, lora_B, 1.0), strict=True):
        assert torch.equal(one, other)
    qkv = torch.randn(1, 3, 96).transpose(0, 1)  # three rows of one token, whose stride(1) is 288
    assert qkv.is_contiguous() and qkv.stride(1) != 96
    lengths, drop = torch.ones(3, dtype=torch.int64), Drop.at(0.0, 0)
    context, _ = kernels.attention(list(qkv.split(32, -1)), 2, None, lengths, None, drop)
    torch.testing.assert_close(context, qkv[..., 64:])  # one token attends to itself


@COMPILED
def test_the_slope_of_gelu_is_spent_once() -> None:
    x = torch.randn(32, requires_grad=True)
    total = gelu(x * 1).sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="computed once"):
        total.backward()


@COMPILED
def test_they_share_torch_s_threads() -> None:
    """With an OpenMP library of its own, the C code's threads would wait for torch's, which spin before they sleep."""
    script = (
        "import torch, pathlib; from submillion.model import kernels; kernels.built();"
        "torch.ones(4096, 4096).sum(); kernels.gelu(torch.ones(1 << 20), False);"
        "maps = pathlib.Path('/proc/self/maps').read_text();"
        "print({line.split()[-1] for line in maps.splitlines() if 'gomp' in line})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert len(eval(done.stdout)) == 1, done.stdout
