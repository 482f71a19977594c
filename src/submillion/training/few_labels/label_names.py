"""Label names as training rows: "This text is about sport." is a text of the label sport."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from submillion.tasks.decoding import most_probable
from submillion.text.tokenizer import Tokens
from submillion.training.few_labels.selftraining import of_length_one
from submillion.training.result import LabelNames
from submillion.training.rows import TokenRows
from submillion.training.run import Run, Say

TEMPLATE = "This text is about {}."
# Names are read from this Cohen's kappa on, between the rows' labels and the names nearest to the rows. AG News' own
# names reach it in 96 of 100 draws of 1 row a class and in all draws of 8; names like "foo" and "A" reach it in up to
# 37 of 100, and from 4 rows a class on in 6.
LEAST_AGREEMENT = 0.3


def name_sentences(label_names: Sequence[str]) -> list[str]:
    """Returns a sentence about each label name."""
    return [TEMPLATE.replace("{}", name) for name in label_names]


def with_label_names(run: Run, say: Say) -> tuple[Run, LabelNames]:
    """Returns the run with its label names as training rows, one for each label that has rows, and a record of them.

    The run stays as it is if the names do not tell rows apart, and if they differ in digits alone: names such as
    LABEL_0 and LABEL_1 say nothing about the labels, even if they agree with the rows by chance.
    """
    targets = np.unique(run.train.targets)
    names = run.task.names(targets)
    sentences = name_sentences(names)
    tokens = run.tokenizer.encode(sentences, run.spec.max_length, content=run.network.ngrams is not None)
    rows_states, names_states = (run.pooled("label names", some) for some in (run.train.tokens, tokens))
    right, agree = agreement(rows_states, run.train.targets, names_states)
    numbered = len({re.sub(r"\d+", "", name) for name in names}) < len(names)
    if numbered:
        outcome = ", but differ in digits alone, so they are not read"
    else:
        outcome = ": each becomes a training row" if agree else ": too few, so they are not read"
    say("names", f"alone they get {right:.0%} of the training rows right{outcome}")
    if numbered or not agree:
        return run, LabelNames(right, read=False)
    train = TokenRows(Tokens.joined([run.train.tokens, tokens]), np.concatenate([run.train.targets, targets]))
    run = replace(run, texts=run.texts + sentences, train=train, names=len(targets))
    return run, LabelNames(right, read=True)


def agreement(features: np.ndarray, targets: np.ndarray, name_features: np.ndarray) -> tuple[float, bool]:
    """Returns the share of rows that lie nearest to their own label's name, and whether the names are worth reading.

    features: float [rows, hidden]. targets: int64 [rows]. name_features: float [classes, hidden], one row for the name
    of each label that occurs, in order.
    """
    from sklearn.metrics import cohen_kappa_score

    nearest = np.unique(targets)[most_probable(of_length_one(features) @ of_length_one(name_features).T)]
    return float((nearest == targets).mean()), bool(cohen_kappa_score(targets, nearest) >= LEAST_AGREEMENT)
