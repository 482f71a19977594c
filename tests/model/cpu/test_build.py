"""kernels.c is compiled once for each processor and compiler, and torch's operations stand in where it cannot be."""

import functools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from submillion.model.cpu import build
from submillion.model.cpu.build import Built
from submillion.model.cpu.functional import gelu

COMPILED = pytest.mark.skipif(not build.built().libraries, reason=build.built().reason)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty cache folder, and a `built` that has not run."""
    monkeypatch.setattr(build, "built", functools.cache(build.built.__wrapped__))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SUBMILLION_KERNELS", raising=False)
    yield tmp_path / "cache" / "submillion"


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


@COMPILED
def test_the_libraries_are_compiled_once(fresh: Path) -> None:
    assert set(build.built().libraries) == {torch.float32, torch.bfloat16}
    files = {path: path.stat().st_mtime_ns for path in fresh.iterdir()}
    assert len(files) == 2 and all(path.suffix == ".so" for path in files)
    build.built.cache_clear()  # as the next process would
    assert build.built().libraries and {path: path.stat().st_mtime_ns for path in fresh.iterdir()} == files


@COMPILED
def test_another_processor_or_compiler_makes_its_own(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build.built()
    monkeypatch.setattr(build, "_processor", lambda: "another")
    build.built.cache_clear()
    assert build.built().libraries and len(list(fresh.iterdir())) == 4
    compiler = fresh.parent.parent / "cc"
    monkeypatch.setenv("CC", str(compiler))
    for version in (1, 2):
        compiler.write_text(f'#!/bin/sh\n# {version}\nexec {shutil.which("cc") or "gcc"} "$@"\n', encoding="utf-8")
        compiler.chmod(0o755)
        build.built.cache_clear()
        assert build.built().libraries and len(list(fresh.iterdir())) == 4 + 2 * version


def test_without_a_compiler_torch_s_operations_stand_in(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    assert build.built() == Built({}, "torch's own, slower: no C compiler (cc, gcc or $CC) was found")
    x = torch.randn(16)
    torch.testing.assert_close(gelu(x.clone()), torch.nn.functional.gelu(x))


@pytest.mark.parametrize(
    ("script", "error_part"),
    [("echo in this function: >&2; echo error: no such flag >&2; exit 1", "error: no such flag"), ("true", "kernels-")],
)
def test_a_compiler_that_fails_is_named(
    script: str, error_part: str, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = fresh.parent.parent / "broken-cc"
    compiler.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    libraries, reason = build.built()
    assert libraries == {} and "broken-cc or the loader failed" in reason and error_part in reason
    assert not list(fresh.glob("*")), "nothing half-made stays"


def test_they_can_be_turned_off(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUBMILLION_KERNELS", "off")
    assert build.built() == Built({}, "torch's own: SUBMILLION_KERNELS=off") and not fresh.exists()


@COMPILED
@pytest.mark.parametrize("home", [False, True])
def test_a_folder_that_stays_is_not_needed(
    home: bool, fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file in its place", encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(build.tempfile, "tempdir", str(tmp_path / "elsewhere"))
    if not home:
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", no_home)
    assert build.built().libraries and not list((tmp_path / "elsewhere").iterdir())


@COMPILED
def test_a_library_that_was_cut_short_is_made_again(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    build.built()
    other = tmp_path / "other" / "submillion"  # for the loader knows a path that it has loaded
    other.mkdir(parents=True)
    for path in fresh.iterdir():
        (other / path.name).write_bytes(path.read_bytes()[:100])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    build.built.cache_clear()
    assert build.built().libraries and all(path.stat().st_size > 1000 for path in other.iterdir())


def test_without_avx512_torch_s_operations_are_faster(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert build.built() == Built({}, "torch's own: the compiled ones want AVX-512, this processor has AVX2")


@COMPILED
@pytest.mark.parametrize("size", [24, 40, 12])
def test_sizes_that_do_not_fill_a_vector_are_torch_s(size: int) -> None:
    assert not build.serve(torch.zeros(2, size), size) and build.serve(torch.zeros(2, 32), 32)
    assert not build.serve(torch.zeros(2, 32, dtype=torch.float64), 32)


@COMPILED
def test_they_share_torch_s_threads() -> None:
    """With an OpenMP library of its own, the C code's threads would wait for torch's, which spin before they sleep."""
    script = (
        "import torch, pathlib; from submillion.model.cpu import build, kernels; build.built();"
        "torch.ones(4096, 4096).sum(); kernels.gelu(torch.ones(1 << 20), False);"
        "maps = pathlib.Path('/proc/self/maps').read_text();"
        "print({line.split()[-1] for line in maps.splitlines() if 'gomp' in line})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert len(eval(done.stdout)) == 1, done.stdout
