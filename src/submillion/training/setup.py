"""Sets up what a run computes with: its tokenizer, its rows as tokens, its window, its network, its precision."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from submillion.config.schema import Config
from submillion.data.corpus import Corpus, Rows
from submillion.model.base import Base
from submillion.model.checkpoint import read_checkpoint
from submillion.model.classifier import TextClassifier
from submillion.model.shape import EncoderShape
from submillion.model.spec import AdapterSpec, NetworkSpec
from submillion.runtime.batches import EVALUATION_ROWS
from submillion.runtime.device import Compute, choose_compute
from submillion.runtime.distributed import World
from submillion.runtime.int8 import MOST_CHANGE, features_change
from submillion.seeds import torch_generator
from submillion.text.spelling import Spelling
from submillion.text.tokenizer import Tokenizer, Tokens
from submillion.training.few_labels.label_names import name_sentences
from submillion.training.rows import TokenRows

WINDOW_SHARE = 0.995  # share of the training rows; 0.99 costs a twentieth of a point on AG News' held-out rows


def shared_compute(config: Config, world: World) -> Compute:
    """Returns the device and the precision; int8 only if every process of `world` has it."""
    compute = choose_compute(config.train.precision)
    return replace(compute, int8=world.all(compute.int8))


def tokenizer_for(config: Config, base: Base, shape: EncoderShape, corpus: Corpus) -> Tokenizer:
    """Returns the base's tokenizer with the normalisers of robust.normalise."""
    tokenizer = Tokenizer.from_folder(base.folder, shape.vocab_size)
    if "clean" in config.robust.normalise:
        tokenizer.clean_texts()
    if "spelling" in config.robust.normalise:
        names = name_sentences(corpus.label_names) if config.train.few_labels else []
        tokenizer.spelling = Spelling.learned(corpus.train.texts + corpus.unlabelled + names)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str], spec: NetworkSpec) -> Tokens:
    """Returns the tokens of texts, with their content if the network has n-grams."""
    return tokenizer.encode(texts, spec.max_length, content=spec.ngram_buckets > 0)


def encode_rows(tokenizer: Tokenizer, rows: Rows, spec: NetworkSpec) -> TokenRows:
    """Returns labelled rows as tokens."""
    return TokenRows(encode(tokenizer, rows.texts, spec), rows.labels)


def window_of(spec: NetworkSpec, tokenizer: Tokenizer, known: Tokens) -> int:
    """Returns the size of the windows of predictions, in tokens: WINDOW_SHARE of the known rows fit in one.

    The mean over tokens drifts in rows that are longer than the rows trained on, so a longer row is computed in equal
    windows. Returns 0, for no windows, if the head reads the first token, if the window would be no shorter than
    max_length, and if the tokenizer does not put exactly one token before a text and one after it, as windows need.
    """
    if spec.pooling != "mean" or len(tokenizer.encode([""], spec.max_length).row(0)) != 2:
        return 0
    window = max(3, int(np.quantile(known.lengths, WINDOW_SHARE, method="higher")))
    return window if window < spec.max_length else 0


def build_network(
    config: Config, base: Base, shape: EncoderShape, spec: NetworkSpec, adapters: AdapterSpec, num_outputs: int
) -> TextClassifier:
    """Returns the network with the base's weights and new adapters and head, in fp32 on the CPU."""
    network = TextClassifier(shape, spec, adapters, num_outputs, torch_generator(config.seed, "init"))
    network.load(read_checkpoint(base.folder))
    return network


def settled_precision(
    network: TextClassifier, known: Tokens, config: Config, compute: Compute, world: World
) -> tuple[Compute, float | None]:
    """Returns the precision to train in, and how far int8 moves the pretrained features; None if that was not tried.

    "auto" takes int8 only if the change is at most MOST_CHANGE, as a share of the rows' distance from their mean.
    """
    if not compute.int8 or config.train.precision != "auto":
        return compute, None
    change = features_change(network, known, EVALUATION_ROWS, compute, world)
    fits = change <= MOST_CHANGE  # not so for a change that is no number
    return (compute if fits else replace(compute, int8=False)), change
