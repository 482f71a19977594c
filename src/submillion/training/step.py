"""One optimiser step: forward, back, sum over the processes, clip, update."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from submillion.process.forks import piece_of_work
from submillion.runtime.batches import CPU_TOKENS, Batch, parts_of_batch
from submillion.runtime.device import Compute
from submillion.runtime.distributed import World
from submillion.runtime.forward import model_inputs, pooled_states
from submillion.runtime.gpu import Later, graphed, to_device
from submillion.runtime.prefix import Prefix
from submillion.text.tokenizer import Tokens
from submillion.training.objective import Objective, check_finite
from submillion.training.rows import TokenRows
from submillion.training.state import TrainState, trained_by_steps

MAX_GRAD_NORM = 1.0


class Step:
    """An optimiser step on one batch: forward, back, sum over the processes, clip, update."""

    def __init__(
        self,
        state: TrainState,
        train: TokenRows,
        objective: Objective,
        compute: Compute,
        world: World,
        prefix: Prefix | None,
    ) -> None:
        self.state, self.train, self.objective, self.compute, self.world = state, train, objective, compute, world
        self.prefix = prefix
        self.parameters = trained_by_steps(state.network)
        # A GPU's numbers are checked one step late, so that the next step is queued before anything waits for this one.
        self._finite = Later(check_finite)
        self._run_part = self._part

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Runs the parts of steps within it as CUDA graphs, on a GPU."""
        with graphed(self._part, self.parameters, self.compute.device) as self._run_part:
            yield

    def show(self, looks: Sequence[Tokens], lengths: np.ndarray) -> None:
        """Sets the tokens for the next steps.

        looks: the rows as they are and, if training adds noise, the same rows under noise. lengths: the number of
        tokens of each row, int64 [rows], the larger one if there are two looks.
        """
        self._looks, self._lengths = len(looks), lengths
        self._tokens = Tokens.joined(looks) if len(looks) > 1 else looks[0]

    def take(self, rows: np.ndarray, learning_rate: float) -> Tensor:
        """Trains on one batch, int64 [batch] indices of training rows. Returns the gradient's norm before clipping.

        Raises TrainingError if a loss or the gradient is not finite (on a GPU, `settle` does so later), and
        DistributedError if a process is gone.
        """
        state, device = self.state, self.compute.device
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate
        # The mean is over the batch of all processes and parts, so each part divides by the whole batch's weight.
        targets = to_device(torch.from_numpy(self.train.targets[rows]), device)
        total_weight = self.objective.row_weights(targets).sum()
        state.optimizer.zero_grad(set_to_none=True)
        for part in self._parts(self.world.share(rows)):
            with piece_of_work():
                self._forward_and_back(part, total_weight)
        self.world.sum_gradients(self.parameters)
        grad_norm = torch.nn.utils.clip_grad_norm_(self.parameters, MAX_GRAD_NORM)
        self._finite.add(state.step, grad_norm, rows, state.step)
        state.optimizer.step()
        state.step += 1
        state.rows_done += len(rows)
        return grad_norm

    def settle(self, all_steps: bool) -> None:
        """Raises TrainingError if a loss or gradient is not finite, in any step so far or in any but the last."""
        self._finite.settle(before=self.state.step if all_steps else self.state.step - 1)

    def _parts(self, rows: np.ndarray) -> list[np.ndarray]:
        """Cuts this process's rows of a batch into the parts that go forward and back at once.

        On a CPU, a batch of long rows is cut to bound its memory. On a GPU it stays whole, because each shape needs a
        graph. There are no parts if a short batch leaves a process without rows.
        """
        if not len(rows):
            return []
        if self.compute.device.type == "cuda":
            return [rows]
        return parts_of_batch(self._lengths * self._looks, rows, CPU_TOKENS)

    def _forward_and_back(self, rows: np.ndarray, total_weight: Tensor) -> None:
        state = self.state
        targets = to_device(torch.from_numpy(self.train.targets[rows]), self.compute.device)
        rows_of_looks = np.concatenate([rows + look * len(self.train) for look in range(self._looks)])
        batch = model_inputs(state.network, self._tokens, rows_of_looks, self.compute, self.prefix)
        losses, logits = self._run_part(targets, total_weight, *batch)
        self._finite.add(state.step, losses, rows, state.step)
        state.window.add(self.objective.task, logits, losses, targets)

    def _part(self, targets: Tensor, total_weight: Tensor, x: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Adds to the gradients, and returns each row's loss and the logits of the first look.

        It reads no tensor's values: what a CUDA graph records must not depend on them.
        """
        network, dropout = self.state.network, self.state.dropout
        pooled = pooled_states(network, Batch(x, attention_mask), self.prefix, dropout)
        looks = network.head(pooled, dropout).split(len(targets))
        losses = self.objective.losses(looks, targets)
        (losses.sum() / total_weight).backward()
        return losses.detach(), looks[0].detach()
