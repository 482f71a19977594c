"""Tiny models and rows for the tests: the real arithmetic, in milliseconds."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from submillion.config import LoraConfig, ModelConfig
from submillion.data.tokenizer import Tokens
from submillion.model.classifier import TextClassifier
from submillion.model.shape import EncoderShape
from submillion.training.device import Compute
from submillion.training.loop import TokenRows

FAMILIES = ("bert", "roberta", "mpnet")
CPU = Compute(torch.device("cpu"), torch.float32, "for tests")
HELD_OUT = 64  # rows of `learnable_rows` that a test keeps for validation


def tiny_shape(family: str, **changes: Any) -> EncoderShape:
    token_types = {"bert": 2, "roberta": 1, "mpnet": 0}[family]
    pad_id, eps = (0, 1e-12) if family == "bert" else (1, 1e-5)
    buckets = 32 if family == "mpnet" else 0
    shape = EncoderShape(family, 61, 24, 3, 2, 40, 48, token_types, pad_id, eps, buckets)  # type: ignore[arg-type]
    return replace(shape, **changes)


def ragged_batch(shape: EncoderShape, lengths: Sequence[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """input_ids and attention_mask of random rows, padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    input_ids = torch.randint(3, shape.vocab_size, mask.shape, generator=generator)
    return torch.where(mask == 1, input_ids, shape.pad_id), mask


def scatter(tensors: Sequence[Tensor], seed: int = 0, std: float = 0.3) -> None:
    """Moves every tensor by normal noise, so that no bias is 0 and no scale is 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in tensors:
            tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=std)


def tiny_classifier(
    seed: int = 0,
    shape: EncoderShape | None = None,
    model: ModelConfig | None = None,
    lora: LoraConfig | None = None,
    num_labels: int = 3,
) -> TextClassifier:
    """A classifier on a random encoder that lets its input through."""
    shape, model, lora = shape or tiny_shape("bert"), model or ModelConfig(), lora or LoraConfig()
    network = TextClassifier(shape, model, lora, num_labels, torch.Generator().manual_seed(seed))
    scatter(list(network.encoder.published_tensors().values()), seed=1)
    return network


def as_tokens(rows: Sequence[Sequence[int]]) -> Tokens:
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    flat = np.array([token for row in rows for token in row], dtype=np.int32)
    return Tokens(flat, lengths, np.cumsum(lengths) - lengths)


def learnable_rows(rows: int = 576, num_labels: int = 3, seed: int = 0, shuffle_labels: bool = False) -> TokenRows:
    """Rows of random tokens of which most are one of the three that belong to the row's label."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_labels, size=rows)
    texts = []
    for label in labels:
        length = int(rng.integers(4, 14))
        own = rng.integers(10 + 10 * label, 13 + 10 * label, size=length)
        any_token = rng.integers(10, 10 + 10 * num_labels, size=length)
        texts.append([2, *np.where(rng.random(length) < 0.8, own, any_token).tolist(), 3])
    return TokenRows(as_tokens(texts), rng.permutation(labels) if shuffle_labels else labels)


def some_of(data: TokenRows, rows: Sequence[int]) -> TokenRows:
    return TokenRows(as_tokens([data.tokens.row(row).tolist() for row in rows]), data.labels[list(rows)])


def transformers_config(shape: EncoderShape, num_labels: int = 3) -> Any:
    """The same shape as a configuration of transformers."""
    from transformers import BertConfig, MPNetConfig, RobertaConfig

    kind = {"bert": BertConfig, "roberta": RobertaConfig, "mpnet": MPNetConfig}[shape.family]
    values = asdict(shape)
    return kind(
        vocab_size=values["vocab_size"],
        hidden_size=values["hidden_size"],
        num_hidden_layers=values["num_layers"],
        num_attention_heads=values["num_heads"],
        intermediate_size=values["intermediate_size"],
        max_position_embeddings=values["num_positions"],
        type_vocab_size=values["num_token_types"],
        pad_token_id=values["pad_id"],
        layer_norm_eps=values["layer_norm_eps"],
        num_labels=num_labels,
    )


def transformers_classifier(shape: EncoderShape, num_labels: int = 3) -> Any:
    """transformers' classification model of this shape with scattered weights, dropout off."""
    from transformers import (
        BertForSequenceClassification,
        MPNetForSequenceClassification,
        RobertaForSequenceClassification,
    )

    kinds = {
        "bert": BertForSequenceClassification,
        "roberta": RobertaForSequenceClassification,
        "mpnet": MPNetForSequenceClassification,
    }
    model = kinds[shape.family](transformers_config(shape, num_labels)).eval()
    scatter(list(model.parameters()), seed=2)
    return model


def head_tensors(model: Any) -> dict[str, Tensor]:
    """A transformers classifier's head by our names: BERT's pooler and classifier are what RoBERTa calls a head."""
    bert = hasattr(model, "bert")
    dense = model.bert.pooler.dense if bert else model.classifier.dense
    out_proj = model.classifier if bert else model.classifier.out_proj
    named = {"head.dense": dense, "head.out_proj": out_proj}
    return {f"{name}.{kind}": getattr(layer, kind) for name, layer in named.items() for kind in ("weight", "bias")}


def copy_into(ours: TextClassifier, theirs: dict[str, Tensor]) -> None:
    """Puts tensors into our parameters of the same names."""
    parameters = ours.trainable()
    with torch.no_grad():
        for name, tensor in theirs.items():
            parameters[name].copy_(tensor)
