"""Words that the training texts do not hold, read as the nearest word that they do: typos, and those made on purpose.

Word recognition in front of a classifier (Pruthi et al., 2019, arXiv:1905.11268), by a dictionary of the training texts
in place of their network. Two words are near where one edit makes one the other: a letter too many, missing, wrong, or
swapped with its neighbour (Damerau, 1964, Comm. ACM 7). Such words have a form in common that is left when each loses
one letter or none, which is how they are found without a look at every word (SymSpell, Garbe, 2012).
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
# Runs of letters, but for HTML's escapes (&nbsp; and quot;), which the tokenizer may be told to read, and for parts of
# words with an apostrophe (hadn't, O'Brien). A word of three letters has too many neighbours; one beyond forty is none.
_WORD = re.compile(rf"(?<![&'’])\b[^\W\d_]{{4,{MOST_LETTERS}}}+\b(?!;|['’]t\b)")


class Spelling:
    """words: in lower case, the most frequent first. An unknown word becomes the most frequent of those near it."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._known = frozenset(self.words)
        forms = [np.array([hash(form) for form in _forms(word)], dtype=np.int64) for word in self.words]
        places = np.repeat(np.arange(len(forms)), [len(found) for found in forms])
        hashes = np.concatenate([np.empty(0, dtype=np.int64), *forms])
        order = np.argsort(hashes)
        # Sorted, a tenth of a dict's memory. Forms that have the same hash by chance are told apart by `one_edit`.
        self._hashes, self._places = array("q", hashes[order].tobytes()), array("q", places[order].tobytes())

    @classmethod
    def learned(cls, texts: Sequence[str]) -> "Spelling":
        """From every word of the texts, MOST_WORDS at most, so that the texts stay as they are. Words that stand there
        once are names more often than mistakes: read as others they cost clean accuracy.
        """
        matches = (match for text in texts for match in _WORD.finditer(text))
        counts = Counter(match[0].lower() for match in matches if _whole(match))
        return cls(sorted(counts, key=lambda word: (-counts[word], word))[:MOST_WORDS])

    def __reduce__(self) -> tuple[type["Spelling"], tuple[tuple[str, ...]]]:
        return Spelling, (self.words,)  # strings have other hashes in another process

    def correct(self, text: str) -> str:
        """The text with each unknown word read as a known one near it, in capitals, capitalised or in lower case as the
        word begins; others stay.
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
        """The most frequent known word at one edit from an unknown one; "" where there is none. A letter that is not
        ASCII rather stands for another than it is one too many: a Cyrillic one for the Latin that it looks like.
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
    """Whether no mark or invisible character, which are no letters, joins the run of letters to what is beside it."""
    text, start, end = match.string, match.start(), match.end()
    beside = text[start - 1 : start] + text[end : end + 1]
    return beside.isascii() or not any(unicodedata.category(one) in ("Mn", "Mc", "Me", "Cf") for one in beside)


def one_edit(word: str, other: str) -> bool:
    """Whether one letter added, left out, replaced, or swapped with its neighbour makes a word another."""
    shorter = min(len(word), len(other))
    first = next((at for at in range(shorter) if word[at] != other[at]), shorter)
    shared_end = next((at for at in range(shorter - first) if word[-1 - at] != other[-1 - at]), shorter - first)
    middle, other_middle = word[first : len(word) - shared_end], other[first : len(other) - shared_end]
    if len(middle) == len(other_middle) == 2:
        return middle == other_middle[::-1]
    return word != other and len(middle) <= 1 and len(other_middle) <= 1


def _forms(word: str) -> set[str]:
    """The word, and all that is left of it when it loses one letter."""
    return {word} | {word[:at] + word[at + 1 :] for at in range(len(word))}
