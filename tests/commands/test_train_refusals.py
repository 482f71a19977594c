"""What a run refuses before it starts, and what Ctrl-C leaves of it."""

import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from news import news_rows, run_of
from runs import ADAPTERS, HEAD, files_below, metrics_file

from submillion.commands import train as train_module
from submillion.commands.train import train
from submillion.errors import BaseModelError, BudgetError, ConfigError, DataError
from submillion.inference.classifier import Classifier
from submillion.training.result import RunResult


def test_a_missing_tensorboard_is_told_before_anything_is_read(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConfigError, match="needs the package tensorboard"):
        train(data=tmp_path / "missing.csv", overrides=run_of(tiny_base, tmp_path, output__tensorboard=tmp_path / "e"))
    assert list(tmp_path.iterdir()) == []


def test_the_budget_is_held_before_the_data_is_read(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="exceed the budget of 500 by"):
        train(data=tmp_path / "missing.csv", overrides=run_of(tiny_base, tmp_path, budget=500))
    with pytest.raises(DataError, match=r"missing\.csv"):  # and that is what it would have met next
        train(data=tmp_path / "missing.csv", overrides=run_of(tiny_base, tmp_path))
    assert files_below(tmp_path) == set()


def test_the_budget_is_held_before_a_well_known_base_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"--lora\.rank 11 "):
        train("seed", overrides={"lora.rank": 64, "output.dir": str(tmp_path)})


def test_the_budget_is_held_again_with_the_labels_that_the_data_has(
    tiny_base: Path, news_csv: Path, tmp_path: Path
) -> None:
    one_too_few = HEAD + ADAPTERS - 1  # enough for two labels
    with pytest.raises(BudgetError, match="611 trainable parameters"):
        train(data=news_csv, overrides=run_of(tiny_base, tmp_path, budget=one_too_few))
    assert files_below(tmp_path) == set()


def test_a_row_longer_than_the_position_table_is_refused_before_the_data_is_read(
    tiny_base: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"fix: --model\.max-length 160, or less"):
        train(data=tmp_path / "missing.csv", overrides=run_of(tiny_base, tmp_path, model__max_length=161))


def test_a_tokenizer_with_more_ids_than_the_base_has_embeddings_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    with (base / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("airport\n")
    with pytest.raises(BaseModelError, match=r"expected: at most vocab_size = \d+ ids"):
        train(data=news_rows(20), overrides=run_of(base, tmp_path))


@pytest.mark.parametrize("name", ["README.md", "config.toml", "metrics.json", "history.jsonl"])
def test_a_folder_with_files_of_somebody_else_is_refused(name: str, tiny_base: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"found {re.escape(name)} without a model.pt"):
        train(data=news_rows(4), overrides=run_of(tiny_base, tmp_path) | {"output.dir": str(tmp_path)})
    assert (tmp_path / name).read_text(encoding="utf-8") == "mine"


def test_a_name_that_no_utf_8_holds_is_refused_before_training(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.source: expected text that UTF-8 can hold, found .*caf"):
        train(data=f"{tmp_path}/caf\udce9.csv", overrides=run_of(tiny_base, tmp_path))
    assert not (tmp_path / "best_model").exists()


# Ctrl-C


@pytest.fixture
def control_c(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Presses Ctrl-C so many times once training is over, before the first row is measured."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    original = train_module.measure

    def press(times: int) -> None:
        def measured(*arguments: Any) -> RunResult:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
            return original(*arguments)

        monkeypatch.setattr(train_module, "measure", measured)

    yield press
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_after_training_waits_until_the_model_is_saved(
    tiny_base: Path, tmp_path: Path, control_c: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    control_c(1)
    with pytest.raises(KeyboardInterrupt):
        train(data=news_rows(20, seed=1), overrides=run_of(tiny_base, tmp_path))
    printed = capsys.readouterr()
    assert "training is over: the model is measured and saved first; Ctrl-C again to give up" in printed.err
    assert "test accuracy" in printed.out and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    saved = tmp_path / "best_model"
    metrics = metrics_file(saved)
    assert metrics["steps"] == metrics["planned_steps"] and not metrics["interrupted"]
    assert Classifier.load(saved / "model.pt").predict(["the season"])


def test_ctrl_c_twice_after_training_gives_up(
    tiny_base: Path, tmp_path: Path, control_c: Callable[[int], None]
) -> None:
    control_c(2)
    with pytest.raises(KeyboardInterrupt):
        train(data=news_rows(20, seed=1), overrides=run_of(tiny_base, tmp_path))
    assert not list(tmp_path.rglob("model.pt"))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_program_with_its_own_way_with_ctrl_c_keeps_it(
    tiny_base: Path, tmp_path: Path, control_c: Callable[[int], None]
) -> None:
    seen: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    control_c(2)
    train(data=news_rows(20, seed=1), overrides=run_of(tiny_base, tmp_path))
    assert seen == [signal.SIGINT] * 2
