"""transformers' classes for sequence classification: what each computes, and what it calls the head's tensors."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from submillion.config import Config
from submillion.errors import ArtefactError, BaseModelError

_ROBERTA_HEAD = {"head.dense": "classifier.dense", "head.out_proj": "classifier.out_proj"}


@dataclass(frozen=True)
class StockClass:
    name: str
    tokenizer: str  # its class in transformers
    prefix: str  # before the encoder's published names
    head: dict[str, str]  # our layer -> theirs


# By model_type. BERT's pooler and classifier compute what RoBERTa's head does: linear(tanh(dense(first token))).
STOCK_CLASSES = {
    "bert": StockClass(
        "BertForSequenceClassification",
        "BertTokenizer",
        "bert.",
        {"head.dense": "bert.pooler.dense", "head.out_proj": "classifier"},
    ),
    "roberta": StockClass("RobertaForSequenceClassification", "RobertaTokenizer", "roberta.", _ROBERTA_HEAD),
    "xlm-roberta": StockClass("XLMRobertaForSequenceClassification", "XLMRobertaTokenizer", "roberta.", _ROBERTA_HEAD),
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


def check_representable(config: Config, stock: StockClass) -> None:
    """Raises ArtefactError where the stock class cannot compute what the model does: it would give other logits."""
    problems = []
    if config.model.head != "stock":
        problems.append(f"expected model.head stock (dense, tanh, linear), found {config.model.head}")
    if config.model.pooling != "first":
        problems.append(f"expected model.pooling first (the first token), found {config.model.pooling}")
    if problems:
        raise ArtefactError(
            f"transformers' {stock.name} cannot compute what this model does, and would give other logits\n  "
            + "\n  ".join(problems)
            + "\nfix: train with --model.head stock --model.pooling first"
        )


def head_tensors(tensors: dict[str, Tensor], stock: StockClass) -> dict[str, Tensor]:
    """Our head's tensors, fp32, under the stock class's names."""
    return {
        f"{theirs}.{kind}": tensors[f"{ours}.{kind}"].detach()
        for ours, theirs in stock.head.items()
        for kind in ("weight", "bias")
    }
