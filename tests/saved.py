"""Models of ours as a run saves them, on any base, with random tensors in place of trained ones."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import saved_by_type, scatter, tiny_shape, transformers_classifier

from submillion.config.mapping import to_mapping
from submillion.config.schema import Config, ModelConfig, RobustConfig, TrainConfig
from submillion.inference.artefact import Artefact, base_record, network_record
from submillion.model.base import find_base
from submillion.model.checkpoint import read_checkpoint
from submillion.model.classifier import TextClassifier
from submillion.model.config_json import read_shape
from submillion.model.spec import AdapterSpec, NetworkSpec
from submillion.tasks.saved import task_of, task_record
from submillion.text.tokenizer import Tokenizer

CAMPAIGN = "SUBMILLION_CAMPAIGN"  # set by `make campaign`
LABELS = ["World", 'Sports "and" <b>', "Économie: 雪"]
NARROW = AdapterSpec(rank=2, alpha=4.0)


def share(every: Sequence[Any], few: Sequence[Any]) -> Sequence[Any]:
    """Returns every case in a campaign, and few of them in the tests: each of these takes seconds."""
    return every if os.environ.get(CAMPAIGN) else few


def saved_checkpoints(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Returns {model_type: folder}, a random sequence classifier of each, saved by transformers itself."""

    def made(model_type: str, vocab_size: int) -> Any:
        shape = tiny_shape(model_type, vocab_size=vocab_size, num_positions=80)
        return transformers_classifier(shape, model_type=model_type)

    return saved_by_type(made, tokenizer_folder, tmp_path_factory)


def saved_model(
    base_folder: Path, folder: Path, adapters: AdapterSpec = NARROW, normalise: Sequence[Any] = (), **network: Any
) -> Path:
    """Saves a model on this base, its tensors scattered, and returns its folder, folder/best_model.

    normalise: as robust.normalise. network: fields of NetworkSpec.
    """
    spec = NetworkSpec(**{"max_length": 40, **network})
    config = Config(
        model=ModelConfig(base=str(base_folder), max_length=spec.max_length, head=spec.head),
        robust=RobustConfig(normalise=tuple(normalise)),
        train=TrainConfig(precision="fp32"),
    )
    artefact, _ = scattered_artefact(config, spec, adapters, LABELS)
    return artefact.save(folder / "best_model").parent


def scattered_artefact(
    config: Config, spec: NetworkSpec, adapters: AdapterSpec, label_names: Sequence[str]
) -> tuple[Artefact, TextClassifier]:
    """Returns what a run would save on the configuration's base, its tensors scattered, and the network they are of."""
    folder, task = Path(config.model.base), task_of(label_names)
    base, shape, tokenizer = find_base(str(folder)), read_shape(folder), Tokenizer.from_folder(folder)
    if "clean" in config.robust.normalise:
        tokenizer.clean_texts()
    network = TextClassifier(shape, spec, adapters, task.num_outputs, torch.Generator().manual_seed(0))
    network.load(read_checkpoint(folder))
    scatter(list(network.parameters()), seed=3)
    artefact = Artefact(
        tensors=dict(network.trainable()),
        task=task_record(task),
        base=base_record(base, shape),
        tokenizer=tokenizer.to_str(),
        tokenizer_sha256=tokenizer.fingerprint,
        config=to_mapping(config),
        network=network_record(spec, adapters),
        precision="fp32",
        parameters={"trainable": sum(p.numel() for p in network.parameters())},
        metrics={"validation": {"accuracy": 0.5}},
    )
    return artefact, network
