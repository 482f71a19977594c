"""A run: all that training needs, loaded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from submillion.config.schema import Config
from submillion.data.corpus import Corpus
from submillion.model.base import Base
from submillion.model.budget import Plan
from submillion.model.classifier import TextClassifier
from submillion.model.spec import AdapterSpec, NetworkSpec
from submillion.runtime.batches import EVALUATION_ROWS
from submillion.runtime.device import Compute
from submillion.runtime.distributed import World
from submillion.runtime.forward import compute_logits, compute_pooled
from submillion.runtime.progress import progress
from submillion.tasks.task import Task
from submillion.text.augment import augment
from submillion.text.tokenizer import Tokenizer, Tokens
from submillion.training.loop import FitResult, Record, fit
from submillion.training.rows import TokenRows

Say = Callable[[str, str], None]  # a heading and a sentence about the run, to be printed as it goes
NOISY_SHARE = 1.0  # share of an epoch's rows that get noise


@dataclass(frozen=True)
class Run:
    """What each step of training reads, and the network that it changes."""

    config: Config  # as asked
    spec: NetworkSpec  # what the configuration came to: window and rank are numbers
    adapters: AdapterSpec
    plan: Plan
    base: Base
    task: Task
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

    def logits(self, title: str, tokens: Tokens) -> np.ndarray:
        """Returns the logits, fp32 [rows, outputs], under a progress bar with this title."""
        with progress(title, len(tokens), self.world.is_first) as advance:
            return compute_logits(self.network, self.task, tokens, EVALUATION_ROWS, self.compute, advance, self.world)

    def pooled(self, title: str, tokens: Tokens) -> np.ndarray:
        """Returns what the head reads of each row, fp32 [rows, hidden], under a progress bar with this title."""
        with progress(title, len(tokens), self.world.is_first) as advance:
            return compute_pooled(self.network, tokens, EVALUATION_ROWS, self.compute, advance, self.world)

    def fit(
        self, texts: Sequence[str], rows: TokenRows, on_record: Record | None = None, epochs: int | None = None
    ) -> FitResult:
        """Trains the adapters and the head on these rows, starting from the network's current parameters.

        epochs: if given, replaces train.epochs.
        """
        self.network.use_int8(0.0 if self.compute.int8 else None)
        return fit(
            self.network,
            self.task,
            rows,
            self.validation,
            self.config.train,
            self.config.seed,
            self.compute,
            self.world,
            on_record,
            self._noisy_views(texts) if self.config.robust.noise else None,
            self.config.robust.adapter_scale,
            epochs,
        )

    def _noisy_views(self, texts: Sequence[str]) -> Callable[[int], Tokens]:
        """Returns a function that takes an epoch's number and returns the tokens of the texts under its noise."""
        seed, spelling = self.config.seed, self.tokenizer.spelling
        plain = Tokenizer(self.tokenizer.backend, self.tokenizer.fingerprint)  # augment corrects the spelling already

        def views(epoch: int) -> Tokens:
            noisy = augment(texts, NOISY_SHARE, seed, epoch, spelling, torch.get_num_threads())
            return plain.encode(noisy, self.spec.max_length)  # without content: no n-gram learns from noise

        return views
