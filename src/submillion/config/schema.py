"""Every setting of a run: its type, its default, and a line that explains it.

A configuration is what the user asked for, and nothing rewrites it. What a run made of it (the rank of "auto", the
window, the precision) stands in the run's own record.
"""

from dataclasses import dataclass, field
from typing import Literal

IN_MEMORY = "data in memory"  # data.source of a run whose rows came from Python
TARGETS = ("query", "key", "value", "attention_output", "intermediate", "output")  # in the encoder's order

LabelForm = Literal["names", "integers"]


@dataclass(frozen=True)
class DataConfig:
    source: str = ""
    """Required. Labelled rows: a file (csv, tsv, jsonl, parquet, xlsx ...), a folder with train.* and test.* or with a
    folder for each label, package:NAME/CORPUS, or a hub id."""
    text_column: str = ""
    """Column of the texts, by name or by number from 1; several are joined: Title,Description. Empty: found by its name
    (text, sentence, content ...)."""
    label_column: str = ""
    """Column of the labels, by name or by number from 1. Empty: found by its name (label, labels, category ...)."""
    label_names: tuple[str, ...] = ()
    """Names of the labels in order; a row with another label is an error. Empty: as the source names them. A recipe's
    names hold for the recipe's own source only."""
    validation_fraction: float = 0.05
    """Share of the training rows that is held out to choose the best step and to calibrate the probabilities, if the
    source has no validation split."""
    test_fraction: float = 0.2
    """Share of the rows that is held out for the final measurement, if the source has no test split."""
    unlabelled: str = ""
    """A file of texts without labels, to train on as well: they get their labels from the nearest labelled rows or from
    a first model."""
    reading: tuple[str, ...] = ()
    """How to read a file that is read wrongly: separator=tab, encoding=cp1252, header=no, quoting=no.
    Short forms: --data.separator tab, --data.encoding cp1252, --no-header, --data.quoting no."""
    repair: tuple[Literal["merge-labels", "skip-bad-rows"], ...] = ()
    """merge-labels: take labels that look alike (sport, Sport) as one. skip-bad-rows: leave out unusable rows, and list
    them in skipped.csv. Short forms: --data.merge-labels, --data.skip-bad-rows."""

    @property
    def merge_labels(self) -> bool:
        return "merge-labels" in self.repair

    @property
    def skip_bad_rows(self) -> bool:
        return "skip-bad-rows" in self.repair


@dataclass(frozen=True)
class ModelConfig:
    base: str = "roberta-base"
    """Pretrained encoder: a folder, package:NAME (an installed package that carries one), or a hub id, alone or with a
    branch, tag or commit: NAME@REVISION."""
    max_length: int = 128
    """Most tokens of a text that the encoder reads, special tokens included; the rest is cut off."""
    head: Literal["stock", "linear"] = "stock"
    """linear: one layer on the mean over all tokens. stock: transformers' own, a dense layer more, on the first token
    (590,592 more parameters at hidden size 768)."""
    ngram_buckets: int = 0
    """Size of a table of logits for single tokens and pairs, which also reads beyond max_length: 8192 for long texts.
    It costs buckets times labels of the budget. 0: no table."""
    dropout: float = 0.1
    """Dropout while training, on hidden states, attention weights and the head's input; half of it on adapters."""
    unfreeze_layers: int = 0
    """Number of encoder layers, counted from the last, that train in full. roberta-base: 7.1 M parameters each."""


@dataclass(frozen=True)
class LoraConfig:
    rank: int | Literal["auto"] = 2
    """Rank of every adapter. auto: the largest that fits the budget. 0: no adapters, only the head trains."""
    targets: tuple[str, ...] = ("query", "value")
    """Linear layers with adapters: query, key, value, attention_output, intermediate, output; all-linear is all six."""


@dataclass(frozen=True)
class TrainConfig:
    epochs: int = 1
    """Passes over the training rows."""
    learning_rate: float = 5e-6
    """Peak learning rate: it rises over the first 6 % of the steps, then falls to 0 along a line."""
    batch_size: int = 32
    """Rows in each optimiser step."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: weight each row's loss by the inverse of its label's frequency, for rare labels that matter."""
    few_labels: bool = False
    """For 64 labelled rows per class or fewer: fit the head first, learn from the label names too, and calibrate by
    five-fold cross-validation. Takes about five times as long."""
    precision: Literal["auto", "int8", "bf16", "fp32"] = "auto"
    """Compute precision of the encoder. auto: the fastest that suits this processor."""


@dataclass(frozen=True)
class RobustConfig:
    noise: bool = False
    """Train on each row both as it is and with typos, lost case or cut text, and make both answers agree (R-Drop).
    Takes twice as long."""
    normalise: tuple[Literal["clean", "spelling"], ...] = ()
    """clean: read HTML as shown, and letters that only look Latin as Latin. spelling: read unknown words as the nearest
    training word. The saved model does so too."""
    adapter_scale: float = 1.0
    """Scales the trained adapters. Below 1 the model stays closer to the pretrained encoder, which helps on texts
    unlike the training rows."""


@dataclass(frozen=True)
class OutputConfig:
    dir: str = "best_model"
    """Folder for the results: model.pt, metrics.json, history.jsonl, config.toml, README.md (the model card), plots."""
    tensorboard: str = ""
    """Folder for TensorBoard's event files. Empty: none are written."""


@dataclass(frozen=True)
class Config:
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    robust: RobustConfig = field(default_factory=RobustConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    budget: int = 1_000_000
    """Most parameters that may train, in adapters, head, n-grams and unfrozen layers. More is refused."""
    seed: int = 0
    """Seed of the splits, initialisation, order of rows, dropout and noise. Equal seeds give equal models."""
