"""The peer that trains every parameter, on a tiny base: it learns, all of it moves, and the best epoch is kept."""

import sys
from pathlib import Path

import numpy as np
import torch
from news import EPOCHS, STEPS_AN_EPOCH, news_rows, run_of
from safetensors.torch import load_file

from submillion.config import resolve
from submillion.data.corpus import Corpus, load_corpus

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # benchmarks/ is no part of the installed package

from benchmarks.full import FullFineTuned, fine_tune


def test_every_parameter_trains_and_the_best_epoch_is_kept(tiny_base: Path, tmp_path: Path) -> None:
    overrides = run_of(tiny_base, tmp_path, train__learning_rate=3e-3, data__test_fraction=0.2)
    config = resolve(recipe="agnews-minilm", overrides=overrides | {"data.label_names": ()}).config
    corpus = load_corpus(config.data, 0, news_rows())
    model, found = fine_tune(config, corpus)
    assert found["steps"] == STEPS_AN_EPOCH * EPOCHS and found["best_step"] % STEPS_AN_EPOCH == 0
    assert found["validation"]["accuracy"] > 0.9 and accuracy(model, corpus) > 0.9
    assert found["parameters"]["trainable"] == sum(p.numel() for p in model.parameters())
    before = load_file(tiny_base / "model.safetensors")
    after = dict(model.encoder.named_parameters())
    assert before.keys() == after.keys()
    # Keys' biases move nothing: a softmax is blind to what all of its scores share.
    still = [name for name in before if torch.allclose(before[name], after[name].cpu(), atol=1e-5)]
    assert all(name.endswith("key.bias") for name in still)


def accuracy(model: FullFineTuned, corpus: Corpus) -> float:
    probabilities = model.probabilities(model.logits(corpus.test.texts))
    assert np.allclose(probabilities.sum(axis=1), 1)
    return float((probabilities.argmax(axis=1) == corpus.test.labels).mean())
