"""Corruptions: the same row always becomes the same text, more strength changes more, nothing is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from submillion.text.noise import (
    CORRUPTIONS,
    NEIGHBOURS,
    STRENGTHS,
    STYLES,
    Strength,
    corrupt,
    random_corruption,
    restyle,
)

NEWS = (
    "Wall St. Bears Claw Back Into the Black (Reuters) Reuters - Short-sellers, Wall Street's dwindling\\band of "
    "ultra-cynics, are seeing green again, said &lt;b&gt;Reuters&lt;/b&gt; on Monday. It's #39;quot; &amp; 42 more."
)
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)


@pytest.mark.parametrize("name", CORRUPTIONS)
@given(text=TEXTS, strength=st.sampled_from(STRENGTHS), seed=st.integers(0, 5))
def test_a_corruption_repeats_and_leaves_something_that_utf8_holds(
    name: str, text: str, strength: Strength, seed: int
) -> None:
    found = corrupt(text, name, strength, seed)
    assert found == corrupt(text, name, strength, seed)
    assert found.strip() and found.encode()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_changes_news(name: str) -> None:
    assert corrupt(NEWS, name, "high") != NEWS


@pytest.mark.parametrize("name", ["keyboard", "drop", "repeat", "ocr", "homoglyphs", "random case"])
def test_more_strength_changes_more_letters(name: str) -> None:
    text = "the quick brown fox jumps over the lazy dog " * 200

    def unchanged(strength: Strength) -> float:
        return sum(a == b for a, b in zip(text.split(), corrupt(text, name, strength).split(), strict=True))

    assert unchanged("low") > unchanged("medium") > unchanged("high")


def test_what_each_corruption_does() -> None:
    assert corrupt("Oil Prices Rise", "lower case", "high") == "oil prices rise"
    assert corrupt("Oil, gas: up!", "no punctuation", "high") == "Oil gas up"
    assert corrupt("one two three four", "first part", "medium") == "one two"
    assert len(corrupt("word " * 30, "headline", "high").split()) == 8
    assert corrupt("Stocks rise (Reuters) again", "no agency", "high").split() == ["Stocks", "rise", "again"]
    assert corrupt("it #39;s &lt;b&gt;big", "no HTML debris", "high").split() == ["it", "s", "big"]
    assert set(corrupt("p" * 400, "homoglyphs", "high")) == {"p", "\u0440"}
    swapped = corrupt("abcdefghij" * 40, "swap", "high")
    assert sorted(swapped) == sorted("abcdefghij" * 40) and swapped != "abcdefghij" * 40
    assert corrupt("a b c", "whitespace", "high").replace(" ", "") == "abc"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("हिन्दी में, पढ़ना।", "हिन्दी में पढ़ना"),  # vowel signs and viramas
        ("ที่นี่ “ดี” มาก!", "ที่นี่ ดี มาก"),  # vowels and tones above the letters
        ("cafe\u0301 – touche\u0301!", "cafe\u0301 touche\u0301"),  # accents of their own
        ("می\u200cخواهم؟", "می\u200cخواهم"),  # a joiner inside a word
        ("“Zürich”… 5 € ½", "Zürich 5 ½"),
    ],
)
def test_punctuation_goes_and_what_words_are_written_with_stays(text: str, left: str) -> None:
    assert corrupt(text, "no punctuation", "high").split() == left.split()


def test_of_ascii_all_but_letters_digits_and_space_is_punctuation() -> None:
    text = "".join(map(chr, range(128)))
    kept = "".join(c for c in text if c.isalnum() or c.isspace())
    assert corrupt(text, "no punctuation", "high") == kept


def test_a_text_of_nothing_but_what_is_removed_stays() -> None:
    assert corrupt("!!!", "no punctuation", "high") == "!!!"
    assert corrupt("(Reuters)", "no agency", "high") == "(Reuters)"


def test_neighbours_are_mutual_and_near() -> None:
    assert set(NEIGHBOURS["g"]) == set("fhtyvb")
    assert all(letter in NEIGHBOURS[other] for letter, others in NEIGHBOURS.items() for other in others)


def test_random_corruptions_differ_from_draw_to_draw() -> None:
    assert len({random_corruption(NEWS, draw) for draw in range(20)}) > 10
    assert random_corruption(NEWS, 3) == random_corruption(NEWS, 3)


@pytest.mark.parametrize("style", STYLES)
@given(text=TEXTS)
def test_a_style_repeats_and_leaves_something(style: str, text: str) -> None:
    assert restyle(text, style) == restyle(text, style) and restyle(text, style).strip()


def test_a_post_reads_like_one() -> None:
    found = restyle(NEWS, "post")
    assert found.startswith("RT @") and "#" in found and "Reuters" not in found and "&lt;" not in found
