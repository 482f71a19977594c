"""Labels for the unlabelled texts of a run, by the run itself."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from submillion.runtime.progress import progress
from submillion.tasks.decoding import most_probable
from submillion.text.tokenizer import Tokens
from submillion.training.few_labels.selftraining import (
    STEPS,
    SelfTrained,
    neighbours,
    of_length_one,
    proportions_of,
    self_label,
    sharpened,
    spread,
)
from submillion.training.loop import FitResult
from submillion.training.ngram_fit import LEAST_LEARNED, latent_ngrams
from submillion.training.run import Run, Say

NAMED_PROPORTIONS = 4  # labels in the line about proportions


@dataclass(frozen=True)
class LabelledTexts:
    """Labels for the unlabelled texts that become training rows."""

    rows: np.ndarray  # sorted int64 places of the texts that become training rows
    targets: np.ndarray  # int64, one for each of these
    probabilities: np.ndarray  # of the labels of all texts, fp64 [texts, labels]
    right: Mapping[str, float] | None  # share of the validation rows, as in `SelfLabelled`
    proportions: Mapping[str, float] | None


def label_texts(run: Run, say: Say) -> LabelledTexts | FitResult:
    """Labels the unlabelled texts, by a regression on the pretrained features or by adapters.

    The regression labels the surest texts. If there are enough validation rows, adapters are trained on the labelled
    rows alone, and if they get more validation rows right, they label all texts. Afterwards the network's parameters
    are what they were before. If Ctrl-C ends that training, they are not, and the training's FitResult is returned.
    """
    held_out = run.validation.tokens
    compares = len(held_out) >= LEAST_LEARNED
    if not compares:
        held_out = held_out.take(np.empty(0, dtype=np.int64))
    known, texts, others = _features(run, held_out)
    steps = STEPS * len(run.unlabelled) + len(run.train) - run.names
    with progress("labels", steps, run.world.is_first) as advance:
        labelled = self_label(known, run.train.targets, texts, others, run.names, advance)
    proportions, right = _proportions(run, labelled.proportions, say), None
    if compares:
        untrained = run.network.snapshot()
        result = run.fit(run.texts, run.train)
        if result.interrupted:
            return result
        by_adapters = most_probable(run.logits("validation", held_out))
        answers = {"regression": labelled.answers, "adapters": by_adapters}
        right = {name: float((answer == run.validation.targets).mean()) for name, answer in answers.items()}
        for name, share in right.items():
            say("labels", f"{name}: {share:.2%} of the validation rows right")
        if right["adapters"] > right["regression"]:
            labelled = _by_adapters(run, known, texts, labelled)
        run.network.restore(untrained)
    probabilities = np.zeros((len(texts), len(run.corpus.label_names)))
    probabilities[:, np.unique(run.corpus.train.labels)] = labelled.probabilities
    return LabelledTexts(labelled.rows, labelled.labels, probabilities, right, proportions)


def _proportions(run: Run, proportions: np.ndarray, say: Say) -> dict[str, float] | None:
    """Returns the proportions in which the texts get labels, by label name; None if they are the training rows'.

    It also prints the proportions that differ most from the training rows'.
    """
    labels, of_rows = proportions_of(run.corpus.train.labels)
    if (proportions == of_rows).all():
        return None
    names = run.task.names(labels)
    most = np.argsort(-np.abs(proportions - of_rows), kind="stable")[:NAMED_PROPORTIONS]
    listed = ", ".join(f"{names[at]} {proportions[at]:.0%} ({of_rows[at]:.0%})" for at in most)
    say("labels", f"the texts hold them in other proportions than the training rows (in brackets): {listed}")
    return dict(zip(names, proportions.tolist(), strict=True))


def _by_adapters(run: Run, known: np.ndarray, texts: np.ndarray, labelled: SelfTrained) -> SelfTrained:
    """Returns the labels that the trained network gives to all unlabelled texts.

    Its probabilities are first spread to neighbours, in the proportions of `labelled`. known, texts: what `_features`
    returned for the training rows and for the texts. Neighbours are found by these features and the trained encoder's
    pooled states, side by side.
    """
    from scipy.special import softmax

    labels = run.corpus.train.labels  # without the label names
    classes = np.unique(labels)
    logits = run.logits("labels", run.unlabelled)[:, classes]
    trained = [of_length_one(run.pooled("features", tokens)) for tokens in (run.train.tokens, run.unlabelled)]
    known, texts = np.hstack([trained[0], known]), np.hstack([trained[1], texts])
    with progress("neighbours", len(labels) + len(texts), run.world.is_first) as advance:
        graph = neighbours(np.concatenate([known[: len(labels)], texts]), advance)
    probabilities = spread(graph, labels, softmax(logits.astype(np.float64), axis=1), labelled.proportions)
    targets = classes[most_probable(probabilities)]
    return replace(labelled, rows=np.arange(len(texts)), labels=targets, probabilities=sharpened(probabilities))


def _features(run: Run, held_out: Tokens) -> list[np.ndarray]:
    """Returns the features for self-training of the training rows, the unlabelled texts and the rows held out.

    They are fp64 [rows, features]: the pretrained encoder's pooled state and, if the run has n-grams, `latent_ngrams`,
    both of length 1, side by side.
    """
    parts, count = (run.train.tokens, run.unlabelled, held_out), len(run.train)
    features = [of_length_one(run.pooled("features", tokens)) for tokens in parts]
    if run.network.ngrams is None:
        return features
    known, others = latent_ngrams(Tokens.joined(parts[:2]), held_out, len(run.network.ngrams.weight))
    # The sentences around label names are all alike and say nothing: without them the regression at 1 row a class
    # gains 1.8 points of AG News' held-out rows.
    known[count - run.names : count] = 0
    return [np.hstack(both) for both in zip(features, (known[:count], known[count:], others), strict=True)]
