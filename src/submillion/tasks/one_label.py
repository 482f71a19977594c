"""One label a text: softmax, cross-entropy, and the most probable label as the answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from submillion.tasks.calibration import LEAST_ROWS, calibration_metrics, fit_temperature
from submillion.tasks.decoding import most_probable
from submillion.tasks.metrics import classification_metrics


@dataclass(frozen=True)
class OneLabel:
    """Each text has exactly one of `label_names`. Targets are int64 [rows], indices into them."""

    label_names: tuple[str, ...]
    kind: str = "one label"

    @property
    def num_outputs(self) -> int:
        return len(self.label_names)

    def targets(self, labels: Sequence[str]) -> np.ndarray:
        index = {name: place for place, name in enumerate(self.label_names)}
        unknown = sorted(set(labels) - set(index))
        if unknown:
            raise ValueError(f"expected labels out of {', '.join(self.label_names)}, found {', '.join(unknown)}")
        return np.array([index[label] for label in labels], dtype=np.int64)

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets, reduction="none")

    def disagreement(self, logits: Tensor, other_logits: Tensor) -> Tensor:
        """Returns (KL(p, q) + KL(q, p)) / 2 of the two distributions: the term of R-Drop (arXiv:2106.14448)."""
        log_p, log_q = F.log_softmax(logits, dim=1), F.log_softmax(other_logits, dim=1)
        return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(dim=1) / 2

    def class_weights(self, targets: np.ndarray, balanced: bool) -> Tensor:
        """Returns ones, or balanced: n / (labels * n_label), as scikit-learn has it, 0 for a label without rows."""
        if not balanced:
            return torch.ones(self.num_outputs, dtype=torch.float32)
        counts = self.count(targets)
        weights = np.where(counts > 0, len(targets) / (self.num_outputs * np.maximum(counts, 1)), 0.0)
        return torch.from_numpy(weights.astype(np.float32))

    def row_weights(self, targets: Tensor, class_weights: Tensor) -> Tensor:
        return class_weights[targets]

    def probabilities(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        return torch.softmax(torch.from_numpy(logits) / temperature, dim=1).numpy()

    def decode(self, scores: np.ndarray) -> np.ndarray:
        return most_probable(scores)

    def names(self, targets: np.ndarray) -> list[str]:
        return [self.label_names[target] for target in targets]

    def is_right(self, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return most_probable(scores) == targets

    def count_right(self, logits: Tensor, targets: Tensor) -> Tensor:
        return (logits.argmax(dim=1) == targets).sum()

    def confidence(self, probabilities: np.ndarray) -> np.ndarray:
        return probabilities.max(axis=1)

    def support(self, probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return probabilities[np.arange(len(targets)), targets]

    def margins(self, logits: np.ndarray) -> np.ndarray:
        """Returns how far each row's best logit is ahead of its second best."""
        best = np.partition(logits, -2, axis=1)
        return best[:, -1] - best[:, -2]

    def count(self, targets: np.ndarray) -> np.ndarray:
        return np.bincount(targets, minlength=self.num_outputs)

    def metrics(self, logits: np.ndarray, targets: np.ndarray, overlap: np.ndarray | None = None) -> dict[str, Any]:
        return classification_metrics(logits, targets, self.label_names, overlap)

    def calibration(self, probabilities: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
        return calibration_metrics(probabilities, targets)

    def fit_temperature(self, logits: np.ndarray, targets: np.ndarray, least_rows: int = LEAST_ROWS) -> float:
        return fit_temperature(logits, targets, least_rows)
