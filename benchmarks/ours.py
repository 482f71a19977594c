"""Our side: the loop and the model that users get, nothing special to the benchmark."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.rows import LABELS, load_rows
from submillion.config.schema import TARGETS, TrainConfig
from submillion.model.checkpoint import read_checkpoint
from submillion.model.classifier import TextClassifier
from submillion.model.config_json import read_shape
from submillion.model.cpu.products import linear_int8, pack_int8
from submillion.model.shape import EncoderShape
from submillion.model.spec import AdapterSpec, NetworkSpec
from submillion.runtime.device import Compute, choose_compute
from submillion.runtime.forward import compute_logits
from submillion.seeds import torch_generator
from submillion.tasks.one_label import OneLabel
from submillion.text.tokenizer import Tokens
from submillion.training import loop
from submillion.training.rows import TokenRows

TASK = OneLabel(LABELS)


def token_rows(path: str, start: int, stop: int) -> TokenRows:
    ids, labels = load_rows(path, start, stop)
    return TokenRows(Tokens.of_rows(ids), labels)


def train(job: dict[str, Any]) -> dict[str, Any]:
    """Fits the warm-up rows, then the timed rows with a fresh optimiser; only the second fit is reported."""
    shape = read_shape(Path(job["base"]))
    compute = choose_compute("auto")
    before = matmul_peaks(shape, compute)
    network = _network(shape, job, compute)
    warm = token_rows(job["rows"], 0, job["warmup"])
    timed = token_rows(job["rows"], job["warmup"], job["warmup"] + job["timed"])
    none = token_rows(job["rows"], 0, 0)
    loop.fit(network, TASK, warm, none, _config(job, epochs=1), job["seed"], compute)
    config = _config(job, job["epochs"])
    with _memory_by_epoch(len(timed)) as by_epoch:
        result = loop.fit(network, TASK, timed, none, config, job["seed"] + 1, compute)
    after = matmul_peaks(shape, compute)
    losses = [record["train_loss"] for record in result.history]
    return {
        "rows_per_second": result.rows_per_second,
        "real_tokens_per_second": result.rows_per_second * float(timed.tokens.lengths.mean()),
        "first_loss": float(np.mean(losses[:10])),
        "final_loss": float(np.mean(losses[-10:])),
        "steps": result.steps,
        "precision": compute.precision,
        "trainable": sum(p.numel() for p in network.trainable().values()),
        "encoder_parameters": shape.num_layers * shape.layer_parameters,
        "matmul_flops": {kind: max(before[kind], after[kind]) for kind in before},
        "rss_mb_after_epoch": by_epoch,
    }


def predict(job: dict[str, Any]) -> dict[str, Any]:
    """Times `compute_logits` with merged adapters on the rows of the job; for the GPU."""
    shape = read_shape(Path(job["base"]))
    compute = choose_compute("auto")
    network = _network(shape, job, compute).merged()
    rows = token_rows(job["rows"], 0, job["warmup"] + job["timed"])
    compute_logits(network, TASK, rows.tokens, job["batch"], compute)  # every shape once
    start = time.perf_counter()
    compute_logits(network, TASK, rows.tokens, job["batch"], compute)
    seconds = time.perf_counter() - start
    return {
        "rows_per_second": len(rows) / seconds,
        "real_tokens_per_second": float(rows.tokens.lengths.sum()) / seconds,
        "encoder_parameters": shape.num_layers * shape.layer_parameters,
        "matmul_flops": matmul_peaks(shape, compute),
    }


def matmul_peaks(shape: EncoderShape, compute: Compute, repeats: int = 20) -> dict[str, float]:
    """Returns the best rate of `repeats` linear products [tokens, hidden] -> [tokens, 4 hidden], FLOP/s, by type.

    int8 is measured if the run computes in it, with the rounding of the tokens.
    """
    tokens = 16384 if compute.device.type == "cuda" else 1792
    rates = {}
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        x = torch.randn(tokens, shape.hidden_size, dtype=dtype, device=compute.device)
        weight = torch.randn(shape.intermediate_size, shape.hidden_size, dtype=dtype, device=compute.device)
        seconds = min(_seconds(partial(F.linear, x, weight)) for _ in range(repeats + 1))
        rates[name] = 2 * x.numel() * shape.intermediate_size / seconds
        if name == "bf16" and compute.int8:
            product = partial(linear_int8, x, pack_int8(weight), False)
            seconds = min(_seconds(product) for _ in range(repeats + 1))
            rates["int8"] = 2 * x.numel() * shape.intermediate_size / seconds
    return rates


@torch.no_grad()
def _seconds(work: Callable[[], object]) -> float:
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _network(shape: EncoderShape, job: dict[str, Any], compute: Compute) -> TextClassifier:
    targets = TARGETS if job["all_linear"] else ("query", "value")
    # The peers' classes bring the head: one linear layer on BERT's pooler, dense and tanh elsewhere.
    spec = NetworkSpec(head="linear" if shape.family == "bert" else "stock", pooling=job["pooling"], dropout=0.1)
    adapters = AdapterSpec(rank=job["rank"], alpha=job["alpha"], dropout=0.0, targets=targets)
    network = TextClassifier(shape, spec, adapters, len(LABELS), torch_generator(job["seed"], "init"))
    network.encoder.load(read_checkpoint(Path(job["base"])))
    return network.to_compute(compute.dtype, compute.device, compute.int8)


def _config(job: dict[str, Any], epochs: int) -> TrainConfig:
    return TrainConfig(batch_size=job["batch"], learning_rate=job["learning_rate"], epochs=epochs)


@contextmanager
def _memory_by_epoch(rows: int) -> Iterator[list[float]]:
    """Yields the resident memory (MB) when the loop reports the last row of each epoch."""
    measured: list[float] = []
    done = 0

    @contextmanager
    def watching(title: str, total: int, shown: bool = True) -> Iterator[Callable[..., None]]:
        def advance(count: int, note: str = "") -> None:
            nonlocal done
            if (done + count) // rows > done // rows:
                measured.append(resident_mb())
            done += count

        yield advance

    with patch.object(loop, "progress", watching):
        yield measured


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
