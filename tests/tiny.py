"""Tiny models and rows for the tests: the real arithmetic, in milliseconds."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from submillion.inference.stock import STOCK_CLASSES
from submillion.model.classifier import TextClassifier
from submillion.model.families import FAMILY_OF_TYPE
from submillion.model.shape import EncoderShape, ModernBertShape
from submillion.model.spec import AdapterSpec, NetworkSpec
from submillion.runtime.device import Compute
from submillion.tasks.one_label import OneLabel
from submillion.text.tokenizer import Tokenizer, Tokens
from submillion.training.rows import TokenRows

FAMILIES = ("bert", "roberta", "mpnet", "distilbert", "electra", "modernbert")
# Every model_type that is read. Two of them are RoBERTa to us, under names of their own.
MODEL_TYPES = (*FAMILIES, "xlm-roberta", "camembert")
CPU = Compute(torch.device("cpu"), torch.float32, "for tests")
TASK = OneLabel(("first", "second", "third"))  # of `learnable_rows`
HELD_OUT = 64  # rows of `learnable_rows` that a test keeps for validation


def tiny_shape(family: str, **changes: Any) -> EncoderShape:
    """Returns the shape of a tiny encoder of a family, or of a model_type that belongs to one."""
    family = FAMILY_OF_TYPE[family]
    counts_from_padding = family in ("roberta", "mpnet")
    shape = EncoderShape(
        family=family,
        vocab_size=61,
        hidden_size=32,
        num_layers=3,
        num_heads=2,
        intermediate_size=48,
        num_positions=48,
        num_token_types={"bert": 2, "electra": 2, "roberta": 1}.get(family, 0),
        pad_id=1 if counts_from_padding else 0,
        layer_norm_eps=1e-5 if counts_from_padding or family == "modernbert" else 1e-12,
        relative_buckets=32 if family == "mpnet" else 0,
        embedding_size=16 if family == "electra" else 0,
        modernbert=ModernBertShape((0, 2), window=3) if family == "modernbert" else None,
    )
    return replace(shape, **changes)


def ragged_batch(shape: EncoderShape, lengths: Sequence[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Returns input_ids and attention_mask of random rows, padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    input_ids = torch.randint(3, shape.vocab_size, mask.shape, generator=generator)
    return torch.where(mask == 1, input_ids, shape.pad_id), mask


def scatter(tensors: Sequence[Tensor], seed: int = 0, std: float = 0.2) -> None:
    """Moves every tensor by normal noise, so that no bias is 0 and no scale is 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in tensors:
            tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=std)


def tiny_classifier(
    seed: int = 0,
    shape: EncoderShape | None = None,
    network: NetworkSpec | None = None,
    adapters: AdapterSpec | None = None,
    num_labels: int = 3,
) -> TextClassifier:
    """A classifier on a random encoder that lets its input through."""
    shape, network, adapters = shape or tiny_shape("bert"), network or NetworkSpec(), adapters or AdapterSpec()
    classifier = TextClassifier(shape, network, adapters, num_labels, torch.Generator().manual_seed(seed))
    weights = {name: tensor.clone() for name, tensor in classifier.encoder.published_tensors().items()}
    scatter(list(weights.values()), seed=1)
    classifier.load(weights)
    return classifier


def as_tokens(rows: Sequence[Sequence[int]]) -> Tokens:
    return Tokens.of_rows([np.array(row, dtype=np.int32) for row in rows])


def learnable_rows(rows: int = 576, num_labels: int = 3, seed: int = 0, shuffle_labels: bool = False) -> TokenRows:
    """Returns rows of random tokens, most of them one of the three that belong to the row's label."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_labels, size=rows)
    texts = []
    for label in labels:
        length = int(rng.integers(4, 14))
        own = rng.integers(10 + 10 * label, 13 + 10 * label, size=length)
        any_token = rng.integers(10, 10 + 10 * num_labels, size=length)
        texts.append([2, *np.where(rng.random(length) < 0.8, own, any_token).tolist(), 3])
    return TokenRows(as_tokens(texts), rng.permutation(labels) if shuffle_labels else labels)


def difference(first: TextClassifier, second: TextClassifier) -> float:
    """Returns the largest difference of two models' parameters, on whichever device each is."""
    pairs = zip(first.trainable().values(), second.trainable().values(), strict=True)
    return max((a.cpu() - b.cpu()).abs().max().item() for a, b in pairs)


def some_of(data: TokenRows, rows: Sequence[int]) -> TokenRows:
    return data.take(np.array(rows, dtype=np.int64))


def transformers_config(shape: EncoderShape, num_labels: int = 3, model_type: str = "") -> Any:
    """Returns the same shape as a configuration of transformers. model_type: if it is not the family's name."""
    from transformers import AutoConfig

    values = {
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "max_position_embeddings": shape.num_positions,
        "pad_token_id": shape.pad_id,
        "num_labels": num_labels,
    }
    if shape.family == "distilbert":
        values |= {"hidden_dim": shape.intermediate_size}
    else:
        values |= {"intermediate_size": shape.intermediate_size}
    if shape.num_token_types:
        values |= {"type_vocab_size": shape.num_token_types}
    if shape.family == "electra":
        values |= {"embedding_size": shape.embedding_size or shape.hidden_size}
    if shape.modernbert is None:
        values |= {} if shape.family == "distilbert" else {"layer_norm_eps": shape.layer_norm_eps}
    else:
        values |= modernbert_settings(shape, shape.modernbert)
    return AutoConfig.for_model(model_type or shape.family, **values)


def modernbert_settings(shape: EncoderShape, modern: ModernBertShape) -> dict[str, Any]:
    is_global = [layer in modern.global_layers for layer in range(shape.num_layers)]
    thetas = {"full_attention": modern.global_theta, "sliding_attention": modern.local_theta}
    return {
        "norm_eps": shape.layer_norm_eps,
        "local_attention": 2 * modern.window,
        "layer_types": ["full_attention" if whole else "sliding_attention" for whole in is_global],
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in thetas.items()},
        "attention_bias": modern.attention_bias,
        "mlp_bias": modern.feed_forward_bias,
        "norm_bias": modern.norm_bias,
        "classifier_bias": modern.head_bias,
        **{f"{name}_token_id": 0 for name in ("bos", "eos", "cls", "sep")},  # within the tiny vocabulary
    }


def transformers_classifier(shape: EncoderShape, num_labels: int = 3, model_type: str = "") -> Any:
    """Returns transformers' classification model of this shape with scattered weights, dropout off."""
    from transformers import AutoModelForSequenceClassification

    config = transformers_config(shape, num_labels, model_type)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config).eval()
    scatter(list(model.parameters()), seed=2)
    return model


def saved_by_type(
    made: Callable[[str, int], Any], tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Returns a folder for each of MODEL_TYPES: made(model_type, vocab_size) and a tokenizer, saved by transformers."""
    tokenizer = Tokenizer.from_folder(tokenizer_folder)
    folders = {}
    for model_type in MODEL_TYPES:
        folder = tmp_path_factory.mktemp(model_type)
        made(model_type, tokenizer.backend.get_vocab_size()).save_pretrained(folder)
        (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
        if model_type in ("roberta", "xlm-roberta", "camembert", "mpnet"):  # whose classes read no such vocabulary
            whole = {"tokenizer_class": "PreTrainedTokenizerFast"}
            (folder / "tokenizer_config.json").write_text(json.dumps(whole), encoding="utf-8")
        folders[model_type] = folder
    return folders


def head_tensors(model: Any) -> dict[str, Tensor]:
    """Returns a transformers classifier's head by our names: BERT's pooler and classifier are RoBERTa's head."""
    theirs = dict(model.named_parameters())
    return {
        f"{ours}.{kind}": theirs[f"{name}.{kind}"]
        for ours, name in STOCK_CLASSES[model.config.model_type].head.items()
        for kind in ("weight", "bias")
        if f"{name}.{kind}" in theirs
    }


def copy_into(ours: TextClassifier, theirs: dict[str, Tensor]) -> None:
    """Puts tensors into our parameters of the same names."""
    parameters = ours.trainable()
    with torch.no_grad():
        for name, tensor in theirs.items():
            parameters[name].copy_(tensor)


def interrupt_at_step(wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raises KeyboardInterrupt within that optimiser step, counted from 1, as Ctrl-C would."""
    original, calls = torch.optim.AdamW.step, iter(range(1, 1000))

    def step(self: Any, *args: Any) -> Any:
        if next(calls) == wanted:
            raise KeyboardInterrupt
        return original(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
