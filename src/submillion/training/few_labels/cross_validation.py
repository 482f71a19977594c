"""Cross-validation: logits for each training row from a model that did not learn from it, if few rows are held out."""

from dataclasses import dataclass, replace

import numpy as np

from submillion.data.corpus import Rows
from submillion.data.splits import near_duplicate_groups
from submillion.seeds import numpy_generator
from submillion.training.learning import calibrates, learn
from submillion.training.ngram_fit import add_ngrams
from submillion.training.run import Run, Say

FOLDS = 5


@dataclass(frozen=True)
class Crossed:
    """The logits of the models of all folds, each for the rows that it did not learn from."""

    logits: np.ndarray  # fp32 [rows, outputs]
    targets: np.ndarray  # int64 [rows]
    folds: int


def cross_validate(run: Run, say: Say) -> Crossed | None:
    """Trains a model for each of FOLDS parts of the training rows, on all other rows, and predicts that part.

    Returns None if the configuration does not ask for it, if validation rows or texts held back calibrate the model,
    and if no label has two rows. Afterwards the network's parameters are what they were before. Ctrl-C raises
    KeyboardInterrupt, because the model itself has not begun to train.
    """
    network, texts, train = run.network, run.texts, run.train
    if not run.config.train.few_labels:
        return None
    if calibrates(run):
        say("folds", "none: rows or texts that are held out say how sure to be")
        return None
    fold_of_row = folds_of(texts, train.targets, FOLDS, run.config.seed)
    asked = fold_of_row >= 0
    if not asked.any():
        say("folds", "none: no label has two training rows that are not alike")
        return None
    folds = np.unique(fold_of_row[asked])
    say(
        "folds",
        f"{len(folds)} models, each without a part of the {len(train):,} rows, say how right and how sure to be",
    )
    untrained = network.snapshot()
    logits = np.empty((len(train), run.task.num_outputs), dtype=np.float32)
    for fold in folds:
        left_out = np.flatnonzero(fold_of_row == fold)
        part = _of_rows(run, np.flatnonzero(fold_of_row != fold))
        learned = learn(part, _say_nothing)
        if learned.result.interrupted:
            raise KeyboardInterrupt
        add_ngrams(part, learned.rows, _say_nothing)
        logits[left_out] = run.logits("fold", train.tokens.take(left_out))
        network.restore(untrained)
    return Crossed(logits[asked], train.targets[asked], len(folds))


def _say_nothing(heading: str, text: str) -> None:
    """Prints nothing: the model itself prints the same lines again."""


def folds_of(texts: list[str], labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Returns the part, counted from 0, with which each row is left out: int64 [rows].

    Near-equal texts share a part, and every part has about as many rows of each label. A row gets -1, and is never left
    out, if all rows of its label would be left out at once.

    The number of parts is the median number of rows of a label, near-equal ones counted once, but at least two and at
    most `folds`. With more parts, a model would have fewer rows of just the labels that it is asked about, and would
    answer with the others.
    """
    groups = near_duplicate_groups(texts)
    shuffled = numpy_generator(seed, "folds").permutation(groups.max() + 1)
    label_of_group = labels[np.unique(groups, return_index=True)[1]]
    by_label = shuffled[np.argsort(label_of_group[shuffled], kind="stable")]
    rows_a_label = int(np.median(np.unique(label_of_group, return_counts=True)[1]))
    fold_of_group = np.empty(len(by_label), dtype=np.int64)
    fold_of_group[by_label] = np.arange(len(by_label)) % min(folds, max(2, rows_a_label))
    found = fold_of_group[groups]
    for label in np.unique(labels):
        own = labels == label
        if len(np.unique(found[own])) == 1:
            found[own] = -1
    return found


def _of_rows(run: Run, rows: np.ndarray) -> Run:
    """Returns the run with these of its training rows alone."""
    texts = [run.texts[row] for row in rows]
    train = run.train.take(rows)
    corpus = replace(run.corpus, train=Rows(texts, train.targets))
    return replace(run, corpus=corpus, texts=texts, train=train)
