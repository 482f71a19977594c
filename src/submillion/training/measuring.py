"""How right a trained network is on the rows held out, and how sure it may be."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from submillion.runtime.batches import EVALUATION_ROWS
from submillion.runtime.int8 import Int8Trial, try_int8
from submillion.tasks.calibration import LEAST_CROSSED, LEAST_ROWS
from submillion.text.tokenizer import Tokens
from submillion.training.few_labels.cross_validation import Crossed
from submillion.training.learning import Learned
from submillion.training.ngram_fit import LEAST_LEARNED
from submillion.training.result import CrossValidated, RunResult, Temperature
from submillion.training.run import Run


def measure(
    run: Run, learned: Learned, crossed: Crossed | None, ngram_weight: float | None, seconds: float
) -> RunResult:
    """Returns the result of the run, measured on its validation and test rows.

    The network predicts in int8 afterwards, if that changes no answer. seconds: how long training took.
    """
    result, task = learned.result, run.task
    int8 = _tried_int8(run, learned)
    splits = {name: rows for name, rows in (("validation", run.validation), ("test", run.test)) if len(rows)}
    logits = {name: run.logits(name, rows.tokens) for name, rows in splits.items()}
    temperature = _temperature(run, learned, crossed, logits)
    metrics: dict[str, dict[str, Any]] = {}
    for name, rows in splits.items():
        metrics[name] = task.metrics(logits[name], rows.targets, run.corpus.splits()[name].overlap)
        for key, value in (("ece_uncalibrated", 1.0), ("ece", temperature.value)):
            # In fp64: fp32 probabilities of sure models round to 1.
            probabilities = task.probabilities(logits[name].astype(np.float64), value)
            metrics[name][key] = task.calibration(probabilities, rows.targets)["ece"]
    crossed_metrics = CrossValidated(crossed.folds, task.metrics(crossed.logits, crossed.targets)) if crossed else None
    return RunResult(
        validation=metrics.get("validation"),
        test=metrics.get("test"),
        parameters=_parameter_counts(run),
        rank=run.adapters.rank,
        window=run.spec.window,
        precision=run.compute.precision,
        best_step=result.best_step,
        steps=result.steps,
        planned_steps=result.planned_steps,
        interrupted=result.interrupted,
        training_seconds=round(seconds, 2),
        rows_per_second=round(result.rows_per_second, 2),
        temperature=temperature,
        cross_validation=crossed_metrics,
        int8=int8,
        ngram_weight=ngram_weight,
        label_names=learned.label_names,
        self_labelled=learned.self_labelled,
        skipped=run.corpus.skipped_counts() or None,
    )


def _tried_int8(run: Run, learned: Learned) -> Int8Trial | None:
    """Tries int8 on the validation rows, and if these are few, also on the rows that the network learned from."""
    tokens = run.validation.tokens
    if len(tokens) < LEAST_LEARNED:
        tokens = Tokens.joined([tokens, learned.rows.tokens])
    return try_int8(run.network, run.task, tokens, EVALUATION_ROWS, run.compute, run.world)


def _temperature(run: Run, learned: Learned, crossed: Crossed | None, logits: Mapping[str, np.ndarray]) -> Temperature:
    """Returns the temperature, fitted to the validation rows, or if these are few, to texts held back or to folds."""
    value, fitted_to = 1.0, ""
    if len(run.validation) >= LEAST_ROWS:
        value, fitted_to = run.task.fit_temperature(logits["validation"], run.validation.targets), "validation"
    elif learned.held_back:
        back = learned.held_back
        value, fitted_to = (
            run.task.fit_temperature(run.logits("calibration", back.tokens), back.probabilities),
            "neighbours",
        )
    elif crossed:
        value, fitted_to = run.task.fit_temperature(crossed.logits, crossed.targets, LEAST_CROSSED), "folds"
    return Temperature(value, fitted_to if value != 1 else "")


def _parameter_counts(run: Run) -> dict[str, int]:
    """Returns the parameter counts of the network. Raises AssertionError if it does not train as many as planned."""
    trainable = sum(parameter.numel() for parameter in run.network.trainable().values())
    if trainable != run.plan.trainable:
        raise AssertionError(f"planned {run.plan.trainable:,} trainable parameters, built {trainable:,}")
    return {
        "trainable": trainable,
        "total": run.plan.total,
        "total_with_adapters": run.plan.total_with_adapters,
    }
