"""transformers' classes for sequence classification: what each computes, and what it calls the head's tensors."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from submillion.errors import ArtefactError, BaseModelError
from submillion.inference.artefact import Artefact

Pooling = Literal["first", "mean"]
_POOLINGS: dict[str, Pooling] = {"cls": "first", "mean": "mean"}
_NAMES = {ours: theirs for theirs, ours in _POOLINGS.items()}
_ROBERTA_HEAD = {"head.dense": "classifier.dense", "head.out_proj": "classifier.out_proj"}


@dataclass(frozen=True)
class StockClass:
    name: str
    tokenizer: str  # its class in transformers
    prefix: str  # before the encoder's published names
    head: dict[str, str]  # our layer -> theirs
    pooling_key: str = ""  # of its configuration; "" if it reads the first token, always

    def pooling(self, settings: dict[str, Any]) -> Pooling:
        """Returns what the class pools with this configuration. Raises BaseModelError for a pooling we do not have."""
        named = str(settings.get(self.pooling_key, "cls")) if self.pooling_key else "cls"
        if named not in _POOLINGS:
            raise BaseModelError(
                f"config.json: expected {self.pooling_key} cls or mean, found {named!r}\nfix: give a model with one"
            )
        return _POOLINGS[named]

    @property
    def poolings(self) -> tuple[Pooling, ...]:
        """Returns all poolings that the class can be told to use."""
        return ("first", "mean") if self.pooling_key else ("first",)

    def pooling_settings(self, pooling: Pooling) -> dict[str, str]:
        """Returns the settings of config.json that ask for a pooling; {} if the class has no choice."""
        return {self.pooling_key: _NAMES[pooling]} if self.pooling_key else {}


# By model_type. BERT's pooler and classifier compute what RoBERTa's head does: linear(tanh(dense(first token))). What
# each computes otherwise is `EncoderShape.stock_head`.
STOCK_CLASSES = {
    "bert": StockClass(
        "BertForSequenceClassification",
        "BertTokenizer",
        "bert.",
        {"head.dense": "bert.pooler.dense", "head.out_proj": "classifier"},
    ),
    "roberta": StockClass("RobertaForSequenceClassification", "RobertaTokenizer", "roberta.", _ROBERTA_HEAD),
    "xlm-roberta": StockClass("XLMRobertaForSequenceClassification", "XLMRobertaTokenizer", "roberta.", _ROBERTA_HEAD),
    "camembert": StockClass("CamembertForSequenceClassification", "CamembertTokenizer", "roberta.", _ROBERTA_HEAD),
    "electra": StockClass("ElectraForSequenceClassification", "ElectraTokenizer", "electra.", _ROBERTA_HEAD),
    "distilbert": StockClass(
        "DistilBertForSequenceClassification",
        "DistilBertTokenizer",
        "distilbert.",
        {"head.dense": "pre_classifier", "head.out_proj": "classifier"},
    ),
    "modernbert": StockClass(
        "ModernBertForSequenceClassification",
        "PreTrainedTokenizerFast",
        "model.",
        {"head.dense": "head.dense", "head.norm": "head.norm", "head.out_proj": "classifier"},
        pooling_key="classifier_pooling",
    ),
    "mpnet": StockClass("MPNetForSequenceClassification", "MPNetTokenizer", "mpnet.", _ROBERTA_HEAD),
}


def stock_class(model_type: object, where: Path) -> StockClass:
    """Raises BaseModelError for a model_type whose class is not in the table."""
    if not isinstance(model_type, str) or model_type not in STOCK_CLASSES:
        raise BaseModelError(
            f"{where}: expected a model_type out of {', '.join(STOCK_CLASSES)}, found {model_type!r}\n"
            "fix: give a model of one of these"
        )
    return STOCK_CLASSES[model_type]


def check_representable(
    artefact: Artefact, stock: StockClass, poolings: Collection[Pooling], own_tokenizer: bool = True
) -> None:
    """Raises ArtefactError if the stock class cannot compute what the model does: it would give other logits.

    poolings: those that it can be told to use. own_tokenizer: whether the model's goes along; else the base's is used.
    """
    (spec, _), normalise = artefact.specs(), artefact.configuration().robust.normalise
    cleans, spells = "clean" in normalise and not own_tokenizer, "spelling" in normalise
    problems = []
    if spec.head != "stock":
        problems.append(f"expected model.head stock (dense, activation, linear), found {spec.head}")
    if spec.ngram_buckets:
        problems.append(f"expected no n-grams, found model.ngram_buckets = {spec.ngram_buckets}")
    if spec.has_windows:
        problems.append(f"expected long texts whole, found windows of {spec.window} tokens")
    if spells:
        problems.append("expected texts as they are, found robust.normalise = spelling")
    if cleans:
        problems.append(
            "expected the base's tokenizer, which programs take with an adapter, found robust.normalise = clean"
        )
    if spec.pooling not in poolings:
        problems.append(f"expected the pooling {' or '.join(poolings)}, found {spec.pooling}")
    if problems:
        kept = [word for word in normalise if not (word == "spelling" and spells) and not (word == "clean" and cleans)]
        raise ArtefactError(
            f"transformers' {stock.name} cannot compute what this model does, and would give other logits\n  "
            + "\n  ".join(problems)
            + f"\nfix: {'--to transformers, which takes the tokenizer along, or ' * (cleans and len(problems) == 1)}"
            + "train with --model.head stock"
            + " --model.ngram-buckets 0" * (spec.ngram_buckets > 0)
            + f" --robust.normalise {' '.join(kept)}".rstrip() * (spells or cleans)
        )


def head_tensors(tensors: dict[str, Tensor], stock: StockClass) -> dict[str, Tensor]:
    """Returns our head's tensors, fp32, under the stock class's names."""
    return {
        f"{theirs}.{kind}": tensors[f"{ours}.{kind}"].detach()
        for ours, theirs in stock.head.items()
        for kind in ("weight", "bias")
        if f"{ours}.{kind}" in tensors
    }
