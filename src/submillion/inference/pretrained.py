"""A fine-tuned sequence classifier that transformers saved, opened as one of our networks."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from submillion.config.schema import Config, DataConfig, LoraConfig, ModelConfig, TrainConfig
from submillion.errors import BaseModelError, encodable
from submillion.inference.json_files import read_json
from submillion.inference.stock import StockClass, stock_class
from submillion.inference.transformers_tokenizer import longest_row, read_tokenizer
from submillion.model.base import Base
from submillion.model.checkpoint import read_checkpoint
from submillion.model.classifier import TextClassifier
from submillion.model.config_json import read_shape
from submillion.model.spec import AdapterSpec, NetworkSpec
from submillion.text.tokenizer import Tokenizer


class Opened(NamedTuple):
    network: TextClassifier  # fp32
    tokenizer: Tokenizer
    label_names: list[str]
    spec: NetworkSpec
    config: Config


def read_transformers(base: Base) -> Opened:
    """Reads a fine-tuned sequence classifier of a supported family as one of our networks, without adapters.

    Its texts are read as transformers reads them. Raises BaseModelError if its class, task, labels or tensors are not
    those of such a classifier, and for a tokenizer that `read_tokenizer` refuses.
    """
    path = base.folder / "config.json"
    shape = read_shape(base.folder)
    settings = read_json(path)
    stock = stock_class(settings.get("model_type"), path)
    label_names = _label_names(settings, stock, path)
    spec = NetworkSpec(
        dropout=0.0, max_length=longest_row(base.folder, shape.max_tokens), pooling=stock.pooling(settings)
    )
    name = f"{base.name}@{base.revision}" if base.revision else base.name
    config = Config(
        data=DataConfig(source="unknown: a checkpoint of transformers", label_names=tuple(label_names)),
        model=ModelConfig(base=name, dropout=0.0, max_length=spec.max_length),
        lora=LoraConfig(rank=0),
        train=TrainConfig(precision="fp32"),  # what transformers computes in, unless told otherwise
    )
    network = TextClassifier(shape, spec, AdapterSpec(rank=0), len(label_names), torch.Generator())
    state = read_checkpoint(base.folder)
    network.load(state)
    parameters = network.trainable()
    named = {ours: f"{stock.head[ours.rpartition('.')[0]]}.{ours.rpartition('.')[2]}" for ours in parameters}
    problems = [
        f"{theirs}: expected {list(parameters[ours].shape)}, "
        f"found {list(state[theirs].shape) if theirs in state else 'nothing'}"
        for ours, theirs in named.items()
        if theirs not in state or state[theirs].shape != parameters[ours].shape
    ]
    if problems:
        raise BaseModelError(
            f"{base.folder} has no whole head of {stock.name}\n  " + "\n  ".join(problems) + "\nfix: save it again"
        )
    with torch.no_grad():
        for ours, theirs in named.items():
            parameters[ours].copy_(state[theirs])
    return Opened(network, read_tokenizer(base.folder, shape.vocab_size), label_names, spec, config)


def _label_names(settings: dict[str, Any], stock: StockClass, path: Path) -> list[str]:
    """Returns the label names in the order of the logits, as transformers reads them from config.json.

    They are those in id2label; without it LABEL_0, LABEL_1 and so on, as many as num_labels says, or two. Raises
    BaseModelError for another architecture, another kind of problem, a single label, and names that do not fit. If
    config.json names no architecture, the head's tensors decide later.
    """
    architectures = settings.get("architectures")
    if architectures and stock.name not in architectures:
        raise BaseModelError(
            f"{path}: expected the architecture {stock.name}, found {architectures}\n"
            "fix: give a fine-tuned classifier, or train one on this base: submillion train --model.base DIR"
        )
    check_problem_type(settings, path)
    names, number = settings.get("id2label"), settings.get("num_labels")
    if not names:
        number = 2 if number is None else number
        names = {str(index): f"LABEL_{index}" for index in range(number)} if isinstance(number, int) else number
    elif number not in (None, len(names)):
        raise BaseModelError(
            f"{path}: expected num_labels and id2label to agree, found num_labels {number!r} and {len(names)} names: "
            f"transformers would drop the names\nfix: remove num_labels there, where the names are right"
        )
    texts = label_texts(names)
    if len(texts) == 1:
        raise BaseModelError(
            f"{path}: expected two or more different names in id2label, found one: a head with one logit is a "
            "regression head, which gives a number and no label\nfix: use it with transformers"
        )
    if len(texts) < 2 or len(set(texts)) != len(texts):
        raise BaseModelError(
            f"{path}: expected id2label with two or more different names under 0, 1, ..., found {names}\n"
            "fix: name the labels there"
        )
    return texts


def check_problem_type(settings: dict[str, Any], path: Path) -> None:
    """Raises BaseModelError if config.json asks for a regression, or for several labels a text."""
    if settings.get("problem_type") not in (None, "single_label_classification"):
        raise BaseModelError(
            f"{path}: expected problem_type single_label_classification, found {settings['problem_type']!r}\n"
            "fix: use it with transformers; a softmax over its outputs would mean nothing"
        )


def label_texts(id2label: object) -> list[str]:
    """Returns the values of a config.json's id2label in order; [] if they are not under "0", "1" and so on.

    Values are texts or whole numbers, which are written as texts. A text with half a surrogate pair is none.
    """
    if not isinstance(id2label, dict):
        return []
    names = [id2label.get(str(index)) for index in range(len(id2label))]
    texts = [str(name) for name in names if isinstance(name, str | int) and not isinstance(name, bool)]
    return texts if len(texts) == len(names) and all(map(encodable, texts)) else []
