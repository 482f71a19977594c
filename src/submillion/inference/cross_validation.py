"""Cross-validation: what models that did not learn from a row say of it, where too few rows are held out to ask."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from submillion.data.corpus import Rows
from submillion.data.splits import near_duplicate_groups
from submillion.inference.learning import Run, add_ngrams, calibrates, learn
from submillion.seeds import numpy_generator
from submillion.training.loop import TokenRows, compute_logits

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class CrossValidated:
    """What the models of all folds say of the rows that each did not learn from."""

    logits: np.ndarray  # fp32 [rows, labels]
    labels: np.ndarray  # int64 [rows]
    folds: int


def cross_validate(run: Run, console: "Console") -> CrossValidated | None:
    """Trains a model on all but each of train.cross_validation parts of the training rows, and asks it about that part.

    None where the configuration does not want it, where validation rows or texts held back say how sure the model is,
    and where no label has two rows. The network's parameters are afterwards what they were. Ctrl-C is a
    KeyboardInterrupt: the model itself has not begun to train.
    """
    from rich.console import Console

    network, texts, train = run.network, run.texts, run.train
    if not run.config.train.cross_validation:
        return None
    if calibrates(run):
        console.print("folds      none: rows or texts that are held out say how sure to be", highlight=False)
        return None
    fold_of_row = folds_of(texts, train.labels, run.config.train.cross_validation, run.config.seed)
    asked = fold_of_row >= 0
    if not asked.any():
        console.print("folds      none: no label has two training rows that are not alike", highlight=False)
        return None
    folds = np.unique(fold_of_row[asked])
    told = f"folds      {len(folds)} models, each without a part of the {len(train):,} rows, say how right and how sure"
    console.print(f"{told} to be", soft_wrap=True, highlight=False)
    untrained = network.snapshot()
    logits = np.empty((len(train), len(run.corpus.label_names)), dtype=np.float32)
    for fold in folds:
        out = np.flatnonzero(fold_of_row == fold)
        part, quiet = _of_rows(run, np.flatnonzero(fold_of_row != fold)), Console(quiet=True)
        learned = learn(part, quiet, None)
        if learned.result.interrupted:
            raise KeyboardInterrupt
        add_ngrams(part, learned.rows, quiet)
        logits[out] = run.computed("fold", compute_logits, train.tokens.take(out))
        network.restore(untrained)
    return CrossValidated(logits[asked], train.labels[asked], len(folds))


def folds_of(texts: list[str], labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The part, from 0, that each row is left out with: int64 [rows]. Near-equal texts share one, and each has about as
    many of every label. A label all of whose rows would be left out at once is never left out: -1.

    There are as many parts as a label in the middle has rows, but two at least and `folds` at most: a model that has
    one row of some labels, which lack theirs, and two of others takes the row it is asked about for one of the others.
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
    """The run with some of its training rows alone."""
    texts = [run.texts[row] for row in rows]
    train = TokenRows(run.train.tokens.take(rows), run.train.labels[rows])
    corpus = replace(run.corpus, train=Rows(texts, train.labels))
    return replace(run, corpus=corpus, texts=texts, train=train)
