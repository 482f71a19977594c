"""Augmentation: what is drawn, and from what."""

import pytest

from submillion.text import augment as module
from submillion.text.augment import augment
from submillion.text.spelling import Spelling

TEXTS = [
    f"Reuters - Shares of company {n} rose &lt;b&gt;sharply&lt;/b&gt; on Monday, analysts said." for n in range(200)
]


def test_a_share_of_the_rows_changes_and_no_other() -> None:
    changed = sum(a != b for a, b in zip(TEXTS, augment(TEXTS, 0.5, 0, 0), strict=True))
    assert 70 < changed < 115  # half of 200, and a few draws that find nothing to change
    assert augment(TEXTS, 0.0, 0, 0) == TEXTS


def test_half_of_the_noisy_rows_are_misspelt_and_keep_their_words() -> None:
    words = "alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa"
    noisy = [text.split() for text in augment([words] * 400, 1.0, 0, 0)]
    same_count = [found for found in noisy if len(found) == 16 and found != words.split()]
    changed = [sum(a != b for a, b in zip(found, words.split(), strict=True)) / 16 for found in same_count]
    assert 180 < len(same_count) < 360  # the misspelt half, and what the suite's noise does within words
    assert 0.1 < sum(changed) / len(changed) < 0.6


def test_the_seed_the_epoch_and_the_place_decide() -> None:
    assert augment(TEXTS, 0.5, 0, 1) == augment(TEXTS, 0.5, 0, 1)
    assert augment(TEXTS, 0.5, 0, 0) != augment(TEXTS, 0.5, 0, 1) != augment(TEXTS, 0.5, 1, 1)
    same = augment(["The same text in every row of a file"] * 50, 1.0, 0, 0)
    assert len(set(same)) > 20


def test_no_text_is_emptied_or_lost() -> None:
    for epoch in range(20):
        found = augment(["a", "!!!", "Reuters - ", "x y"], 1.0, 0, epoch)
        assert len(found) == 4 and all(text.strip() for text in found)


def test_spelling_is_corrected_after_the_noise() -> None:
    spelling = Spelling.learned(TEXTS)
    plain = augment(TEXTS, 1.0, 0, 0)
    assert augment(TEXTS, 1.0, 0, 0, spelling) == [spelling.correct(text) for text in plain] != plain


@pytest.mark.parametrize("processes", [2, 3, 100])
def test_any_number_of_processes_gives_the_same(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS_A_PROCESS", 60)  # three processes at most
    spelling = Spelling.learned(TEXTS)
    assert augment(TEXTS, 0.5, 0, 1, spelling, processes) == augment(TEXTS, 0.5, 0, 1, spelling)
