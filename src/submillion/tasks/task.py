"""The interface of a task: what a label is, from the targets of training to the answers of prediction.

One label a text is `one_label.OneLabel`. Several labels a text, ordered labels and numbers need a class each with the
same methods: no other room asks how many labels a text may have.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor


class Task(Protocol):
    """Targets are what training compares logits with: int64 [rows], an index into `label_names`, for one label a text.

    Scores are logits or probabilities, float [rows, outputs]: the same answers follow from both.
    """

    @property
    def kind(self) -> str:
        """Returns the name under which a saved model keeps the task, such as "one label"."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """Returns the label names, in the order of the logits."""

    @property
    def num_outputs(self) -> int:
        """Returns the number of logits for each text: the size of the head's last layer."""

    def targets(self, labels: Sequence[str]) -> np.ndarray:
        """Returns the targets of labelled rows. Raises ValueError for a label that is not in `label_names`."""

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the loss of each row, fp32 [batch]."""

    def disagreement(self, logits: Tensor, other_logits: Tensor) -> Tensor:
        """Returns how far two answers for the same rows are apart, fp32 [batch], differentiable, 0 for equal ones."""

    def class_weights(self, targets: np.ndarray, balanced: bool) -> Tensor:
        """Returns a weight for each output, fp32 [outputs]. balanced: rare labels weigh more."""

    def row_weights(self, targets: Tensor, class_weights: Tensor) -> Tensor:
        """Returns what each row weighs in the loss, fp32 [batch]."""

    def probabilities(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """Returns the probabilities of the outputs, of the dtype of the logits, float [rows, outputs]."""

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Returns the predicted targets."""

    def names(self, targets: np.ndarray) -> list[Any]:
        """Returns targets as people read them: a label name for each row, for one label a text."""

    def is_right(self, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns whether each row's answer is right, bool [rows]."""

    def count_right(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the number of right rows, a scalar on the logits' device: no copy waits for a GPU."""

    def confidence(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns the probability that the model gives to each row's answer, float [rows]."""

    def support(self, probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns the probability that the model gives to each row's target, float [rows]."""

    def margins(self, logits: np.ndarray) -> np.ndarray:
        """Returns how much each row's logits may change before its answer does, float [rows]."""

    def count(self, targets: np.ndarray) -> np.ndarray:
        """Returns how many rows have each label, int64 [labels]."""

    def metrics(self, logits: np.ndarray, targets: np.ndarray, overlap: np.ndarray | None = None) -> dict[str, Any]:
        """Returns the metrics of these rows, for metrics.json."""

    def calibration(self, probabilities: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
        """Returns how far the probabilities can be believed, for metrics.json."""

    def fit_temperature(self, logits: np.ndarray, targets: np.ndarray, least_rows: int = 0) -> float:
        """Returns the temperature that these rows ask for; 1 for fewer rows than `least_rows`, or than a fit needs."""
