"""One trained model for the whole room: nothing that a test does may change its folder."""

from pathlib import Path

import pytest
from news import news_rows, run_of, write_csv

from submillion.inference import learning
from submillion.inference.train import TrainResult, train
from submillion.training.loop import TokenRows


@pytest.fixture(scope="session")
def news_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("news") / "news.csv", news_rows())


@pytest.fixture(scope="session")
def trained(tiny_base: Path, news_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return train(data=news_csv, overrides=run_of(tiny_base, tmp_path_factory.mktemp("trained")))


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal wide enough that no cell of a printed table is cut."""
    monkeypatch.setenv("COLUMNS", "250")


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[TokenRows]:
    """The rows of each training."""
    seen: list[TokenRows] = []
    fit = learning.fit
    monkeypatch.setattr(learning, "fit", lambda network, rows, *rest: seen.append(rows) or fit(network, rows, *rest))
    return seen
