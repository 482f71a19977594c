"""Words with a letter wrong."""

from random import Random

from submillion.text.noise import HOMOGLYPHS, neighbour


def misspellings(word: str, random: Random) -> list[str]:
    """Returns misspellings of a word: two letters swapped, one dropped, inserted, mistyped, or replaced by a homoglyph.

    There is at most one of each kind, and none that equals the word. A word without letters has none.
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
