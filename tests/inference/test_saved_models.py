"""Models that earlier versions saved: each opens, with the tensors and the answers that it had."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from submillion.inference.artefact import SCHEMA, Artefact
from submillion.inference.classifier import Classifier

FOLDERS = sorted(Path(__file__).with_name("saved").glob("v*"))


def test_there_is_a_model_of_this_schema() -> None:
    assert f"v{SCHEMA}" in [folder.name for folder in FOLDERS], "make one: python tests/inference/saved/make.py"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_saved_model_opens_as_it_was(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text("utf-8"))
    tensors = Artefact.load(folder).tensors
    hashes = {name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in tensors.items()}
    assert hashes == expected["tensors"]
    classifier = Classifier.load(folder, base=folder / "base")
    np.testing.assert_allclose(classifier.logits(expected["texts"]), expected["logits"], atol=1e-5, rtol=0)
    assert classifier.predict(expected["texts"]) == expected["labels"]
    assert classifier.temperature == expected["temperature"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_saved_model_takes_little_of_the_repository(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 300_000
