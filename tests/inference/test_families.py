"""Every kind of encoder trains, is saved and answers through the commands, with adapters, an open layer, a prefix."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from news import LABELS, news_rows, write_csv
from tiny import FAMILIES, MODEL_TYPES, saved_by_type, tiny_shape, transformers_config

from submillion.cli import main
from submillion.config.schema import Config, ModelConfig
from submillion.inference.artefact import Artefact
from submillion.inference.classifier import Classifier, load_network
from submillion.model.base import find_base
from submillion.runtime.batches import pad_batch
from submillion.training.planning import base_shape

WAYS: dict[str, list[str]] = {
    "adapters": ["--lora.targets", "all-linear"],
    "the last layer alone": ["--lora.rank", "0", "--model.unfreeze-layers", "1", "--model.dropout", "0"],
    "an open layer": ["--model.unfreeze-layers", "1"],
}


@pytest.fixture(scope="module")
def bases(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Returns a random base of each kind, saved by transformers, with a tokenizer."""
    from transformers import AutoModel

    def made(model_type: str, vocab_size: int) -> Any:
        config = transformers_config(
            tiny_shape(model_type, vocab_size=vocab_size, hidden_size=32), model_type=model_type
        )
        config.initializer_range = 0.2  # 0.02 would leave tokens deaf to each other at this size
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            return AutoModel.from_config(config)

    return saved_by_type(made, tiny_base, tmp_path_factory)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("rows") / "news.csv", news_rows(120))


def trained(base: Path, rows: Path, folder: Path, *flags: str, precision: str = "fp32") -> Path:
    argv = ["train", "--data.source", str(rows), "--model.base", str(base), "--model.max-length", "32"]
    argv += ["--train.epochs", "10", "--train.learning-rate", "1e-2", "--lora.rank", "4"]
    argv += ["--train.batch-size", "16", "--train.precision", precision, "--output.dir", str(folder / "best_model")]
    assert main([*argv, *flags]) == 0
    return folder / "best_model"


def check(model: Path) -> None:
    """Asserts that it learned, and that its reload gives the same logits for all texts at once, for one at a time, and
    with its adapters unmerged."""
    metrics = json.loads((model / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] > 0.8  # of three labels
    artefact, classifier = Artefact.load(model), Classifier.load(model)
    assert artefact.parameters["trainable"] == sum(tensor.numel() for tensor in artefact.tensors.values())
    texts = [text for text, _ in news_rows(4, seed=3)]
    together, one_by_one = classifier.logits(texts), [classifier.logits([text])[0] for text in texts]
    np.testing.assert_allclose(one_by_one, together, atol=1e-4, rtol=0)
    network, tokens = load_network(artefact, find_base(artefact.base["name"])), classifier.tokenizer.encode(texts, 32)
    with torch.no_grad():
        unmerged = network(*pad_batch(tokens, np.arange(len(tokens)), network.encoder.shape.pad_id, 32))
    np.testing.assert_allclose(unmerged, together, atol=1e-4, rtol=0)
    assert classifier.label_names == LABELS


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_kind_of_base_trains(model_type: str, bases: dict[str, Path], rows: Path, tmp_path: Path) -> None:
    check(trained(bases[model_type], rows, tmp_path, *WAYS["adapters"]))


@pytest.mark.parametrize("way", ["the last layer alone", "an open layer"])
@pytest.mark.parametrize("family", ["distilbert", "electra", "modernbert"])
def test_every_way_to_train(family: str, way: str, bases: dict[str, Path], rows: Path, tmp_path: Path) -> None:
    check(trained(bases[family], rows, tmp_path, *WAYS[way]))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_plan_of_a_folder_is_that_of_its_files(family: str, bases: dict[str, Path]) -> None:
    config = Config(model=ModelConfig(base=str(bases[family])))
    shape: Any = base_shape(config)
    assert shape.family == family


@pytest.mark.parametrize(
    ("base", "encoder"),
    [
        ("almanach/camembert-base", "110,031,360"),
        ("distilbert/distilbert-base-uncased", "66,362,880"),
        ("google/electra-small-discriminator", "13,483,008"),
        ("google/electra-base-discriminator", "108,891,648"),
        ("answerdotai/ModernBERT-base", "149,014,272"),
    ],
)
def test_plan_knows_the_published_bases(base: str, encoder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--recipe", "seed", "--model.base", base, "--model.head", "linear"]) == 0
    assert encoder in capsys.readouterr().out
