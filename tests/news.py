"""A small labelled corpus that a tiny model learns in seconds, and the run that learns it."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from submillion.inference.artefact import Artefact

_OWN = """
Business: oil price stock market shares profit
Sports: team game season coach player league
World: country president election minister vote war
"""
OWN_WORDS = {label: words.split() for label, _, words in (line.partition(": ") for line in _OWN.strip().split("\n"))}
LABELS = tuple(OWN_WORDS)
ANY_WORDS = ("the", "of", "and", "to", "in", "on", "for", "at", "with", "by", "from", "as")
ROWS_A_LABEL = 120
# 120 rows a label: 24 for the test, 12 for validation, 84 to train on; 252 rows are 16 batches of 16.
TEST_ROWS, VALIDATION_ROWS, STEPS_AN_EPOCH, EPOCHS = 72, 36, 16, 5


def news_rows(rows_a_label: int = ROWS_A_LABEL, seed: int = 0) -> list[tuple[str, str]]:
    """(text, label): two words in three are the label's own, the others say nothing."""
    rng = np.random.default_rng(seed)
    rows = []
    for label in LABELS * rows_a_label:
        length = int(rng.integers(8, 16))
        own = rng.random(length) < 2 / 3
        words = np.where(own, rng.choice(OWN_WORDS[label], length), rng.choice(ANY_WORDS, length))
        rows.append((" ".join(words), label))
    return rows


def shuffled_labels(rows: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    labels = np.random.default_rng(0).permutation([label for _, label in rows])
    return [(text, str(label)) for (text, _), label in zip(rows, labels, strict=True)]


def write_csv(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = ("text", "label")) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def read_csv(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def run_of(base: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    """Overrides for a run on the tiny base that leaves everything in `folder`; a__b stands for the key a.b."""
    return {
        "model.base": str(base),
        "model.max_length": 32,
        "model.head": "linear",
        "data.validation_fraction": 0.125,
        "train.batch_size": 16,
        "train.epochs": EPOCHS,
        "train.learning_rate": 2e-2,
        "train.precision": "fp32",
        "output.dir": str(folder / "best_model"),
    } | {key.replace("__", "."): value for key, value in changes.items()}


def assert_same_tensors(left: Path, right: Path) -> None:
    """The tensors of two models are equal bit for bit."""
    first, second = Artefact.load(left).tensors, Artefact.load(right).tensors
    assert list(first) == list(second)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
