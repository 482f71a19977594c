"""Natural corruptions of a text, at three strengths, and the same text written in another style.

A corruption is drawn from its seed, its name, its strength and the text itself, so a row is corrupted alike whatever
other rows stand beside it. None empties a text, and none adds what UTF-8 cannot hold.
"""

import re
import unicodedata
from collections.abc import Callable
from random import Random
from typing import Literal

Strength = Literal["low", "medium", "high"]
STRENGTHS: tuple[Strength, ...] = ("low", "medium", "high")
LETTER_RATES = dict(zip(STRENGTHS, (0.02, 0.05, 0.1), strict=True))  # of letters: a typo every 50, 20, 10
WORD_RATES = dict(zip(STRENGTHS, (0.05, 0.1, 0.2), strict=True))  # of words
SHARES = dict(zip(STRENGTHS, (1 / 3, 2 / 3, 1.0), strict=True))  # of everything that the corruption could change
KEPT = dict(zip(STRENGTHS, (0.75, 0.5, 0.25), strict=True))  # of the words, from the first on
HEADLINE_WORDS = dict(zip(STRENGTHS, (16.0, 12.0, 8.0), strict=True))

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_OCR = {"0": "O", "1": "l", "5": "S", "8": "B", "O": "0", "S": "5", "B": "8", "l": "1", "I": "l", "i": "j", "e": "c"}
_OCR |= {"c": "e", "m": "rn", "w": "vv", "d": "cl", "h": "b", "n": "ri", "u": "v", "t": "f", "g": "q", "a": "o"}
HOMOGLYPHS = dict(zip("aceiopsxyABCEHIKMNOPSTXZ", "асеіорѕхуАВСЕНІКМΝОРЅТХΖ", strict=True))  # Cyrillic and Greek
_DEBRIS = (" #39;s ", " quot;", " &lt;b&gt;", "&lt;/b&gt; ", " #36;", " &amp;", " #151;", "\\\\")
_DEBRIS_FOUND = re.compile(r"&lt;.{0,12}?&gt;|&?(?:#\d{2,4}|quot|amp|lt|gt|nbsp);|\\+|<[^<>]{1,40}>")
# News agencies and sites, as they sign their reports: (Reuters), AP -, LONDON (AFP) --
_AGENCY_FOUND = re.compile(
    r"\((?:Reuters|AP|AFP|SPACE\.com|Ziff Davis|washingtonpost\.com|The Christian Science Monitor|TechWeb|MacCentral|"
    r"PC World|Forbes\.com|USATODAY\.com|Canadian Press|CP|NewsFactor|Maccentral)\)|"
    r"\b(?:Reuters|AP|AFP|SPACE\.com|USATODAY\.com) - |\b[A-Z]{3,}(?: [A-Z]{3,})? \((?:Reuters|AP|AFP)\) -+ ?"
)


def _neighbours() -> dict[str, str]:
    """Returns, for each letter, the keys beside its key: in the same row and in the rows above and below."""
    near = {}
    for y, row in enumerate(_ROWS):
        for x, letter in enumerate(row):
            places = [(y, x - 1), (y, x + 1), (y - 1, x), (y - 1, x + 1), (y + 1, x - 1), (y + 1, x)]
            near[letter] = "".join(_ROWS[b][a] for b, a in places if 0 <= b < 3 and 0 <= a < len(_ROWS[b]))
    return near


NEIGHBOURS = _neighbours()


def neighbour(letter: str, random: Random) -> str:
    """Returns a key beside the letter's key, in the letter's case; the letter itself if the keyboard lacks it."""
    near = NEIGHBOURS.get(letter.lower())
    if not near:
        return letter
    found = random.choice(near)
    return found.upper() if letter.isupper() else found


def _each(change: Callable[[str, Random], str], applies: Callable[[str], bool]) -> Callable[[str, Random, float], str]:
    """Returns a corruption that changes each character for which `applies` is true with probability `rate`."""

    def corrupt(text: str, random: Random, rate: float) -> str:
        return "".join(change(c, random) if applies(c) and random.random() < rate else c for c in text)

    return corrupt


def _is_sign(character: str) -> bool:
    """Returns whether a character is punctuation, a symbol or an ASCII control character.

    The marks and joiners that words are written with are not.
    """
    if character.isascii():
        return not (character.isalnum() or character.isspace())
    return unicodedata.category(character)[0] in "PS"


def _swap(text: str, random: Random, rate: float) -> str:
    letters = list(text)
    at = 0
    while at + 1 < len(letters):
        if letters[at].isalpha() and letters[at + 1].isalpha() and random.random() < rate:
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
            at += 1  # a letter moves once
        at += 1
    return "".join(letters)


def _lower_words(text: str, random: Random, share: float) -> str:
    return "".join(part.lower() if random.random() < share else part for part in re.split(r"(\s+)", text))


def _drop_words(text: str, random: Random, rate: float) -> str:
    return " ".join(word for word in text.split() if random.random() >= rate)


def _add_debris(text: str, random: Random, rate: float) -> str:
    return "".join(
        random.choice(_DEBRIS) + part if part.isspace() and random.random() < rate else part
        for part in re.split(r"(\s+)", text)
    )


def _break_whitespace(text: str, random: Random, rate: float) -> str:
    """Runs words together, and breaks words in two."""
    words = []
    for part in re.split(r"(\s+)", text):
        hit = random.random() < rate
        if part.isspace() or len(part) < 4 or not hit:
            words.append("" if hit and part.isspace() else part)
            continue
        at = random.randrange(1, len(part))
        words.append(f"{part[:at]} {part[at:]}")
    return "".join(words)


def _remove(pattern: re.Pattern[str]) -> Callable[[str, Random, float], str]:
    def corrupt(text: str, random: Random, share: float) -> str:
        return pattern.sub(lambda match: " " if random.random() < share else match[0], text)

    return corrupt


def _first_words(text: str, random: Random, share: float) -> str:
    words = text.split()
    return " ".join(words[: max(1, round(share * len(words)))])


def _headline(text: str, random: Random, count: float) -> str:
    return " ".join(text.split()[: int(count)])


# name -> the function, and its parameter at each strength
CORRUPTIONS: dict[str, tuple[Callable[[str, Random, float], str], dict[Strength, float]]] = {
    "keyboard": (_each(neighbour, str.isalpha), LETTER_RATES),
    "swap": (_swap, LETTER_RATES),
    "drop": (_each(lambda c, _: "", str.isalpha), LETTER_RATES),
    "repeat": (_each(lambda c, _: c + c, str.isalpha), LETTER_RATES),
    "ocr": (_each(lambda c, _: _OCR[c], _OCR.__contains__), LETTER_RATES),
    "homoglyphs": (_each(lambda c, _: HOMOGLYPHS[c], HOMOGLYPHS.__contains__), LETTER_RATES),
    "lower case": (_lower_words, SHARES),
    "random case": (_each(lambda c, _: c.swapcase(), str.isalpha), {key: 2 * rate for key, rate in WORD_RATES.items()}),
    "no punctuation": (_each(lambda c, _: "", _is_sign), SHARES),
    "HTML debris": (_add_debris, WORD_RATES),
    "no HTML debris": (_remove(_DEBRIS_FOUND), SHARES),
    "no agency": (_remove(_AGENCY_FOUND), SHARES),
    "word drop": (_drop_words, WORD_RATES),
    "whitespace": (_break_whitespace, WORD_RATES),
    "first part": (_first_words, KEPT),
    "headline": (_headline, HEADLINE_WORDS),
}


def corrupt(text: str, name: str, strength: Strength, seed: int = 0) -> str:
    """Returns the text under one of CORRUPTIONS; unchanged if nothing readable would be left."""
    _, parameters = CORRUPTIONS[name]
    return corrupt_by(text, name, parameters[strength], Random(f"{seed} {name} {strength} {text}"))


def corrupt_by(text: str, name: str, parameter: float, random: Random) -> str:
    """Returns what `corrupt` does, for a parameter of the corruption (a rate, a share, a number of words)."""
    change, _ = CORRUPTIONS[name]
    found = change(text, random, parameter)
    return found if found.strip() else text


def random_corruption(text: str, draw: int, seed: int = 0) -> str:
    """Returns the text under a random corruption of medium strength: the `draw`-th one drawn for this text."""
    name = Random(f"{seed} {draw} {text}").choice(list(CORRUPTIONS))
    return corrupt(text, name, "medium", seed=seed * 1_000 + draw)


# The same content as people would write it elsewhere: fixed rules, no model, so anyone can make the same rows.
_GREETINGS = ("Hi all,", "hey,", "Morning team,", "FYI -")
_CLOSINGS = ("Thoughts?", "Thanks, Sam", "Sent from my phone", "Let me know what you think.")
_TAGS = ("#news", "#breaking", "#today", "#mustread", "#wow")
_NAMES = ("@anna_k", "@dailydigest", "@mike84", "@newsbot")


def _words_only(text: str) -> str:
    return re.sub(r"\s+", " ", _AGENCY_FOUND.sub(" ", _DEBRIS_FOUND.sub(" ", text))).strip()


def _post(text: str, random: Random) -> str:
    words = _words_only(text).lower().split()[:24]
    hashed = [f"#{word}" if len(word) > 7 and word.isalpha() and random.random() < 0.3 else word for word in words]
    return f"RT {random.choice(_NAMES)}: {' '.join(hashed)}... {random.choice(_TAGS)} {random.choice(_TAGS)}"


def _message(text: str, random: Random) -> str:
    return f"{random.choice(_GREETINGS)} did you see this? {_words_only(text)} {random.choice(_CLOSINGS)}"


def _question(text: str, random: Random) -> str:
    words = _words_only(text).split()
    return f"Can anyone explain this to me: {' '.join(words[:18]).rstrip('.,;:')}? I don't really follow it."


def _shout(text: str, random: Random) -> str:
    return " ".join(_words_only(text).upper().split()[:20]) + "!!!"


STYLES: dict[str, Callable[[str, Random], str]] = {
    "post": _post,
    "message": _message,
    "question": _question,
    "shout": _shout,
}


def restyle(text: str, style: str, seed: int = 0) -> str:
    """Returns the text in one of STYLES; unchanged if nothing but tags would be left of it."""
    return STYLES[style](text, Random(f"{seed} {style} {text}")) if _words_only(text) else text
