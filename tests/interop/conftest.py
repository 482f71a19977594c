"""One trained model for the whole room: nothing that a test does may change its folder."""

from pathlib import Path

import pytest
from news import news_rows, run_of, write_csv

from submillion.inference.train import TrainResult, train


@pytest.fixture(scope="session")
def news_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("news") / "news.csv", news_rows())


@pytest.fixture(scope="session")
def trained(tiny_base: Path, news_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    folder = tmp_path_factory.mktemp("trained")
    return train(data=news_csv, overrides=run_of(tiny_base, folder, lora__rank=4, lora__targets=["all-linear"]))
