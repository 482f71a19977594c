"""What the trainings of a run with few labels begin from, and what self-training sees."""

from typing import Any

import numpy as np
import pytest
from torch import Tensor

from submillion.model.classifier import TextClassifier
from submillion.tasks.task import Task
from submillion.training import run
from submillion.training.few_labels import self_labelling
from submillion.training.few_labels.selftraining import SelfTrained
from submillion.training.loop import FitResult
from submillion.training.rows import TokenRows


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, dict[str, Tensor]]]:
    """The number of rows of each training, and the parameters that it starts from."""
    seen: list[tuple[int, dict[str, Tensor]]] = []
    original = run.fit

    def fit(network: TextClassifier, task: Task, rows: TokenRows, *rest: Any) -> FitResult:
        seen.append((len(rows), network.snapshot()))
        return original(network, task, rows, *rest)

    monkeypatch.setattr(run, "fit", fit)
    return seen


@pytest.fixture
def features_seen(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """What self-training saw of the labelled rows, of the texts and of the validation rows."""
    seen: list[np.ndarray] = []
    original = self_labelling.self_label

    def self_label(features: np.ndarray, labels: np.ndarray, *rest: Any) -> SelfTrained:
        seen.extend((features, *rest[:2]))
        return original(features, labels, *rest)

    monkeypatch.setattr(self_labelling, "self_label", self_label)
    return seen
