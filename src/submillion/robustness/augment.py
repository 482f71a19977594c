"""Training texts as noise would leave them: a share of the rows of each epoch, drawn anew for each."""

from collections.abc import Sequence
from random import Random

from submillion.robustness.noise import CORRUPTIONS, STRENGTHS, corrupt_by


def augment(texts: Sequence[str], share: float, seed: int, epoch: int) -> list[str]:
    """The texts, each with probability `share` under one or two of CORRUPTIONS, of a strength between the suite's.

    Drawn from the seed, the epoch and the row's place. The kinds are the noise suite's, so its figures for a model
    trained with this are those of noise the model was prepared for; style, shift and attack are not in it.
    """
    names = list(CORRUPTIONS)
    found = []
    for row, text in enumerate(texts):
        random = Random(f"{seed} augment {epoch} {row}")
        if random.random() < share:
            for name in random.sample(names, random.choice((1, 2))):
                _, parameters = CORRUPTIONS[name]
                parameter = random.uniform(parameters[STRENGTHS[0]], parameters[STRENGTHS[-1]])
                text = corrupt_by(text, name, parameter, random)
        found.append(text)
    return found
