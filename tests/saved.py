"""Models of ours as a run saves them, on any base, with random tensors in place of trained ones."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import saved_by_type, scatter, tiny_shape, transformers_classifier

from submillion.config import Config, LoraConfig, ModelConfig, TrainConfig, to_mapping
from submillion.data.tokenizer import Tokenizer
from submillion.model.base import find_base
from submillion.model.checkpoint import read_checkpoint
from submillion.model.classifier import TextClassifier
from submillion.model.shape import read_shape
from submillion.training.artefact import Artefact, base_record

LABELS = ["World", 'Sports "and" <b>', "Économie: 雪"]
NARROW = LoraConfig(rank=2, alpha=4.0)


def saved_checkpoints(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Returns {model_type: folder}, a random sequence classifier of each, saved by transformers itself."""

    def made(model_type: str, vocab_size: int) -> Any:
        shape = tiny_shape(model_type, vocab_size=vocab_size, num_positions=80)
        return transformers_classifier(shape, model_type=model_type)

    return saved_by_type(made, tokenizer_folder, tmp_path_factory)


def saved_model(base_folder: Path, folder: Path, lora: LoraConfig = NARROW, **model: Any) -> Path:
    """Saves a model on this base, its tensors scattered, and returns its folder, folder/best_model."""
    config = Config(
        model=ModelConfig(base=str(base_folder), **{"max_length": 40, **model}),
        lora=lora,
        train=TrainConfig(precision="fp32"),
    )
    base, shape, tokenizer = find_base(str(base_folder)), read_shape(base_folder), Tokenizer.from_folder(base_folder)
    if config.model.clean_text:
        tokenizer.clean_texts()
    network = TextClassifier(shape, config.model, lora, len(LABELS), torch.Generator().manual_seed(0))
    network.encoder.load(read_checkpoint(base_folder))
    scatter(list(network.parameters()), seed=3)
    artefact = Artefact(
        tensors=dict(network.trainable()),
        label_names=LABELS,
        base=base_record(base, shape),
        tokenizer=tokenizer.to_str(),
        tokenizer_sha256=tokenizer.fingerprint,
        config=to_mapping(config),
        parameters={"trainable": sum(p.numel() for p in network.parameters())},
        metrics={},
    )
    return artefact.save(folder / "best_model").parent
