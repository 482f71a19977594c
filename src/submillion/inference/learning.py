"""What a run learns from, and the training on it: labelled rows, label names, unlabelled texts, n-grams."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from submillion.config import Config
from submillion.data.corpus import Corpus
from submillion.data.tokenizer import Tokenizer, Tokens
from submillion.errors import ConfigError, SubmillionError
from submillion.inference.calibration import LEAST_ROWS, LEAST_TEXTS
from submillion.inference.classifier import open_classifier
from submillion.model.base import Base
from submillion.model.budget import Plan
from submillion.model.classifier import TextClassifier
from submillion.robustness.augment import augment
from submillion.training.device import Compute
from submillion.training.distributed import World
from submillion.training.loop import FitResult, TokenRows, compute_logits, compute_ngrams, compute_pooled, fit
from submillion.training.ngram_fit import fit_ngrams, latent_ngrams, ngram_weight
from submillion.training.progress import progress
from submillion.training.selftraining import (
    STEPS,
    SelfLabelled,
    agreement,
    neighbours,
    of_length_one,
    proportions_of,
    self_label,
    sharpened,
    spread,
)
from submillion.training.tensorboard import Record

if TYPE_CHECKING:
    from rich.console import Console


LEAST_LEARNED = 100  # rows, for n-grams to learn from, or to choose between ways by
FEWEST_TEXTS, MOST_TEXTS = 100, 1_000  # that are held back to calibrate on


@dataclass(frozen=True)
class Run:
    """All that training needs, loaded: what each step below reads, and the network that it changes."""

    config: Config  # rank, label names and precision resolved
    plan: Plan
    base: Base
    corpus: Corpus
    tokenizer: Tokenizer
    network: TextClassifier
    compute: Compute
    world: World
    texts: list[str]  # of the training rows
    train: TokenRows
    validation: TokenRows
    test: TokenRows
    unlabelled: Tokens
    names: int = 0  # the last so many of the training rows are label names in a sentence, not rows of the corpus

    def computed(self, title: str, compute_rows: Callable[..., np.ndarray], tokens: Tokens) -> np.ndarray:
        """`compute_logits` or `compute_pooled` of these rows, under a bar with this title."""
        batch_size = self.config.train.eval_batch_size
        with progress(title, len(tokens), self.world.is_first) as advance:
            return compute_rows(self.network, tokens, batch_size, self.compute, advance, self.world)

    def fit(self, texts: Sequence[str], rows: TokenRows, on_record: Record | None = None) -> FitResult:
        """Trains the adapters and the head on these rows, from the parameters that there are."""
        config, spelling = self.config, self.tokenizer.spelling
        plain = Tokenizer(self.tokenizer.backend, self.tokenizer.fingerprint)  # augment corrects the spelling already

        def views(epoch: int) -> Tokens:
            noisy = augment(texts, config.train.augment, config.seed, epoch, spelling, torch.get_num_threads())
            return plain.encode(noisy, config.model.max_length)  # no n-gram learns from noise

        self.network.use_int8(0.0 if self.compute.int8 else None)
        noisy = views if config.train.augment else None
        return fit(
            self.network, rows, self.validation, config.train, config.seed, self.compute, self.world, on_record, noisy
        )


@dataclass(frozen=True)
class Learned:
    """How training went, and what it learned from."""

    result: FitResult
    rows: TokenRows
    metrics: dict[str, Any]  # what there is to say of labels
    # Texts that it did not learn from, and the probabilities of their labels: float [texts, labels].
    held_back: tuple[Tokens, np.ndarray] | None = None


@dataclass(frozen=True)
class Given:
    """Labels for the unlabelled texts that become training rows, and what else there is to say."""

    rows: np.ndarray  # sorted int64 indices of the texts that become training rows
    labels: np.ndarray  # int64, of each of these
    probabilities: np.ndarray  # of the labels of all texts, by who gave them: [texts, labels]
    metrics: dict[str, Any]  # for metrics.json
    interrupted: FitResult | None = None  # by Ctrl-C, while adapters trained to give labels: then none are given


def learn(run: Run, console: "Console", on_record: Record | None) -> Learned:
    """Trains the adapters and the head, on the labelled rows and on the unlabelled texts that get a label; `add_ngrams`
    comes next."""
    metrics: dict[str, Any] = {}
    if run.config.data.label_template:
        run, metrics["label_names"] = _with_label_names(run, console)
    if not run.corpus.unlabelled:
        return Learned(run.fit(run.texts, run.train, on_record), run.train, metrics)
    given = _by_teacher(run, console) if run.config.data.teacher else _self_labelled(run, console)
    count = "teacher_labelled" if run.config.data.teacher else "self_labelled"
    if given.interrupted:
        return Learned(given.interrupted, run.train, metrics | given.metrics | {count: 0})
    back = _held_back(run)
    if len(back):
        metrics["held_back"] = len(back)
        told = f"held back  {len(back):,} of {len(run.unlabelled):,} texts, to calibrate probabilities on"
        console.print(told, highlight=False)
    own = ~np.isin(given.rows, back)
    chosen, labels = given.rows[own], given.labels[own]
    joined = Tokens.joined([run.train.tokens, run.unlabelled.take(chosen)])
    rows = TokenRows(joined, np.concatenate([run.train.labels, labels]))
    texts = run.texts + [run.corpus.unlabelled[row] for row in chosen]
    result = _in_half_the_passes(run, console).fit(texts, rows, on_record)
    metrics |= given.metrics | {count: len(chosen)}
    held_back = (run.unlabelled.take(back), given.probabilities[back]) if len(back) else None
    return Learned(result, rows, metrics, held_back)


def _held_back(run: Run) -> np.ndarray:
    """int64 indices of the unlabelled texts that do not train, for probabilities to be calibrated on them: a tenth, but
    FEWEST_TEXTS at least and MOST_TEXTS at most. None where validation rows do that, and of fewer than LEAST_TEXTS."""
    if len(run.validation) >= LEAST_ROWS or len(run.unlabelled) < LEAST_TEXTS:
        return np.empty(0, dtype=np.int64)
    count = min(MOST_TEXTS, max(FEWEST_TEXTS, len(run.unlabelled) // 10))
    return np.linspace(0, len(run.unlabelled) - 1, count).round().astype(np.int64)


def calibrates(run: Run) -> bool:
    """Whether there are rows or texts held out that the temperature is fitted to."""
    return len(run.validation) >= LEAST_ROWS or len(_held_back(run)) > 0


def add_ngrams(run: Run, learned: TokenRows, console: "Console") -> dict[str, Any]:
    """Fits the n-grams, where the model has any, to the rows that it learned from; what there is to say of them."""
    # AG News, 8 rows a class and their names: 2 points less with n-grams than without; 16 a class: 0.5 (three draws).
    if run.network.ngrams is not None and len(learned) >= LEAST_LEARNED:
        return {"ngram_weight": _fitted_weight(run, learned)}
    if run.network.ngrams is not None:
        console.print(f"n-grams    stay zero: {len(learned)} rows, fewer than {LEAST_LEARNED}", highlight=False)
    return {}


def name_sentences(config: Config, label_names: Sequence[str]) -> list[str]:
    """The label names in the words around them; none without data.label_template."""
    template = config.data.label_template
    return [template.replace("{}", name) for name in label_names] if template else []


def _with_label_names(run: Run, console: "Console") -> tuple[Run, dict[str, Any]]:
    """The run with the name of each label that has rows as one more training row, where the names tell the rows apart;
    and how many of the rows they do, for metrics.json.

    Names that differ in digits alone, such as LABEL_0 and LABEL_1, say nothing of the labels whatever the rows say.
    """
    labels = np.unique(run.train.labels)
    names = [run.corpus.label_names[label] for label in labels]
    sentences = name_sentences(run.config, names)
    tokens = run.tokenizer.encode(sentences, run.config.model.max_length, content=run.network.ngrams is not None)
    features = [run.computed("label names", compute_pooled, of) for of in (run.train.tokens, tokens)]
    right, agree = agreement(features[0], run.train.labels, features[1])
    numbered = len({re.sub(r"\d+", "", name) for name in names}) < len(names)
    found = {"right": right, "read": agree and not numbered}
    said = ": each becomes a training row" if agree else ": too few, so they are not read"
    said = ", but differ in digits alone, so they are not read" if numbered else said
    told = f"names      alone they get {right:.0%} of the training rows right{said}"
    console.print(told, soft_wrap=True, highlight=False)
    if not found["read"]:
        return run, found
    train = TokenRows(Tokens.joined([run.train.tokens, tokens]), np.concatenate([run.train.labels, labels]))
    return replace(run, texts=run.texts + sentences, train=train, names=len(labels)), found


def _by_teacher(run: Run, console: "Console") -> Given:
    """The labels that the model data.teacher gives all texts.

    Raises ConfigError where its labels are others, and what `open_classifier` raises.
    """
    named, names = run.config.data.teacher, run.corpus.label_names
    try:
        teacher = open_classifier(Path(named), world=run.world)
    except SubmillionError as error:
        raise type(error)(f"data.teacher = {named}: {error}") from None
    if sorted(teacher.label_names) != sorted(names):
        raise ConfigError(
            f"data.teacher = {named}: expected a model of the labels {', '.join(sorted(names))}, "
            f"found {', '.join(sorted(teacher.label_names))}\nfix: another model, or --data.label-names as it has them"
        )
    texts = run.corpus.unlabelled
    with progress("labels", len(texts), run.world.is_first) as advance:
        logits = teacher.logits(texts, advance=advance, world=run.world)
    probabilities = teacher.probabilities(logits)[:, [teacher.label_names.index(name) for name in names]]
    console.print(f"labels     of all {len(texts):,} texts by {named}", soft_wrap=True, highlight=False, markup=False)
    return Given(np.arange(len(texts)), probabilities.argmax(axis=1), probabilities, {})


def _self_labelled(run: Run, console: "Console") -> Given:
    """The labels that this run gives the texts.

    A regression on the pretrained features gives them, to the surest; or, where there are validation rows enough to
    tell that they are better at it, adapters trained on the labelled rows alone, to all. The metrics: the share of the
    validation rows that each gets right, where both were tried, and the proportions of the labels in the texts, where
    they are not the training rows'. The network's parameters are afterwards what they were, unless Ctrl-C ended that
    training.
    """
    network, held_out = run.network, run.validation.tokens
    enough = len(held_out) >= LEAST_LEARNED
    if not enough:
        held_out = held_out.take(np.empty(0, dtype=np.int64))
    known, texts, others = _features(run, held_out)
    rows = STEPS * len(run.unlabelled) + len(run.train) - run.names
    with progress("labels", rows, run.world.is_first) as advance:
        labelled = self_label(known, run.train.labels, texts, others, run.names, advance)
    right: dict[str, float] = {}
    metrics: dict[str, Any] = {"self_labelling": right} | _told_proportions(run, labelled.proportions, console)
    if enough:
        untrained = network.snapshot()
        result = run.fit(run.texts, run.train)
        if result.interrupted:
            none = np.empty(0, dtype=np.int64)
            return Given(none, none, none, metrics, result)
        by_adapters = run.computed("validation", compute_logits, held_out).argmax(axis=1)
        for name, answers in (("regression", labelled.answers), ("adapters", by_adapters)):
            right[name] = float((answers == run.validation.labels).mean())
            console.print(f"labels     {name}: {right[name]:.2%} of the validation rows right", highlight=False)
        if right["adapters"] > right["regression"]:
            labelled = _by_adapters(run, known, texts, labelled)
        network.restore(untrained)
    probabilities = np.zeros((len(texts), len(run.corpus.label_names)))
    probabilities[:, np.unique(run.corpus.train.labels)] = labelled.probabilities
    return Given(labelled.rows, labelled.labels, probabilities, metrics)


def _in_half_the_passes(run: Run, console: "Console") -> Run:
    """The run with half of train.epochs, rounded up.

    Labels that were given here are wrong now and then, and more passes learn that by heart: on AG News two win 0.3
    points of held-out rows where four win nothing, in twice the time (10,000 labelled rows, 57,000 texts).
    """
    epochs = -(-run.config.train.epochs // 2)
    if epochs < run.config.train.epochs:
        console.print(
            f"passes     {epochs}, half of train.epochs: not all labels of the texts are right", highlight=False
        )
    return replace(run, config=replace(run.config, train=replace(run.config.train, epochs=epochs)))


def _told_proportions(run: Run, proportions: np.ndarray, console: "Console") -> dict[str, dict[str, float]]:
    """The proportions in which the texts get labels, for metrics.json, and a line of those that differ most; nothing
    where they are the training rows'."""
    labels, own = proportions_of(run.corpus.train.labels)
    if (proportions == own).all():
        return {}
    names = [run.corpus.label_names[label] for label in labels]
    most = np.argsort(-np.abs(proportions - own), kind="stable")[:4]
    said = ", ".join(f"{names[at]} {proportions[at]:.0%} ({own[at]:.0%})" for at in most)
    told = f"labels     the texts hold them in other proportions than the training rows (in brackets): {said}"
    console.print(told, soft_wrap=True, highlight=False)
    return {"label_proportions": dict(zip(names, proportions.tolist(), strict=True))}


def _by_adapters(run: Run, known: np.ndarray, texts: np.ndarray, labelled: SelfLabelled) -> SelfLabelled:
    """The label that the trained network gives each of the unlabelled texts, once its probabilities have gone to
    neighbours, in the proportions that there are.

    known and texts: what `_features` found of the training rows and of the texts. What is near to what is told by these
    and by the trained encoder's pooled state, side by side.
    """
    from scipy.special import softmax

    labels = run.corpus.train.labels  # without the label names
    classes = np.unique(labels)
    logits = run.computed("labels", compute_logits, run.unlabelled)[:, classes]
    trained = [of_length_one(run.computed("features", compute_pooled, of)) for of in (run.train.tokens, run.unlabelled)]
    known, texts = np.hstack([trained[0], known]), np.hstack([trained[1], texts])
    with progress("neighbours", len(labels) + len(texts), run.world.is_first) as advance:
        graph = neighbours(np.concatenate([known[: len(labels)], texts]), advance)
    found = spread(graph, labels, softmax(logits.astype(np.float64), axis=1), labelled.proportions)
    labels = classes[found.argmax(axis=1)]
    return replace(labelled, rows=np.arange(len(texts)), labels=labels, probabilities=sharpened(found))


def _features(run: Run, held_out: Tokens) -> list[np.ndarray]:
    """What self-training sees of the training rows, of the unlabelled texts and of the rows held out: the pretrained
    encoder's pooled state and, where n-grams are read, what these are about; both of length 1, side by side."""
    parts, count = (run.train.tokens, run.unlabelled, held_out), len(run.train)
    features = [of_length_one(run.computed("features", compute_pooled, of)) for of in parts]
    if run.network.ngrams is None:
        return features
    known, others = latent_ngrams(Tokens.joined(parts[:2]), held_out, len(run.network.ngrams.weight))
    # Of label names the words around them, all alike, say nothing: the regression at 1 row a class gains 1.8 points of
    # AG News' held-out rows.
    known[count - run.names : count] = 0
    return [np.hstack(both) for both in zip(features, (known[:count], known[count:], others), strict=True)]


def _fitted_weight(run: Run, learned: TokenRows) -> float:
    """Fits the n-grams to these rows, and returns how much they weigh beside the trained encoder's logits.

    The first process does, and the others take over what it finds: unlike machines may round unlike.
    """
    network, validation = run.network, run.validation
    assert network.ngrams is not None
    weight = torch.ones(1, dtype=torch.float64)
    enough = len(validation) >= LEAST_LEARNED
    if enough:
        logits = run.computed("validation", compute_logits, validation.tokens)  # the table is zero still
    if run.world.is_first:
        fit_ngrams(network.ngrams, learned, run.config.train)
        if enough:
            added = compute_ngrams(network, validation.tokens)
            weight.fill_(ngram_weight(logits, added, validation.labels))
        network.ngrams.scale(weight.item())
    run.world.from_first(network.ngrams.weight.data)
    return run.world.from_first(weight).item()
