"""What training minimises: each row's loss, weighted, and how far two answers for a row are apart."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from submillion.errors import TrainingError
from submillion.tasks.task import Task

HEAD_ITERATIONS = 200  # of L-BFGS at most, before the first step; a linear head takes about 50


@dataclass(frozen=True)
class Objective:
    """The loss of rows under a task, with a weight for each of the network's outputs."""

    task: Task
    class_weights: Tensor  # fp32 [outputs], on the device that computes

    def row_weights(self, targets: Tensor) -> Tensor:
        """Returns the weight of each row, fp32 [batch]."""
        return self.task.row_weights(targets, self.class_weights)

    def losses(self, looks: Sequence[Tensor], targets: Tensor) -> Tensor:
        """Returns each row's weighted loss, fp32 [batch].

        looks: logits [batch, outputs] of the rows as they are and, if training adds noise, of the same rows under
        noise. The loss is then the mean of both losses plus how far the two answers are apart: R-Drop
        (arXiv:2106.14448), whose loss is twice this one with an alpha of 2.
        """
        losses = torch.stack([self.task.losses(logits, targets) for logits in looks]).mean(dim=0)
        if len(looks) == 2:
            losses = losses + self.task.disagreement(*looks)
        return losses * self.row_weights(targets)


def fitted_head(head: nn.Module, pooled: np.ndarray, targets: np.ndarray, objective: Objective) -> nn.Module:
    """Returns a copy of the head, in fp64, fitted to pooled states, fp32 [rows, hidden]: LP-FT (arXiv:2202.10054).

    A random head would send the adapters a random gradient first, which spoils features that need not change. A head
    that fits the pretrained features does not. The fit is L-BFGS with scikit-learn's default penalty (C = 1): logistic
    regression, if the head is linear.
    """
    device = objective.class_weights.device
    # In fp64, because the iterations are to stop at a gradient of 0 and not at one that rounding leaves.
    features = torch.from_numpy(pooled).to(device, torch.float64)
    head = copy.deepcopy(head).double()
    exact = Objective(objective.task, objective.class_weights.double())
    goal = torch.from_numpy(targets).to(device)
    total_weight = exact.row_weights(goal).sum()
    # The scale of a norm is penalised too: otherwise it would grow to make up for smaller matrices.
    scales = [parameter for name, parameter in head.named_parameters() if not name.endswith("bias")]
    optimizer = torch.optim.LBFGS(
        head.parameters(),
        max_iter=HEAD_ITERATIONS,
        tolerance_grad=1e-6,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        penalty = torch.stack([scale.square().sum() for scale in scales]).sum() / 2
        loss = (exact.losses([head(features)], goal).sum() + penalty) / total_weight
        loss.backward()
        return loss

    optimizer.step(closure)
    return head


def check_finite(values: Tensor, rows: np.ndarray, step: int) -> None:
    """Raises TrainingError, naming the rows, if a value is infinite or not a number.

    values: a loss for each row [batch], or the norm of the gradient over all these rows, a scalar. step: counted from
    0.
    """
    finite = torch.isfinite(values).numpy()
    if finite.all():
        return
    what = "the loss" if values.ndim else "the gradient"
    shown = rows[~finite] if values.ndim else rows
    raise not_finite(
        what, f"at step {step + 1}, training rows {shown[:8].tolist()} (counted from 0 in the training split)"
    )


def not_finite(what: str, where: str) -> TrainingError:
    """Returns the error for a value that is infinite or not a number, with the likely causes."""
    return TrainingError(
        f"{what} is not finite {where}\nlikely: the learning rate is too high (--train.learning-rate), "
        "or bf16 overflows (--train.precision fp32)\nNothing was saved."
    )
