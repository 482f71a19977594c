"""A character attack that needs nothing but the classifier's answers, in the manner of DeepWordBug.

Gao et al., 2018 (arXiv:1801.04354): rank the words by what the classifier loses without each, then misspell the most
important ones. Here each of them takes the worst of five misspellings, until the answer is wrong, a fifth of the words
is changed, or the queries are used up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from submillion.tasks.task import Task
from submillion.text.misspellings import misspellings

WORDS_CHANGED = 0.2  # of the words at most, one at least
QUERIES = 200  # a row

# (texts, the row that each of them comes from) -> the probability of the right target, and whether the answer is right
Ask = Callable[[Sequence[str], Sequence[int]], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Attacked:
    """What the attack reached; shares are of 1."""

    accuracy: float  # of all rows, under the attack
    clean_accuracy: float
    changed: float  # share of the words, mean over the rows whose answer the attack changed; 0 if there are none
    queries: float  # mean over the rows attacked, which are those that were right at first
    rows: int


@dataclass
class _Row:
    place: int  # among the texts
    words: list[str]
    support: float  # probability of the right target
    random: Random
    order: list[int]  # places of the words still to be tried, the most important first
    changes_left: int
    changed: int = 0
    queries: int = 0
    fooled: bool = False

    @property
    def active(self) -> bool:
        return not self.fooled and self.changes_left > 0 and bool(self.order) and self.queries + 5 <= QUERIES


def attack(
    task: Task,
    probabilities_of: Callable[[Sequence[str]], np.ndarray],
    texts: Sequence[str],
    targets: np.ndarray,
    seed: int = 0,
) -> Attacked:
    """Attacks all rows side by side, so that texts are computed in large batches.

    probabilities_of: from texts to float [rows, outputs]. targets: the task's, one for each text.
    """

    def ask(changed: Sequence[str], places: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        if not changed:
            return np.zeros(0), np.zeros(0, dtype=bool)
        probabilities, right_targets = probabilities_of(changed), targets[list(places)]
        return task.support(probabilities, right_targets), task.is_right(probabilities, right_targets)

    support, right = ask(texts, range(len(texts)))
    rows = [
        _Row(place, texts[place].split(), float(support[place]), Random(f"{seed} {texts[place]}"), [], 0)
        for place in np.flatnonzero(right).tolist()
    ]
    _rank_words(ask, rows)
    while active := [row for row in rows if row.active]:
        _change_one_word(ask, active)
    fooled = [row for row in rows if row.fooled]
    return Attacked(
        accuracy=(len(rows) - len(fooled)) / len(texts),
        clean_accuracy=len(rows) / len(texts),
        changed=float(np.mean([row.changed / len(row.words) for row in fooled])) if fooled else 0.0,
        queries=float(np.mean([row.queries for row in rows])) if rows else 0.0,
        rows=len(texts),
    )


def _rank_words(ask: Ask, rows: Sequence[_Row]) -> None:
    """Orders each row's words by the support without the word, lowest first.

    Each word takes a query, and at most half of the queries go here.
    """
    counts = [min(len(row.words), QUERIES // 2) for row in rows]
    texts = [_replaced(row.words, word) for row, count in zip(rows, counts, strict=True) for word in range(count)]
    support, _ = ask(texts, np.repeat([row.place for row in rows], counts).tolist())
    for row, count, without in zip(rows, counts, _cut(support, counts), strict=True):
        row.order = np.argsort(without, kind="stable").tolist()
        row.queries, row.changes_left = count, max(1, int(WORDS_CHANGED * len(row.words)))


def _change_one_word(ask: Ask, rows: Sequence[_Row]) -> None:
    """Replaces each row's next word by the misspelling that hurts most, if one hurts."""
    words = [row.order.pop(0) for row in rows]
    options = [misspellings(row.words[word], row.random) for row, word in zip(rows, words, strict=True)]
    counts = list(map(len, options))
    texts = [
        _replaced(row.words, word, option)
        for row, word, spellings in zip(rows, words, options, strict=True)
        for option in spellings
    ]
    support, right = ask(texts, np.repeat([row.place for row in rows], counts).tolist())
    changes = zip(rows, words, options, _cut(support, counts), _cut(right, counts), strict=True)
    for row, word, spellings, row_support, row_right in changes:
        row.queries += len(spellings)
        if not spellings:
            continue
        worst = int(row_support.argmin())
        if row_support[worst] < row.support:
            row.words[word], row.support = spellings[worst], float(row_support[worst])
            row.changed, row.changes_left = row.changed + 1, row.changes_left - 1
            row.fooled = not row_right[worst]


def _cut(values: np.ndarray, counts: Sequence[int]) -> list[np.ndarray]:
    """Returns the values of each row, given how many each has."""
    return np.split(values, np.cumsum(counts)[:-1]) if counts else []


def _replaced(words: Sequence[str], place: int, *replacement: str) -> str:
    """Returns the text with the word at `place` replaced, or left out if there is no replacement."""
    return " ".join([*words[:place], *replacement, *words[place + 1 :]])
