"""The state of a training run: all that changes from step to step."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from submillion.model.classifier import TextClassifier
from submillion.runtime.distributed import World
from submillion.seeds import numpy_generator
from submillion.tasks.task import Task
from submillion.training.dropout import Dropout

WEIGHT_DECAY = 0.01


class Window:
    """Loss and accuracy over this process's training rows since the last logged step, dropout on."""

    def __init__(self, since: float = 0.0) -> None:
        self.since = since  # training seconds at its start
        self.rows = 0
        # Tensors while rows are added: to read one as a number would make a GPU wait.
        self._loss: Tensor | float = 0.0
        self._right: Tensor | float = 0.0

    def add(self, task: Task, logits: Tensor, losses: Tensor, targets: Tensor) -> None:
        self.rows += len(targets)
        self._loss = losses.sum().double() + self._loss
        self._right = task.count_right(logits, targets) + self._right

    def sum_over(self, world: World) -> None:
        """Adds up the windows of all processes, in each of them."""
        sums = torch.tensor([self.rows, float(self._loss), float(self._right)], dtype=torch.float64)
        rows, self._loss, self._right = world.sum_(sums).tolist()
        self.rows = int(rows)

    @property
    def loss(self) -> float:
        return float(self._loss) / max(1, self.rows)

    @property
    def accuracy(self) -> float:
        return float(self._right) / max(1, self.rows)

    def note(self) -> str:
        return f"loss {self.loss:.3f}"


@dataclass
class Best:
    """The trained tensors of the lowest validation loss so far."""

    step: int = 0  # 0: there was no evaluation yet
    loss: float = float("inf")
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def update(self, step: int, loss: float, network: TextClassifier) -> None:
        if loss < self.loss:
            self.step, self.loss, self.tensors = step, loss, network.snapshot()


@dataclass
class TrainState:
    """All that a run needs to go on from here, beside its configuration and its rows.

    It holds every generator of the run: two runs with equal states take equal steps.
    """

    network: TextClassifier
    optimizer: torch.optim.Optimizer
    order: np.random.Generator  # of rows and batches
    dropout: Dropout
    step: int = 0  # optimiser steps done
    rows_done: int = 0
    training_seconds: float = 0.0  # of steps and what they wait for, without evaluations
    best: Best = field(default_factory=Best)
    window: Window = field(default_factory=Window)
    history: list[dict] = field(default_factory=list)  # a record for each logged step
    interrupted: bool = False  # by Ctrl-C, and the best so far is kept

    @classmethod
    def begin(cls, network: TextClassifier, learning_rate: float, seed: int, rank: int = 0) -> "TrainState":
        """Returns the state before the first step. rank: the process's number; each draws its own dropout masks."""
        optimizer = adamw(trained_by_steps(network), learning_rate)
        return cls(network, optimizer, numpy_generator(seed, "order"), Dropout(seed, rank))


def trained_by_steps(network: TextClassifier) -> list[nn.Parameter]:
    """Returns the parameters that gradient steps train: all but the n-grams, which are fitted at once afterwards."""
    return [parameter for name, parameter in network.trainable().items() if not name.startswith("ngrams.")]


def adamw(parameters: Sequence[nn.Parameter], learning_rate: float) -> torch.optim.AdamW:
    """Returns AdamW (arXiv:1711.05101) with weight decay on matrices alone, not on biases and norms."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate, fused=True)
