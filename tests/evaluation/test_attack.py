"""The attack against classifiers whose weakness is known."""

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from submillion.evaluation.attack import QUERIES, attack
from submillion.tasks.one_label import OneLabel
from submillion.text.misspellings import misspellings

TASK = OneLabel(("other", "oil"))
FILLER = [f"word{index}" for index in range(9)]


class Keyword:
    """Label 1 where the text has the word `oil`, spelled right; counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += len(texts)
        found = np.array(["oil" in text.split() for text in texts], dtype=float)
        return np.stack([1 - found, found], axis=1)


def test_it_finds_the_one_word_that_decides() -> None:
    texts = [" ".join([*FILLER[:place], "oil", *FILLER[place:]]) for place in range(10)]
    keyword = Keyword()
    found = attack(TASK, keyword, texts, np.ones(10, dtype=np.int64))
    assert found.clean_accuracy == 1.0 and found.accuracy == 0.0
    assert found.changed == pytest.approx(0.1)  # one word of ten
    assert found.queries <= 10 + 5 and keyword.asked == 10 + round(found.queries * 10)


def test_it_never_changes_more_than_a_fifth_of_the_words_nor_asks_too_often() -> None:
    """Every word counts a little, so no fifth of them is enough."""
    seen: list[str] = []

    def all_words(texts: Sequence[str]) -> np.ndarray:
        seen.extend(texts)
        right = np.array([sum(word.isdigit() is False and word.startswith("x") for word in t.split()) for t in texts])
        share = 0.5 + right / 400
        return np.stack([1 - share, share], axis=1)

    text = " ".join(f"x{chr(97 + index % 26)}abc" for index in range(150))
    found = attack(TASK, all_words, [text], np.array([1]))
    assert found.accuracy == 1.0 and found.queries <= QUERIES
    changed = [sum(a != b for a, b in zip(t.split(), text.split(), strict=True)) for t in seen if len(t.split()) == 150]
    assert max(changed) <= 30


def test_rows_that_were_wrong_are_not_attacked() -> None:
    found = attack(TASK, Keyword(), ["no such word", "oil"], np.array([1, 0]))
    assert (found.accuracy, found.clean_accuracy, found.queries, found.rows) == (0.0, 0.0, 0.0, 2)


def test_a_constant_classifier_cannot_be_attacked() -> None:
    found = attack(
        TASK, lambda texts: np.tile([0.9, 0.1], (len(texts), 1)), ["some words here", "12 34"], np.zeros(2, int)
    )
    assert found.accuracy == 1.0 and found.changed == 0.0


def test_it_repeats() -> None:
    texts = ["oil prices rise again today", "today oil falls"]
    assert attack(TASK, Keyword(), texts, np.ones(2, int), seed=3) == attack(
        TASK, Keyword(), texts, np.ones(2, int), seed=3
    )


@given(st.text(min_size=1).filter(lambda word: not any(c.isspace() for c in word)), st.integers(0, 9))
def test_misspellings_are_others_and_near(word: str, seed: int) -> None:
    for found in misspellings(word, Random(seed)):
        assert found != word and found and abs(len(found) - len(word)) <= 1
