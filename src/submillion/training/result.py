"""What a run found."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from submillion.runtime.int8 import Int8Trial


@dataclass(frozen=True)
class LabelNames:
    """Whether the label names became training rows."""

    right: float  # share of the training rows that are right by the names alone
    read: bool  # whether each name became a training row


@dataclass(frozen=True)
class SelfLabelled:
    """How the unlabelled texts got labels."""

    trained: int  # texts that became training rows
    held_back: int = 0  # texts that did not, so that probabilities are calibrated on them
    right: Mapping[str, float] | None = None
    """Share of the validation rows that "regression" and "adapters" get right, if both were tried."""
    proportions: Mapping[str, float] | None = None
    """Shares of the labels in the texts, by name, if they differ from the training rows'."""


@dataclass(frozen=True)
class CrossValidated:
    """How right the models of all folds are on the rows that each did not learn from."""

    folds: int
    metrics: Mapping[str, Any]  # as `Task.metrics`


@dataclass(frozen=True)
class Temperature:
    """The number that logits are divided by before they become probabilities."""

    value: float = 1.0
    fitted_to: str = ""  # validation, neighbours (texts held back) or folds; "" if it is 1 because nothing was


@dataclass(frozen=True)
class RunResult:
    """The result of a run. metrics.json, the console and the model card show it, each in its own way."""

    validation: Mapping[str, Any] | None
    """Metrics of the validation rows, as `Task.metrics`, with ece and ece_uncalibrated; None without such rows."""
    test: Mapping[str, Any] | None
    parameters: Mapping[str, int]  # trainable, total, total_with_adapters
    rank: int
    window: int  # tokens; 0: texts are read whole
    precision: str
    best_step: int  # whose parameters are saved
    steps: int  # optimiser steps done
    planned_steps: int
    interrupted: bool
    training_seconds: float  # with cross-validation, self-labelling and validations
    rows_per_second: float  # of the steps alone
    temperature: Temperature = Temperature()
    cross_validation: CrossValidated | None = None
    int8: Int8Trial | None = None  # if the model predicts in it
    ngram_weight: float | None = None  # beside the encoder's logits; None without n-grams
    label_names: LabelNames | None = None
    self_labelled: SelfLabelled | None = None
    skipped: Mapping[str, int] | None = None  # rows that data.repair left out, by split

    @property
    def headline(self) -> tuple[str, Mapping[str, Any]] | None:
        """Returns the name and the metrics of the split to quote: test, else validation; None without either."""
        for name, metrics in (("test", self.test), ("validation", self.validation)):
            if metrics is not None:
                return name, metrics
        return None

    def to_mapping(self) -> dict[str, Any]:
        """Returns the content of metrics.json: plain values, without those that the run does not have."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        values["temperature"] = self.temperature.value
        if self.temperature.fitted_to:
            values["temperature_fitted_to"] = self.temperature.fitted_to
        if self.cross_validation:
            values["cross_validation"] = {"folds": self.cross_validation.folds} | dict(self.cross_validation.metrics)
        if self.self_labelled:
            texts = values.pop("self_labelled")
            names = {"trained": "self_labelled", "held_back": "held_back", "right": "self_labelling"}
            names["proportions"] = "label_proportions"
            values |= {names[key]: value for key, value in texts.items() if value or key == "trained"}
        return values
