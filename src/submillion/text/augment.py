"""Training texts as noise would leave them: a share of the rows of each epoch, drawn anew for each."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from random import Random

import numpy as np

from submillion.text.misspellings import misspellings
from submillion.text.noise import CORRUPTIONS, STRENGTHS, corrupt_by
from submillion.text.spelling import Spelling

WORDS_MISSPELT = (0.1, 0.4)  # share of a row's words; the attack changes 0.2, but the ones that hurt
ROWS_A_PROCESS = 4_000  # at least: starting a process takes as long as two thousand rows


def augment(
    texts: Sequence[str], share: float, seed: int, epoch: int, spelling: Spelling | None = None, processes: int = 1
) -> list[str]:
    """Returns the texts, each made noisy with probability `share`.

    Half of the noisy texts get one or two of CORRUPTIONS, of a strength between the noise suite's lowest and highest.
    The other half get a wrong letter in some of their words. spelling: corrects all texts afterwards. The draws depend
    on the seed, the epoch and the row's index, so any number of processes gives the same texts. The kinds of noise are
    those of the noise suite and the attack, so for a model trained with this, their figures are figures on noise that
    it was prepared for. Style and shift are not among these kinds.
    """
    part = partial(_part, share=share, seed=seed, epoch=epoch, spelling=spelling)
    processes = min(processes, len(texts) // ROWS_A_PROCESS)
    if processes < 2:
        return part(texts, 0)
    from loky import ProcessPoolExecutor  # unlike the standard pool's, its processes do not run the script

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
    """Returns some of the texts as `augment` does; `first` is the index of the first of them."""
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
