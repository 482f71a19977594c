"""Training texts as noise would leave them: a share of the rows of each epoch, drawn anew for each."""

from collections.abc import Sequence
from random import Random

from submillion.robustness.attack import misspellings
from submillion.robustness.noise import CORRUPTIONS, STRENGTHS, corrupt_by

WORDS_MISSPELT = (0.1, 0.4)  # share of a row's words; the attack changes 0.2, but the ones that hurt


def augment(texts: Sequence[str], share: float, seed: int, epoch: int) -> list[str]:
    """The texts, each with probability `share` noisy: half of those under one or two of CORRUPTIONS, of a strength
    between the suite's, the other half with a letter wrong in some of their words.

    Drawn from the seed, the epoch and the row's place. The kinds are the noise suite's and the attack's, so their
    figures for a model trained with this are those of noise the model was prepared for; style and shift are not in it.
    """
    found = []
    for row, text in enumerate(texts):
        random = Random(f"{seed} augment {epoch} {row}")
        if random.random() < share:
            text = _corrupted(text, random) if random.random() < 0.5 else _misspelt(text, random)
        found.append(text)
    return found


def _corrupted(text: str, random: Random) -> str:
    for name in random.sample(list(CORRUPTIONS), random.choice((1, 2))):
        _, parameters = CORRUPTIONS[name]
        parameter = random.uniform(parameters[STRENGTHS[0]], parameters[STRENGTHS[-1]])
        text = corrupt_by(text, name, parameter, random)
    return text


def _misspelt(text: str, random: Random) -> str:
    rate = random.uniform(*WORDS_MISSPELT)
    words = text.split()
    for at, word in enumerate(words):
        if random.random() < rate and (found := misspellings(word, random)):
            words[at] = random.choice(found)
    return " ".join(words) or text
