"""Training texts as noise would leave them: a share of the rows of each epoch, drawn anew for each."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from random import Random

import numpy as np

from submillion.data.spelling import Spelling
from submillion.robustness.attack import misspellings
from submillion.robustness.noise import CORRUPTIONS, STRENGTHS, corrupt_by

WORDS_MISSPELT = (0.1, 0.4)  # share of a row's words; the attack changes 0.2, but the ones that hurt
ROWS_A_PROCESS = 4_000  # at least: starting it takes as long as two thousand


def augment(
    texts: Sequence[str], share: float, seed: int, epoch: int, spelling: Spelling | None = None, processes: int = 1
) -> list[str]:
    """The texts, each with probability `share` noisy: half of those under one or two of CORRUPTIONS, of a strength
    between the suite's, the other half with a letter wrong in some of their words. spelling: then corrects all.

    Drawn from the seed, the epoch and the row's place, so any number of processes gives the same. The kinds are the
    noise suite's and the attack's, so their figures for a model trained with this are those of noise the model was
    prepared for; style and shift are not in it.
    """
    part = partial(_part, share=share, seed=seed, epoch=epoch, spelling=spelling)
    processes = min(processes, len(texts) // ROWS_A_PROCESS)
    if processes < 2:
        return part(texts, 0)
    from loky import ProcessPoolExecutor  # whose processes ask nothing of the caller's script, unlike the standard ones

    ends = np.linspace(0, len(texts), processes + 1).astype(int).tolist()
    pool = ProcessPoolExecutor(processes)
    try:
        parts = pool.map(part, [texts[first:end] for first, end in pairwise(ends)], ends[:-1])
        return [text for found in parts for text in found]
    finally:
        pool.shutdown(kill_workers=True)  # at a Ctrl-C at once, and idle they would not survive one


def _part(
    texts: Sequence[str], first: int, share: float, seed: int, epoch: int, spelling: Spelling | None
) -> list[str]:
    """`augment` of the rows from `first` on."""
    found = []
    for row, text in enumerate(texts, first):
        random = Random(f"{seed} augment {epoch} {row}")
        if random.random() < share:
            text = _corrupted(text, random) if random.random() < 0.5 else _misspelt(text, random)
        found.append(text if spelling is None else spelling.correct(text))
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
