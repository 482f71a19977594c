"""A character attack that needs nothing but the classifier's answers, in the manner of DeepWordBug.

Gao et al., 2018 (arXiv:1801.04354): rank the words by what the classifier loses without each, then misspell the most
important ones. Here each of them takes the worst of five misspellings, until the label changes, a fifth of the words is
changed, or the queries are used up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from submillion.robustness.noise import HOMOGLYPHS, neighbour

WORDS_CHANGED = 0.2  # of the words at most, one at least
QUERIES = 200  # a row


@dataclass(frozen=True)
class Attacked:
    accuracy: float  # of all rows, under the attack
    clean_accuracy: float
    changed: float  # share of the words, mean over the rows whose label the attack changed; 0 where there are none
    queries: float  # mean over the rows attacked: those whose label was right to begin with
    rows: int


@dataclass
class _Row:
    words: list[str]
    label: int
    order: list[int]  # words by importance, those still to be tried
    random: Random
    probability: float  # of the right label
    left: int  # changes still allowed
    changed: int = 0
    queries: int = 0
    fooled: bool = False

    @property
    def active(self) -> bool:
        return not self.fooled and self.left > 0 and bool(self.order) and self.queries + 5 <= QUERIES


def attack(
    probabilities_of: Callable[[Sequence[str]], np.ndarray], texts: Sequence[str], labels: np.ndarray, seed: int = 0
) -> Attacked:
    """probabilities_of: texts -> float [rows, labels]; labels int64 [rows]. All rows are attacked side by side."""
    clean = probabilities_of(texts)
    right = np.flatnonzero(clean.argmax(axis=1) == labels)
    rows = [
        _Row(texts[at].split(), int(labels[at]), [], Random(f"{seed} {texts[at]}"), float(clean[at, labels[at]]), 0)
        for at in right.tolist()
    ]
    _rank(probabilities_of, rows)
    while active := [row for row in rows if row.active]:
        _change_one_word(probabilities_of, active)
    fooled = [row for row in rows if row.fooled]
    return Attacked(
        accuracy=(len(rows) - len(fooled)) / len(texts),
        clean_accuracy=len(rows) / len(texts),
        changed=float(np.mean([row.changed / len(row.words) for row in fooled])) if fooled else 0.0,
        queries=float(np.mean([row.queries for row in rows])) if rows else 0.0,
        rows=len(texts),
    )


def _rank(probabilities_of: Callable[[Sequence[str]], np.ndarray], rows: Sequence[_Row]) -> None:
    """Orders each row's words by the probability of its label without the word, lowest first: a query a word, for at
    most half of the queries."""
    tried = [range(min(len(row.words), QUERIES // 2)) for row in rows]
    texts = [_without(row.words, at) for row, places in zip(rows, tried, strict=True) for at in places]
    found = probabilities_of(texts) if texts else np.zeros((0, 1))
    start = 0
    for row, places in zip(rows, tried, strict=True):
        own = found[start : start + len(places), row.label] if len(places) else np.zeros(0)
        start += len(places)
        row.order = np.argsort(own, kind="stable").tolist()
        row.queries, row.left = len(places), max(1, int(WORDS_CHANGED * len(row.words)))


def _change_one_word(probabilities_of: Callable[[Sequence[str]], np.ndarray], rows: Sequence[_Row]) -> None:
    """Each row's next word takes the misspelling that hurts most; none where none hurts."""
    places = [row.order.pop(0) for row in rows]
    options = [misspellings(row.words[at], row.random) for row, at in zip(rows, places, strict=True)]
    texts = [
        " ".join([*row.words[:at], option, *row.words[at + 1 :]])
        for row, at, found in zip(rows, places, options, strict=True)
        for option in found
    ]
    probabilities = probabilities_of(texts) if texts else np.zeros((0, 1))
    start = 0
    for row, at, found in zip(rows, places, options, strict=True):
        own = probabilities[start : start + len(found)]
        start += len(found)
        row.queries += len(found)
        if not len(own):
            continue
        worst = int(own[:, row.label].argmin())
        if own[worst, row.label] < row.probability:
            row.words[at], row.probability = found[worst], float(own[worst, row.label])
            row.changed, row.left = row.changed + 1, row.left - 1
            row.fooled = int(own[worst].argmax()) != row.label


def misspellings(word: str, random: Random) -> list[str]:
    """The word with two letters swapped, one dropped, one inserted, one mistyped, one replaced by its homoglyph.

    Those that can be had: none of a number or a sign, and none that is the word itself.
    """
    letters = [at for at, c in enumerate(word) if c.isalpha()]
    if not letters:
        return []
    found = []
    pairs = [at for at in letters if at + 1 < len(word) and word[at + 1].isalpha() and word[at] != word[at + 1]]
    if pairs:
        at = random.choice(pairs)
        found.append(word[:at] + word[at + 1] + word[at] + word[at + 2 :])
    at = random.choice(letters)
    if len(word) > 1:
        found.append(word[:at] + word[at + 1 :])
    found.append(word[:at] + random.choice("abcdefghijklmnopqrstuvwxyz") + word[at:])
    found.append(word[:at] + neighbour(word[at], random) + word[at + 1 :])
    alike = [at for at in letters if word[at] in HOMOGLYPHS]
    if alike:
        at = random.choice(alike)
        found.append(word[:at] + HOMOGLYPHS[word[at]] + word[at + 1 :])
    return [option for option in found if option != word]


def _without(words: Sequence[str], at: int) -> str:
    return " ".join([*words[:at], *words[at + 1 :]])
