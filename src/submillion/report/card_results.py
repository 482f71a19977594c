"""The card's section on results: accuracy with its interval, figures by label, calibration, mistakes."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from submillion.report.card_data import MOST_LABELS
from submillion.report.markdown import table, text
from submillion.report.sentences import overlap_sentence, wilson_interval
from submillion.tasks.calibration import LEAST_CROSSED, LEAST_ROWS, LEAST_TEXTS
from submillion.training.result import RunResult
from submillion.training.run import Run

CAPTIONS = {
    "loss": "training and validation loss",
    "accuracy": "training and validation accuracy",
    "reliability": "confidence against accuracy",
    "coverage": "accuracy on the surest rows",
    "noise": "accuracy under each kind of noise",
}


def results_section(run: Run, result: RunResult, plots: Sequence[str]) -> str:
    """Returns the section as Markdown. plots: names of files that lie beside the card."""
    paragraphs = list(_measured(result) if result.headline else _not_measured(result))
    if result.ngram_weight is not None:
        paragraphs.append("The plots show the training of adapters and head, without the n-grams, which came after.")
    return "\n\n".join([*paragraphs, *pictures(plots)])


def pictures(plots: Sequence[str]) -> Iterator[str]:
    """Yields a picture in Markdown for each file name."""
    for name in plots:
        yield f"![{CAPTIONS.get(Path(name).stem, 'plot')}]({name})"


def _not_measured(result: RunResult) -> Iterator[str]:
    crossed = list(_cross_validation(result))
    yield from crossed or ["Nothing was measured: no rows were held out."]
    yield _temperature(result)


def _measured(result: RunResult) -> Iterator[str]:
    assert result.headline is not None
    split, metrics = result.headline
    splits = {name: each for name, each in (("test", result.test), ("validation", result.validation)) if each}
    header = ("rows", "n", "accuracy", "95% interval", "macro-F1", "loss", "calibration error")
    yield table(header, [_figures(name, each) for name, each in splits.items()], range(1, 7))
    most = max(figures["rows"] for figures in metrics["per_label"].values()) / metrics["rows"]
    yield (
        "The interval is Wilson's, for the choice of these rows alone. Loss is cross-entropy in nats, calibration "
        f"error the ECE over 15 bins. {_temperature(result)} The most frequent label of the {split} rows, given to "
        f"all of them, would be right on {most:.1%}."
    )
    yield from filter(None, (overlap_sentence(name, each) for name, each in splits.items()))
    yield f"By label, on the {metrics['rows']:,} {split} rows:"
    per_label = [
        (name, f"{figures['rows']:,}", *(f"{figures[key]:.3f}" for key in ("precision", "recall", "f1")))
        for name, figures in metrics["per_label"].items()
    ]
    yield table(("label", "n", "precision", "recall", "F1"), per_label, range(1, 5), MOST_LABELS)
    yield from _cross_validation(result)
    if int8 := result.int8:
        yield (
            "These figures are of int8 products, in which the model predicts if the processor gains by it; rows whose "
            f"two best logits are within {int8.margin:.2g} of each other, {int8.again:.1%} of those compared, are "
            "computed again in bf16."
        )
    yield from _mistakes(np.array(metrics["confusion"]), list(metrics["per_label"]))


def _figures(split: str, metrics: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = wilson_interval(metrics["accuracy"], metrics["rows"])
    accuracy = (f"{metrics['accuracy']:.2%}", f"{low:.1%} to {high:.1%}")
    rest = (f"{metrics['macro_f1']:.3f}", f"{metrics['loss']:.3f}", f"{metrics['ece']:.1%}")
    return split, f"{metrics['rows']:,}", *accuracy, *rest


def _temperature(result: RunResult) -> str:
    temperature = result.temperature
    if temperature.value == 1:
        return (
            f"Probabilities are the plain softmax, not calibrated: a temperature takes {LEAST_ROWS} validation rows to "
            f"fit, {LEAST_TEXTS} unlabelled texts, or cross-validation (`train.few_labels`) of {LEAST_CROSSED} rows."
        )
    held_back = result.self_labelled.held_back if result.self_labelled else 0
    rows = {
        "validation": "the validation rows",
        "neighbours": f"what neighbours say of {held_back:,} texts held back",
        "folds": "what the models of the cross-validation say of rows that they did not learn from",
    }[temperature.fitted_to]
    before = ""
    if result.headline:
        uncalibrated = result.headline[1]["ece_uncalibrated"]
        before = f"; without it the calibration error would be {uncalibrated:.1%}"
    return f"Probabilities are calibrated with temperature {temperature.value:.2f}, fitted to {rows}{before}."


def _cross_validation(result: RunResult) -> Iterator[str]:
    if crossed := result.cross_validation:
        metrics = crossed.metrics
        low, high = wilson_interval(metrics["accuracy"], metrics["rows"])
        yield (
            f"Cross-validation: {crossed.folds} models were trained as this one was, each without a part of the "
            f"training rows. They are right on {metrics['accuracy']:.1%} of {metrics['rows']:,} rows, each asked of "
            f"the model that did not learn from it (95% interval of the choice of rows {low:.0%} to {high:.0%}), "
            f"macro-F1 {metrics['macro_f1']:.3f}. The model itself has learned from all of them."
        )


def _mistakes(confusion: np.ndarray, names: Sequence[str]) -> Iterator[str]:
    """Yields a sentence on the most frequent mistakes, if there are any.

    confusion: int [labels, labels], rows of the first label that were called the second.
    """
    wrong = confusion - np.diag(np.diag(confusion))
    worst = [divmod(int(place), len(names)) for place in np.argsort(-wrong, axis=None, kind="stable")[:3]]
    mistakes = [f"{text(names[i])} called {text(names[j])} ({wrong[i, j]:,})" for i, j in worst if wrong[i, j]]
    if mistakes:
        yield f"The most frequent mistakes, of {int(wrong.sum()):,} in all: {', '.join(mistakes)}."
