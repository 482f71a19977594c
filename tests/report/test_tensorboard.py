"""Event files, read back with tensorboard itself."""

import resource
import sys
import threading
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import CPU, HELD_OUT, learnable_rows, some_of, tiny_classifier

from submillion.config.schema import TrainConfig
from submillion.errors import ConfigError
from submillion.report.tensorboard import TAGS, check_tensorboard, event_writer
from submillion.tasks.one_label import OneLabel
from submillion.training.loop import fit


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """{tag: [(step, value), ...]}"""
    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_every_number_of_the_history_is_there_while_training_goes_on(tmp_path: Path) -> None:
    seen: list[int] = []
    with event_writer(str(tmp_path)) as write:
        assert write

        def record(values: dict) -> None:
            write(values)
            seen.append(len(scalars(tmp_path)["train/loss"]))

        rows = learnable_rows()
        train, validation = some_of(rows, range(HELD_OUT, len(rows))), some_of(rows, range(HELD_OUT))
        config = TrainConfig(epochs=2, learning_rate=1e-2, precision="fp32")
        result = fit(tiny_classifier(), OneLabel(("a", "b", "c")), train, validation, config, 0, CPU, on_record=record)
    assert seen == list(range(1, len(result.history) + 1))
    found = scalars(tmp_path)
    assert set(found) == set(TAGS.values())
    for key, tag in TAGS.items():
        expected = [(line["step"], line[key]) for line in result.history if key in line]
        assert [step for step, _ in found[tag]] == [step for step, _ in expected]
        assert [value for _, value in found[tag]] == pytest.approx([value for _, value in expected])
    assert 0 < len(found["validation/loss"]) < len(found["train/loss"])


def test_a_disk_that_is_full_is_told_once_and_training_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)  # tensorboard's thread raises, and tells the caller
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with event_writer(str(tmp_path)) as write:
        assert write
        write({"step": 1, "train_loss": 0.5})
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))  # bytes that a file may have
        try:
            for step in range(2, 9):
                write({"step": step, "train_loss": 0.5})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert capsys.readouterr().err.count("File too large: nothing more is written to") == 1
    assert scalars(tmp_path)["train/loss"][0] == (1, 0.5)


def test_no_folder_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with event_writer("") as write:
        assert write is None
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConfigError, match=r"needs the package tensorboard .*\nfix: pip install tensorboard"):
        check_tensorboard()
