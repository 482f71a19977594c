"""A full disk is found before training; where it is full only after it, the trained model is whole in another place."""

import errno
import os
import re
import shutil
import subprocess
import tempfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from news import news_rows, run_of, write_csv

from submillion import atomic
from submillion.cli import main
from submillion.commands import train as train_module
from submillion.commands.train import train
from submillion.config.resolve import resolve
from submillion.config.values import flag_name
from submillion.errors import ConfigError, SavingError
from submillion.inference.classifier import Classifier
from submillion.report import run_files as saving
from submillion.training.result import RunResult

MODEL_FILES = {"model.pt", "README.md", "config.toml", "metrics.json", "history.jsonl", "loss.png", "accuracy.png"}
TEXTS = [text for text, _ in news_rows(5, seed=1)]
Mount = Callable[[str, int], Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts an empty disk of so many bytes in tmp_path."""
    mounted: list[Path] = []

    def mount_one(name: str, size: int) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        argv = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if os.name != "posix" or os.geteuid() != 0 or subprocess.run(argv, capture_output=True).returncode != 0:
            pytest.skip("only root may mount a small disk, and not in every container")
        mounted.append(folder)
        return folder

    yield mount_one
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder for this test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def after_training(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Has something happen once training is over, before anything is saved."""
    original = train_module.measure

    def arrange(happen: Callable[[], object]) -> None:
        def measure(*arguments: Any) -> RunResult:
            happen()
            return original(*arguments)

        monkeypatch.setattr(train_module, "measure", measure)

    return arrange


def refuse_writes(monkeypatch: pytest.MonkeyPatch, number: int, *folders: Path) -> None:
    """Has writing model.pt in these folders, or below them, fail as the system does, with this number."""
    original = atomic.NamedTemporaryFile

    def refuse(*arguments: Any, **options: Any) -> Any:
        place = Path(options["dir"])
        if options.get("prefix") == ".model.pt." and any(
            place == folder or folder in place.parents for folder in folders
        ):
            raise OSError(number, os.strerror(number))
        return original(*arguments, **options)

    monkeypatch.setattr(atomic, "NamedTemporaryFile", refuse)


def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def learn(*_: object) -> None:
        raise AssertionError("training began")

    monkeypatch.setattr(train_module, "learn", learn)


def files_below(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def train_command(run: dict[str, Any], data: Path) -> int:
    flags = [word for key, value in run.items() for word in (flag_name(key), str(value))]
    return main(["train", "--data.source", str(data), *flags])


def train_with_assets(overrides: dict[str, Any], assets: Path) -> None:
    """Trains with a second folder for the plots."""
    train_module.train_resolved(resolve(overrides=overrides), news_rows(8), assets=assets)


def rescued_folder(message: str) -> Path:
    found = re.search(r"it is saved whole in (.+)\n", message)
    assert found is not None
    return Path(found[1])


# Before training


def test_a_small_disk_is_refused_before_training(
    mount: Mount, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    disk, data = mount("disk", 2**20), write_csv(tmp_path / "rows.csv", news_rows(8))
    no_training(monkeypatch)
    assert train_command(run_of(tiny_base, tmp_path) | {"output.dir": str(disk / "model")}, data) == 2
    error = capsys.readouterr().err
    assert re.search(rf"--output\.dir {disk}/model: expected 2\.\d MB free on this disk .*, found 1\.0 MB\n", error)
    assert "\nfix: free some space there, or name a folder on another disk with --output.dir\n" in error
    assert files_below(disk) == set()


def test_the_room_for_the_plots_is_needed_too(
    mount: Mount, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_training(monkeypatch)
    small = mount("small", 2**19)
    with pytest.raises(ConfigError, match=r"small: expected 1\.0 MB free on this disk.*, found 0\.5 MB") as caught:
        train_with_assets(run_of(tiny_base, tmp_path), small)
    assert str(caught.value).endswith("\nfix: free some space there")
    both = mount("both", 5 * 2**19)  # has room for either
    with pytest.raises(ConfigError, match=r"--output\.dir .*/model and .*/assets: expected 3\.2 MB"):
        train_with_assets(run_of(tiny_base, tmp_path) | {"output.dir": str(both / "model")}, both / "assets")


DiskUsage = namedtuple("DiskUsage", "total used free")


def test_the_room_grows_with_what_trains(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving.shutil, "disk_usage", lambda _: DiskUsage(10**9, 10**9 - 3_500_000, 3_500_000))
    run = run_of(tiny_base, tmp_path, train__epochs=1)
    train(data=news_rows(8), overrides=run)
    no_training(monkeypatch)
    with pytest.raises(ConfigError, match=r"expected 4\.0 MB free on this disk .*, found 3\.5 MB"):
        train(data=news_rows(8), overrides=run | {"model.ngram_buckets": 80_000})  # of 3 labels: 1 MB, twice


def test_a_disk_that_tells_no_sizes_is_tried(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving.shutil, "disk_usage", lambda _: DiskUsage(0, 0, 0))
    assert files_below(train(data=news_rows(8), overrides=run_of(tiny_base, tmp_path, train__epochs=1)).folder)


# After training


def test_a_disk_that_fills_up_while_training_loses_no_model(
    mount: Mount,
    temporary: Path,
    after_training: Callable[[Callable[[], object]], None],
    tiny_base: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    disk, data = mount("disk", 8 * 2**20), write_csv(tmp_path / "rows.csv", news_rows(8))
    filler = disk / "filler"
    after_training(lambda: filler.write_bytes(bytes(shutil.disk_usage(disk).free - 2**16)))
    run = run_of(tiny_base, tmp_path, train__epochs=1) | {"output.dir": str(disk / "model")}
    assert train_command(run, data) == 2
    error = capsys.readouterr().err
    assert f"--output.dir {disk / 'model'}: the trained model cannot be saved there: No space left on device\n" in error
    assert "fix: free some space there, and copy it: " in error and "Traceback" not in error
    folder = rescued_folder(error)
    assert folder.parent == temporary and files_below(folder) == MODEL_FILES
    assert files_below(disk) == {"filler"}
    filler.unlink()
    command = re.search(r"copy it: (.+); or use it where it is", error)
    assert command is not None
    subprocess.run(command[1], shell=True, check=True)
    assert files_below(disk) == MODEL_FILES
    whole = train(data=data, overrides=run | {"output.dir": str(tmp_path / "whole")}).classifier
    assert Classifier.load(disk / "model").logits(TEXTS).tolist() == whole.logits(TEXTS).tolist()


@pytest.mark.parametrize(
    ("number", "reason", "fix"),
    [
        (errno.ENOSPC, "No space left on device", "free some space there"),
        (errno.EROFS, "Read-only file system", "mount it writable"),
        (errno.EACCES, "Permission denied", "make it writable for you"),
        (errno.EIO, "Input/output error", "make it a folder that can be written"),
    ],
)
def test_a_model_that_its_folder_does_not_take_is_saved_beside_it(
    number: int, reason: str, fix: str, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tiny_base, tmp_path, train__epochs=1)
    folder = train(data=news_rows(8), overrides=run).folder
    before = {path: path.read_bytes() for path in folder.iterdir()}
    refuse_writes(monkeypatch, number, folder)
    with pytest.raises(
        SavingError, match=f"cannot be saved there: {reason}\n(?s:.*)\nfix: {fix}, and copy it"
    ) as caught:
        train(data=news_rows(8), overrides=run | {"lora.rank": 3})
    assert {path: path.read_bytes() for path in folder.iterdir()} == before  # the earlier model with its own card
    rescued = rescued_folder(str(caught.value))
    assert rescued.parent == tmp_path and files_below(rescued) == MODEL_FILES
    assert Classifier.load(rescued).config.lora.rank == 3


def test_a_model_goes_home_where_nothing_nearer_takes_it(
    temporary: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, output = tmp_path / "home", tmp_path / "output"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    run = run_of(tiny_base, output, train__epochs=1)
    refuse_writes(monkeypatch, errno.ENOSPC, output, temporary)
    with pytest.raises(SavingError) as caught:
        train(data=news_rows(8), overrides=run)
    assert rescued_folder(str(caught.value)).parent == home
    assert files_below(output) == files_below(temporary) == set()


def test_a_model_that_no_place_takes_is_lost_and_each_place_is_named(
    temporary: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "no home"))
    refuse_writes(monkeypatch, errno.ENOSPC, tmp_path)
    with pytest.raises(SavingError) as caught:
        train(data=news_rows(8), overrides=run_of(tiny_base, tmp_path, train__epochs=1))
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines[1:-1]] == [
        f"nor in {place}" for place in (tmp_path, temporary, tmp_path / "no home")
    ]
    assert lines[2].endswith(": No space left on device") and lines[3].endswith(": No such file or directory")
    assert lines[-1] == "fix: free some space there, and train again" and files_below(tmp_path) == set()


def test_a_folder_that_vanished_is_made_again(
    after_training: Callable[[Callable[[], object]], None], tiny_base: Path, tmp_path: Path
) -> None:
    after_training(lambda: shutil.rmtree(tmp_path / "best_model"))
    result = train(data=news_rows(8), overrides=run_of(tiny_base, tmp_path, train__epochs=1))
    assert files_below(result.folder) == MODEL_FILES


def test_plots_that_cannot_be_written_lose_no_model(
    after_training: Callable[[Callable[[], object]], None], tiny_base: Path, tmp_path: Path
) -> None:
    def become_a_file() -> None:
        (tmp_path / "assets").rmdir()
        (tmp_path / "assets").write_text("")

    after_training(become_a_file)
    with pytest.raises(SavingError, match=r"/assets: the plots cannot be written there.*\nthe model is saved"):
        train_with_assets(run_of(tiny_base, tmp_path, train__epochs=1), tmp_path / "assets")
    assert files_below(tmp_path / "best_model") == MODEL_FILES
    Classifier.load(tmp_path / "best_model")
