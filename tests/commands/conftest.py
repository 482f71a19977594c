"""A run of one pass, and predictions by the command, for all tests of commands."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from answers import Rows, answers_of, write
from news import run_of

from submillion.cli import main
from submillion.commands.train import TrainResult, train


@pytest.fixture(scope="session")
def one_epoch(tiny_base: Path, news_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return train(data=news_csv, overrides=run_of(tiny_base, tmp_path_factory.mktemp("one_epoch"), train__epochs=1))


@pytest.fixture
def predict(
    trained: TrainResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[list[dict[str, Any]], str]]:
    """Predicts rows, or a file, by the command; returns the answers and what was printed."""

    def run(rows: Rows | Path, *flags: str, kind: str = "csv", out: str = "csv") -> tuple[list[dict[str, Any]], str]:
        path = rows if isinstance(rows, Path) else write(tmp_path / f"rows.{kind}", rows)
        output = tmp_path / f"answers.{out}"
        code = main(["predict", str(path), "--model", str(trained.folder), "--output", str(output), *flags])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return answers_of(output), printed.out

    return run


@pytest.fixture
def refused(trained: TrainResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The error of a prediction that is refused and writes nothing."""

    def run(path: Path, *flags: str) -> str:
        output = tmp_path / "answers.csv"
        assert main(["predict", str(path), "--model", str(trained.folder), "--output", str(output), *flags]) == 2
        assert not output.exists()
        return capsys.readouterr().err

    return run
