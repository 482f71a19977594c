"""The suite on a classifier that can be worked out by hand."""

from collections.abc import Sequence

import numpy as np

from submillion.evaluation.suite import measure
from submillion.tasks.one_label import OneLabel
from submillion.text.noise import CORRUPTIONS, STRENGTHS, STYLES

TASK = OneLabel(("other", "oil"))
TEXTS = ["OIL prices climb as producers meet again", "a quiet match ends in a draw without goals"] * 4
LABELS = np.array([1, 0] * 4)


def reads_capitals(_: str, texts: Sequence[str]) -> np.ndarray:
    found = np.array([any(word == "OIL" for word in text.split()) for text in texts], dtype=float)
    return np.stack([1 - found, found], axis=1)


def test_it_measures_what_each_corruption_takes_away() -> None:
    found = measure(TASK, reads_capitals, TEXTS, LABELS)
    assert found["rows"] == 8 and found["clean"] == 1.0
    each = found["noise"]["each"]
    assert set(each) == set(CORRUPTIONS) and all(set(one) == set(STRENGTHS) for one in each.values())
    assert each["lower case"]["high"] == 0.5 and each["no agency"]["high"] == 1.0
    assert found["noise"]["mean"]["high"] == np.mean([one["high"] for one in each.values()])
    assert found["noise"]["worst"]["high"]["accuracy"] == min(one["high"] for one in each.values())
    assert 0.5 <= found["worst_of_20"] <= min(1.0, found["clean"])
    assert set(found["style"]) == set(STYLES)
    assert found["style"]["post"] == 0.5 and found["style"]["message"] == 1.0
    assert found["attack"]["clean_accuracy"] == 1.0 and found["attack"]["accuracy"] == 0.5


def test_it_repeats_and_another_seed_differs() -> None:
    assert measure(TASK, reads_capitals, TEXTS, LABELS, 1) == measure(TASK, reads_capitals, TEXTS, LABELS, 1)


def test_no_text_is_computed_twice() -> None:
    asked: list[str] = []

    def count(title: str, texts: Sequence[str]) -> np.ndarray:
        if title != "attack":
            asked.extend(texts)
        return reads_capitals(title, texts)

    measure(TASK, count, TEXTS, LABELS)
    assert len(asked) == len(set(asked))
