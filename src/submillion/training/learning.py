"""What a run learns from, and the training on it: labelled rows, label names, unlabelled texts."""

from dataclasses import dataclass

import numpy as np

from submillion.tasks.calibration import LEAST_ROWS, LEAST_TEXTS
from submillion.text.tokenizer import Tokens
from submillion.training.few_labels.label_names import with_label_names
from submillion.training.few_labels.self_labelling import LabelledTexts, label_texts
from submillion.training.loop import FitResult, Record
from submillion.training.result import LabelNames, SelfLabelled
from submillion.training.rows import TokenRows
from submillion.training.run import Run, Say

FEWEST_TEXTS, MOST_TEXTS = 100, 1_000  # how many texts are held back to calibrate on


@dataclass(frozen=True)
class HeldBack:
    """Unlabelled texts that did not train, and the probabilities of their labels, float [texts, labels]."""

    tokens: Tokens
    probabilities: np.ndarray


@dataclass(frozen=True)
class Learned:
    """How training went, and what it learned from."""

    result: FitResult
    rows: TokenRows
    label_names: LabelNames | None = None
    self_labelled: SelfLabelled | None = None
    held_back: HeldBack | None = None


def learn(run: Run, say: Say, on_record: Record | None = None) -> Learned:
    """Trains the adapters and the head on the labelled rows and on the unlabelled texts that get a label.

    It leaves the n-grams as they are: `ngram_fit.add_ngrams` fits them afterwards.
    """
    label_names = None
    if run.config.train.few_labels:
        run, label_names = with_label_names(run, say)
    if not run.corpus.unlabelled:
        return Learned(run.fit(run.texts, run.train, on_record), run.train, label_names)
    labelled = label_texts(run, say)
    if isinstance(labelled, FitResult):  # Ctrl-C ended the training that was to label them
        return Learned(labelled, run.train, label_names, SelfLabelled(trained=0))
    return _learn_from_texts(run, labelled, label_names, say, on_record)


def _learn_from_texts(
    run: Run, labelled: LabelledTexts, label_names: LabelNames | None, say: Say, on_record: Record | None
) -> Learned:
    back = _held_back(run)
    if len(back):
        say("held back", f"{len(back):,} of {len(run.unlabelled):,} texts, to calibrate probabilities on")
    trains = ~np.isin(labelled.rows, back)
    chosen = labelled.rows[trains]
    rows = TokenRows(
        Tokens.joined([run.train.tokens, run.unlabelled.take(chosen)]),
        np.concatenate([run.train.targets, labelled.targets[trains]]),
    )
    texts = run.texts + [run.corpus.unlabelled[row] for row in chosen]
    result = run.fit(texts, rows, on_record, _half_the_epochs(run, say))
    summary = SelfLabelled(len(chosen), len(back), labelled.right, labelled.proportions)
    held_back = HeldBack(run.unlabelled.take(back), labelled.probabilities[back]) if len(back) else None
    return Learned(result, rows, label_names, summary, held_back)


def _half_the_epochs(run: Run, say: Say) -> int:
    """Returns half of train.epochs, rounded up.

    Some of the labels that a run gives to texts are wrong, and more passes learn these by heart: on AG News two passes
    win 0.3 points on held-out rows, and four win nothing in twice the time (10,000 labelled rows, 57,000 texts).
    """
    epochs = -(-run.config.train.epochs // 2)
    if epochs < run.config.train.epochs:
        say("passes", f"{epochs}, half of train.epochs: not all labels of the texts are right")
    return epochs


def _held_back(run: Run) -> np.ndarray:
    """Returns the int64 indices of the unlabelled texts that do not train, to calibrate probabilities on.

    They are a tenth of the texts, but at least FEWEST_TEXTS and at most MOST_TEXTS. There are none if validation rows
    calibrate, or if there are fewer than LEAST_TEXTS texts.
    """
    if len(run.validation) >= LEAST_ROWS or len(run.unlabelled) < LEAST_TEXTS:
        return np.empty(0, dtype=np.int64)
    count = min(MOST_TEXTS, max(FEWEST_TEXTS, len(run.unlabelled) // 10))
    return np.linspace(0, len(run.unlabelled) - 1, count).round().astype(np.int64)


def calibrates(run: Run) -> bool:
    """Returns whether rows or texts are held out for the temperature to be fitted to."""
    return len(run.validation) >= LEAST_ROWS or len(_held_back(run)) > 0
