"""One of the processes of test_distributed.py, started as `one_process.py CASE FOLDER` in torchrun's environment."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny import CPU, TASK, as_tokens, learnable_rows, some_of, tiny_classifier

from submillion.config.schema import TrainConfig
from submillion.errors import SubmillionError
from submillion.model.spec import AdapterSpec, NetworkSpec
from submillion.runtime.distributed import ALONE, World, join
from submillion.runtime.forward import compute_logits
from submillion.training import objective
from submillion.training.loop import fit
from submillion.training.rows import TokenRows

DATA = learnable_rows(rows=192)
TRAIN = some_of(DATA, range(63, 192))  # 129 = 8 x 16 + 1: in the last batch, the second process has no row
VALIDATION = some_of(DATA, range(63))
CONFIG = TrainConfig(batch_size=16, learning_rate=3e-3, epochs=2, precision="fp32")
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "weighted": {"class_weights": "balanced"},
    "head first": {"few_labels": True},
}
LORA = AdapterSpec(rank=4, alpha=8.0, targets=("all-linear",), dropout=0.0)


def trained(case: str, world: World = ALONE) -> dict[str, np.ndarray]:
    """Returns the final tensors, the validation rows' logits, and the history without timings, [records, values]."""
    model = tiny_classifier(network=NetworkSpec(dropout=0.0), adapters=LORA)
    result = fit(model, TASK, TRAIN, VALIDATION, replace(CONFIG, **CASES[case]), 0, CPU, world)
    keys = ("step", "epoch", "learning_rate", "train_loss", "train_accuracy", "grad_norm")
    keys += ("validation_loss", "validation_accuracy")
    return {name: p.detach().numpy() for name, p in model.trainable().items()} | {
        "logits": compute_logits(model, TASK, VALIDATION.tokens, 16, CPU, world=world),
        "history": np.array([[record.get(key, -1.0) for key in keys] for record in result.history]),
    }


def not_finite(world: World) -> None:
    """Row 3 alone gives no finite loss, so one process alone sees it."""
    model = tiny_classifier(adapters=LORA)
    model.encoder.word_embeddings[60] = float("nan")
    rows = as_tokens([[2, 60 if index == 3 else 20, 3] for index in range(16)])
    fit(model, TASK, TokenRows(rows, np.arange(16) % 3), some_of(DATA, []), CONFIG, 0, CPU, world)


def killed(world: World) -> None:
    """The second process is killed in its third sum of gradients."""
    sums = iter(range(10_000))
    original = World.sum_gradients

    def sum_gradients(self: World, parameters: Any) -> None:
        if next(sums) == 2 and self.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, parameters)

    World.sum_gradients = sum_gradients  # type: ignore[method-assign]
    trained("plain", world)


def main(case: str, folder: Path) -> None:
    with join() as world:
        if case == "not finite":
            not_finite(world)
        elif case == "killed":
            killed(world)
        elif case == "other data":
            VALIDATION.targets[:] = 0
            TRAIN.targets[0] = (TRAIN.targets[0] + world.rank) % 3
            trained("plain", world)
        else:
            objective.HEAD_ITERATIONS //= 1 + world.rank  # as if this machine rounded unlike the first
            for name in CASES:
                np.savez(folder / f"{name}-{world.rank}.npz", **trained(name, world))
    with join() as again:  # a second run in the same processes
        assert again.sum_(torch.ones(2)).tolist() == [2.0, 2.0]
        assert again.from_first(torch.full((2,), again.rank + 7.0)).tolist() == [7.0, 7.0]
        assert again.all(True) and not again.all(again.is_first) and not again.all(False)


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]))
    except SubmillionError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
