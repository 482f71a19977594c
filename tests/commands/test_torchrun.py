"""Whole commands under torchrun: one printout, one set of files, the answers of one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from news import news_rows, run_of, write_csv

from submillion.commands.predict import predict_file
from submillion.commands.train import TrainResult, train
from submillion.inference.artefact import Artefact

TIMEOUT = 240  # seconds


def torchrun(folder: Path, *argv: str) -> "subprocess.CompletedProcess[str]":
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "250"}
    return subprocess.run(
        [*launcher, "-m", "submillion", *argv], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=TIMEOUT,
    )  # fmt: skip


def flags_of(changes: dict) -> list[str]:
    return [word for key, value in changes.items() for word in (f"--{key.replace('_', '-')}", str(value))]


def test_training_leaves_one_set_of_files_equal_to_one_process_s(
    tiny_base: Path, news_csv: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pool = write_csv(tmp_path_factory.mktemp("pool") / "pool.csv", [[text] for text, _ in news_rows(20, 5)], ["text"])
    exact = {"model__dropout": 0.0, "train__epochs": 1, "data__unlabelled": str(pool)}
    exact |= {"model__ngram_buckets": 128, "data__validation_fraction": 0.4}  # rows enough to weigh the n-grams
    shared = run_of(tiny_base, tmp_path / "shared", data__source=news_csv, output__tensorboard="events", **exact)
    done = torchrun(tmp_path, "train", *flags_of(shared))
    assert done.returncode == 0, done.stderr
    [events] = (tmp_path / "events").iterdir()  # of the first process alone
    events.unlink()
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    names = ("model.pt", "metrics.json", "history.jsonl", "config.toml", "README.md", "loss.png", "accuracy.png")
    assert files == {f"shared/best_model/{name}" for name in names}
    assert done.stdout.count("test accuracy") == 1 and done.stdout.count("processes  2") == 1

    alone = train(data=news_csv, overrides=run_of(tiny_base, tmp_path / "alone", **exact))
    found, expected = (Artefact.load(tmp_path / name / "best_model").tensors for name in ("shared", "alone"))
    # AdamW divides a gradient by its own size, so rounding in one near 0 moves a parameter by a share of a step. The
    # shares of the rows are held to 1e-5 in tests/training/test_distributed.py; here a hundredth of one step.
    atol = 0.01 * shared["train.learning_rate"]
    metrics = json.loads((tmp_path / "shared/best_model/metrics.json").read_text(encoding="utf-8"))
    # How much n-grams weigh comes of a search, and is held to less below: here the table as if both had found the same.
    found["ngrams.weight"] *= alone.metrics["ngram_weight"] / metrics["ngram_weight"]
    for name, tensor in expected.items():
        np.testing.assert_allclose(found[name].numpy(), tensor.numpy(), atol=atol, err_msg=name)
    assert metrics["test"]["rows"] == alone.metrics["test"]["rows"]
    assert (
        metrics["ngram_weight"] == pytest.approx(alone.metrics["ngram_weight"], rel=0.02)
        and found["ngrams.weight"].any()
    )
    assert metrics["self_labelled"] == alone.metrics["self_labelled"] == 48


def test_an_error_ends_torchrun_without_a_traceback_of_ours(tiny_base: Path, news_csv: Path, tmp_path: Path) -> None:
    broken = run_of(tiny_base, tmp_path, data__source=news_csv, train__learning_rate=1e38)
    done = torchrun(tmp_path, "train", *flags_of(broken))
    assert done.returncode != 0 and "submillion: error:" in done.stderr and "not finite" in done.stderr
    assert "submillion/runtime" not in done.stderr
    assert not list(tmp_path.rglob("*.pt"))


def test_predict_writes_the_bytes_of_one_process(trained: TrainResult, tmp_path: Path) -> None:
    texts = write_csv(tmp_path / "texts.csv", [[text] for text, _ in news_rows(70, seed=3)], ["text"])
    predict_file(texts, trained.folder, tmp_path / "alone.csv", scores=True)
    argv = ["predict", str(texts), "--model", str(trained.folder), "--output", "shared.csv", "--scores"]
    done = torchrun(tmp_path, *argv)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("210 rows of") == 1
    assert (tmp_path / "shared.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"texts.csv", "alone.csv", "shared.csv"}
