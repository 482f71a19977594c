"""Corrects words that the training texts do not hold to the nearest word that they do: typos, also intended ones.

This is word recognition in front of a classifier (Pruthi et al., 2019, arXiv:1905.11268), with a dictionary of the
training texts in place of their network. Two words are near if one edit turns one into the other: a letter too many,
missing, wrong, or swapped with its neighbour (Damerau, 1964, Comm. ACM 7). Such words share a form that is left when
each loses one letter or none, so they are found without comparing every word (SymSpell, Garbe, 2012).
"""

import re
import unicodedata
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

MOST_WORDS = 200_000  # the most frequent; with 60,000 rows of AG News there are 45,000
MOST_LETTERS = 40
# Runs of letters, except HTML's escapes (&nbsp; and quot;), which the tokenizer may be told to read, and parts of words
# with an apostrophe (hadn't, O'Brien). A word of three letters has too many neighbours; beyond forty it is not a word.
_WORD = re.compile(rf"(?<![&'’])\b[^\W\d_]{{4,{MOST_LETTERS}}}+\b(?!;|['’]t\b)")


class Spelling:
    """Corrects each unknown word to the most frequent known word near it.

    words: the known words in lower case, the most frequent first.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._known = frozenset(self.words)
        forms = [np.array([hash(form) for form in _forms(word)], dtype=np.int64) for word in self.words]
        places = np.repeat(np.arange(len(forms)), [len(found) for found in forms])
        hashes = np.concatenate([np.empty(0, dtype=np.int64), *forms])
        order = np.argsort(hashes)
        # Sorted arrays take a tenth of a dict's memory. `one_edit` tells forms apart that have the same hash by chance.
        self._hashes, self._places = array("q", hashes[order].tobytes()), array("q", places[order].tobytes())

    @classmethod
    def learned(cls, texts: Sequence[str]) -> "Spelling":
        """Returns the spelling of the texts: every word in them is known, but at most the MOST_WORDS most frequent.

        So the texts themselves are not changed. Words that occur once are known too: they are more often names than
        mistakes, and correcting them costs accuracy on clean texts.
        """
        matches = (match for text in texts for match in _WORD.finditer(text))
        counts = Counter(match[0].lower() for match in matches if _whole(match))
        return cls(sorted(counts, key=lambda word: (-counts[word], word))[:MOST_WORDS])

    def __reduce__(self) -> tuple[type["Spelling"], tuple[tuple[str, ...]]]:
        return Spelling, (self.words,)  # strings have other hashes in another process

    def correct(self, text: str) -> str:
        """Returns the text with each unknown word replaced by a known one near it; other words stay.

        The new word is in capitals if the old one is, capitalised if the old one begins with a capital, and otherwise
        in lower case.
        """
        return _WORD.sub(self._corrected, text)

    def _corrected(self, match: re.Match[str]) -> str:
        word = match[0]
        lower = word.lower()
        nearest = self._nearest(lower) if lower not in self._known and _whole(match) else ""
        if not nearest:
            return word
        if word.isupper():
            return nearest.upper()
        return nearest.capitalize() if word[0].isupper() else nearest

    def _nearest(self, word: str) -> str:
        """Returns the most frequent known word one edit away from an unknown one; "" if there is none.

        For a word with letters beyond ASCII, known words of the same length come first: such a letter more often
        replaces another, as a Cyrillic one the Latin one that it looks like, than it is one too many.
        """
        places = sorted({place for form in _forms(word) for place in self._with_form(hash(form))})
        near = [known for known in map(self.words.__getitem__, places) if one_edit(word, known)]
        alike = [known for known in near if not word.isascii() and len(known) == len(word)]
        return next(iter(alike + near), "")

    def _with_form(self, hashed: int) -> Iterator[int]:
        at = bisect_left(self._hashes, hashed)
        while at < len(self._hashes) and self._hashes[at] == hashed:
            yield self._places[at]
            at += 1


def _whole(match: re.Match[str]) -> bool:
    """Returns whether the run of letters is a whole word: no mark or invisible character joins it to its neighbours.

    Such characters are not letters, so the pattern alone does not see them.
    """
    text, start, end = match.string, match.start(), match.end()
    beside = text[start - 1 : start] + text[end : end + 1]
    return beside.isascii() or not any(unicodedata.category(one) in ("Mn", "Mc", "Me", "Cf") for one in beside)


def one_edit(word: str, other: str) -> bool:
    """Returns whether one letter added, left out, replaced, or swapped with its neighbour turns a word into another."""
    shorter = min(len(word), len(other))
    first = next((at for at in range(shorter) if word[at] != other[at]), shorter)
    shared_end = next((at for at in range(shorter - first) if word[-1 - at] != other[-1 - at]), shorter - first)
    middle, other_middle = word[first : len(word) - shared_end], other[first : len(other) - shared_end]
    if len(middle) == len(other_middle) == 2:
        return middle == other_middle[::-1]
    return word != other and len(middle) <= 1 and len(other_middle) <= 1


def _forms(word: str) -> set[str]:
    """Returns the word and every form of it with one letter left out."""
    return {word} | {word[:at] + word[at + 1 :] for at in range(len(word))}
