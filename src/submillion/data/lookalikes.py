"""Labels that a person takes for one: they differ in case, in spaces, in characters that are not seen."""

import html
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from submillion.data.confusables import LOOKALIKES

MISSING_WORDS = ("nan", "null", "none", "nil", "nat", "na", "n/a", "#n/a", "<na>", "undefined")
"""How programs write a missing value, in lower case."""
_JOINT = re.compile(r"(?<=\w)[\s_-]+(?=\w)")
_DASHES, _QUOTES, _DOUBLE_QUOTES = "\u2010\u2011\u2012\u2013\u2014\u2212", "\u2018\u2019\u02bc", "\u201c\u201d"
_PUNCTUATION = str.maketrans(
    dict.fromkeys(_DASHES, "-") | dict.fromkeys(_QUOTES, "'") | dict.fromkeys(_DOUBLE_QUOTES, '"')
)
_LATIN = str.maketrans({other.lower(): letter.lower() for letter, others in LOOKALIKES.items() for other in others})


def shape_of(name: str) -> str:
    """Returns what two labels that look alike have in common.

    It is without case, without what is not seen (zero-width spaces, byte-order marks), in one Unicode form, with one
    space for any space, hyphen or underscore between words, one kind of dash and of quote, none around the whole,
    HTML's names of characters as these, and letters that look Latin as Latin ones.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", html.unescape(name)).casefold())
    text = text.translate(_PUNCTUATION).strip().strip("\"'")
    text = "".join(char for char in text if not _is_unseen(char))
    text = _JOINT.sub(" ", text.replace("_", " ").strip())
    return text.translate(_LATIN) if re.search("[a-z]", text) else text


def _is_unseen(char: str) -> bool:
    """Returns whether a character has no width: a control or a format character, or a choice of an emoji's style."""
    return (unicodedata.category(char) in ("Cf", "Cc") and not char.isspace()) or char in "\ufe0e\ufe0f"


def alike_groups(counts: Mapping[str, int]) -> list[list[str]]:
    """Returns the groups of two labels or more that look alike, each with the most frequent first.

    counts: rows by label. Of two as frequent, the one that comes first in counts is first.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(counts, key=lambda name: -counts[name]):
        groups.setdefault(shape_of(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def alike_names(labels: Iterable[str], names: Sequence[str]) -> dict[str, str]:
    """Returns {label: name} for each label that is no name and looks like one name alone."""
    name_of: dict[str, list[str]] = {}
    for name in names:
        name_of.setdefault(shape_of(name), []).append(name)
    alike = {label: name_of.get(shape_of(label), []) for label in set(labels) - set(names)}
    return {label: candidates[0] for label, candidates in alike.items() if len(candidates) == 1}


def told_apart(names: Sequence[str]) -> list[str]:
    """Returns the names in quotes, with escapes for what is not seen and, if they look equal, for all but ASCII."""
    quoted = [repr(name) for name in names]
    composed = {unicodedata.normalize("NFKC", name) for name in quoted}
    return quoted if len(composed) == len(names) else [ascii(name) for name in names]
