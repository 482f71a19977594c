"""A fine-tuned sequence classifier that transformers saved, opened as one of our networks."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch

from submillion.config import Config, DataConfig, LoraConfig, ModelConfig, TrainConfig
from submillion.data.tokenizer import Tokenizer
from submillion.errors import BaseModelError
from submillion.inference.stock import StockClass, stock_class
from submillion.model.base import Base
from submillion.model.checkpoint import read_checkpoint
from submillion.model.classifier import TextClassifier
from submillion.model.shape import read_shape


class Opened(NamedTuple):
    network: TextClassifier  # fp32
    tokenizer: Tokenizer
    label_names: list[str]
    config: Config


def read_transformers(base: Base) -> Opened:
    """A fine-tuned sequence classifier of a supported family, as one of our networks without adapters.

    Raises BaseModelError where its class, task, labels or tensors are not those of such a classifier, or where
    transformers would read its texts otherwise.
    """
    path = base.folder / "config.json"
    shape = read_shape(base.folder)
    settings = read_json(path)
    stock = stock_class(settings.get("model_type"), path)
    label_names = _label_names(settings, stock, path)
    model = ModelConfig(
        base=base.name,
        revision=base.revision,
        dropout=0.0,
        max_length=_max_length(base.folder, shape.max_tokens),
        pooling=stock.pooling(settings),
    )
    config = Config(
        model=model,
        lora=LoraConfig(rank=0),
        data=DataConfig(source="unknown: a checkpoint of transformers", label_names=tuple(label_names)),
        train=TrainConfig(precision="fp32"),  # what transformers computes in, unless told otherwise
    )
    network = TextClassifier(shape, model, config.lora, len(label_names), torch.Generator())
    state = read_checkpoint(base.folder)
    network.encoder.load(state)
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
    tokenizer = Tokenizer.from_folder(base.folder, shape.vocab_size)
    check_texts_read_alike(base.folder, tokenizer, stock, settings)
    return Opened(network, tokenizer, label_names, config)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises BaseModelError where it holds something else."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BaseModelError(f"{path}: expected a JSON object, found {error}\nfix: copy the file again") from None
    if not isinstance(content, dict):
        raise BaseModelError(f"{path}: expected a JSON object, found {type(content).__name__}\nfix: copy it again")
    return content


def _label_names(settings: dict[str, Any], stock: StockClass, path: Path) -> list[str]:
    """Returns the label names in the order of the logits, as transformers reads them from config.json.

    They are those in id2label; without it LABEL_0, LABEL_1 and so on, as many as num_labels says, or two. Raises
    BaseModelError for another architecture, another kind of problem, a single label, and names that do not fit. Where
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
    """Raises BaseModelError where config.json asks for a regression, or for several labels a text."""
    if settings.get("problem_type") not in (None, "single_label_classification"):
        raise BaseModelError(
            f"{path}: expected problem_type single_label_classification, found {settings['problem_type']!r}\n"
            "fix: use it with transformers; a softmax over its outputs would mean nothing"
        )


def label_texts(id2label: object) -> list[str]:
    """Returns the values of a config.json's id2label in order; [] where they are not under "0", "1" and so on.

    Values are texts or whole numbers, which are written as texts.
    """
    if not isinstance(id2label, dict):
        return []
    names = [id2label.get(str(index)) for index in range(len(id2label))]
    texts = [str(name) for name in names if isinstance(name, str | int) and not isinstance(name, bool)]
    return texts if len(texts) == len(names) else []


def _max_length(folder: Path, most: int) -> int:
    """The tokenizer's own limit where it has one that the encoder can place, else all that it can."""
    own = _read_if_there(folder / "tokenizer_config.json").get("model_max_length")
    return own if isinstance(own, int) and 3 <= own <= most else most


def check_texts_read_alike(folder: Path, tokenizer: Tokenizer, stock: StockClass, settings: dict[str, Any]) -> None:
    """Raises BaseModelError where transformers would read texts otherwise than the tokenizer made of these files does.

    settings: the content of config.json.
    """
    _check_truncation(folder)
    _check_normalizer(folder, tokenizer, stock, settings)


def _check_truncation(folder: Path) -> None:
    """Raises BaseModelError where the tokenizer's files ask for the end of a long text: its beginning is what we keep.

    Where tokenizer_config.json does not say, transformers takes the side that tokenizer.json cuts on.
    """
    own = _read_if_there(folder / "tokenizer_config.json").get("truncation_side")
    found = own or (_read_if_there(folder / "tokenizer.json").get("truncation") or {}).get("direction", "right")
    if str(found).lower() != "right":
        raise BaseModelError(
            f"{folder / ('tokenizer_config.json' if own else 'tokenizer.json')}: expected truncation_side right, found "
            f"{found!r}: transformers would read the end of a long text, and give other logits\n"
            'fix: "truncation_side": "right" in tokenizer_config.json, where its beginning will do; or train on this '
            "base: submillion train --model.base DIR"
        )


# Classes of transformers that build their own normalizer and take nothing of the one in tokenizer.json.
_BERT_TOKENIZERS = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MPNetTokenizer")
_BERT_DEFAULTS = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}


def _check_normalizer(folder: Path, tokenizer: Tokenizer, stock: StockClass, settings: dict[str, Any]) -> None:
    """Raises BaseModelError where transformers would change a text's case, accents or spaces otherwise than we."""
    own = _read_if_there(folder / "tokenizer_config.json")
    named = str(own.get("tokenizer_class") or settings.get("tokenizer_class") or stock.tokenizer).removesuffix("Fast")
    always_whole = stock.tokenizer == "PreTrainedTokenizerFast"  # a ModernBERT's is, whatever class is named
    if named not in _BERT_TOKENIZERS or always_whole or not (folder / "tokenizer.json").is_file():
        return
    expected = {name: own.get(name, default) for name, default in _BERT_DEFAULTS.items()}
    if expected["strip_accents"] is None:
        expected["strip_accents"] = expected["do_lower_case"]
    found = bert_settings(tokenizer)
    if found != expected:
        raise BaseModelError(
            f"{folder}: expected tokenizer.json to do what {named} does with tokenizer_config.json, {expected}, found "
            f"{found or 'another normalizer'}: transformers would give other logits\n"
            "fix: where tokenizer_config.json is right, write both again: "
            "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR); else set these in tokenizer_config.json"
        )


def bert_settings(tokenizer: Tokenizer) -> dict[str, bool | None]:
    """What tokenizer_config.json has to say of a BERT-like tokenizer's normalizer; {} of any other."""
    from tokenizers.normalizers import BertNormalizer

    own = tokenizer.backend.normalizer
    if not isinstance(own, BertNormalizer) or not own.clean_text:
        return {}
    strip_accents = own.lowercase if own.strip_accents is None else own.strip_accents
    values = (own.lowercase, strip_accents, own.handle_chinese_chars)
    return dict(zip(_BERT_DEFAULTS, values, strict=True))


def _read_if_there(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
