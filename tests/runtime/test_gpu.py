"""The same numbers on a GPU as on a CPU, and from graphs as from single kernels. Skipped where there is no GPU."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import (
    CPU,
    FAMILIES,
    HELD_OUT,
    TASK,
    difference,
    learnable_rows,
    ragged_batch,
    scatter,
    some_of,
    tiny_classifier,
    tiny_shape,
)
from torch import Tensor

from submillion.config.schema import TrainConfig
from submillion.errors import TrainingError
from submillion.model.classifier import TextClassifier
from submillion.model.spec import AdapterSpec, NetworkSpec
from submillion.runtime.device import Compute
from submillion.runtime.forward import compute_logits
from submillion.runtime.gpu import Later, Step, graphed, to_device
from submillion.text.tokenizer import Tokens
from submillion.training import step
from submillion.training.dropout import Dropout
from submillion.training.loop import FitResult, fit

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
GPU = Compute(torch.device("cuda"), torch.float32, "for tests")
DATA = learnable_rows()
TRAIN, VALIDATION = some_of(DATA, range(HELD_OUT, len(DATA))), some_of(DATA, range(HELD_OUT))
NOISY = some_of(DATA, np.roll(range(HELD_OUT, len(DATA)), 7).tolist()).tokens
LORA = AdapterSpec(rank=4, alpha=8.0, targets=("all-linear",))
CONFIG = TrainConfig(batch_size=32, learning_rate=1e-2, epochs=3, precision="fp32")


def run(
    compute: Compute = GPU, dropout: float = 0.0, views: Tokens | None = None, **changes: Any
) -> tuple[TextClassifier, FitResult]:
    network = tiny_classifier(network=NetworkSpec(dropout=dropout), adapters=LORA).to_compute(
        compute.dtype, compute.device
    )
    config = replace(CONFIG, **changes)
    looks = None if views is None else lambda epoch: views
    return network, fit(network, TASK, TRAIN, VALIDATION, config, 0, compute, views=looks)


def losses(result: FitResult) -> list[float]:
    return [record["train_loss"] for record in result.history]


def test_on_a_cpu_a_step_is_itself_and_looks_are_at_once() -> None:
    def step(x: Tensor) -> tuple[Tensor, ...]:
        return (x,)

    x = torch.arange(3)
    with graphed(step, [], torch.device("cpu")) as same:
        assert same is step
    assert to_device(x, torch.device("cpu")) is x
    seen: list[tuple[list[int], str]] = []
    later = Later(lambda values, name: seen.append((values.tolist(), name)))
    later.add(0, x, "a")
    assert seen == [([0, 1, 2], "a")]


@needs_gpu
@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_gradients_are_those_of_a_cpu(family: str, pooling: Any) -> None:
    shape, found = tiny_shape(family), []
    for compute in (CPU, GPU):
        network = tiny_classifier(shape=shape, network=NetworkSpec(pooling=pooling, dropout=0.0), adapters=LORA)
        scatter(list(network.trainable().values()), seed=3)
        network.to_compute(compute.dtype, compute.device)
        input_ids, mask = (tensor.to(compute.device) for tensor in ragged_batch(shape, [17, 3, 24, 9]))
        logits = network(input_ids, mask)
        logits.square().sum().backward()
        found.append(
            [logits.detach().cpu(), *(p.grad.cpu() for p in network.trainable().values() if p.grad is not None)]
        )
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)


CASES: dict[str, dict[str, Any]] = {
    "one look": {},
    "two looks": {"views": NOISY},
    "weighted": {"class_weights": "balanced"},
    "head first": {"few_labels": True},
    "many steps": {"batch_size": 4, "epochs": 4},  # so many that most are looked at a step late
}


@needs_gpu
@pytest.mark.parametrize("case", CASES)
def test_graphs_train_as_single_kernels_do(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_graphs, graphs = run(**CASES[case])
    monkeypatch.setattr(step, "graphed", lambda step, *_: nullcontext(step))
    without, kernels = run(**CASES[case])
    np.testing.assert_allclose(losses(graphs), losses(kernels), rtol=1e-5, atol=1e-6)
    assert difference(with_graphs, without) < 1e-5


@needs_gpu
def test_training_begins_as_on_a_cpu_and_learns() -> None:
    """Later steps differ: Adam divides by the gradient's size, also where that is rounding alone."""
    network, found = run()
    np.testing.assert_allclose(losses(found)[:2], losses(run(CPU)[1])[:2], rtol=1e-3)
    logits = compute_logits(network, TASK, VALIDATION.tokens, 64, GPU)
    assert float((logits.argmax(axis=1) == VALIDATION.targets).mean()) > 0.9


@needs_gpu
def test_graphs_are_recorded_once_a_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []

    @contextmanager
    def counting(step: Step, *others: Any) -> Iterator[Step]:
        def counted(targets: Tensor, weight: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
            calls.append(tuple(inputs[0].shape))
            return step(targets, weight, *inputs)

        with graphed(counted, *others) as made:
            yield made

    monkeypatch.setattr(step, "graphed", counting)
    _, result = run(epochs=5)
    assert max(calls.count(shape) for shape in calls) == 2  # once as it is, once recorded
    assert result.steps > len(calls)


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_seed_gives_the_same_bits(dtype: torch.dtype) -> None:
    compute = replace(GPU, dtype=dtype)
    first, second = (run(compute, dropout=0.1)[0] for _ in range(2))
    assert difference(first, second) == 0


@needs_gpu
def test_a_graph_draws_new_masks_each_time() -> None:
    dropout = Dropout(0)

    def step(x: Tensor) -> tuple[Tensor, ...]:
        mask = dropout(x.shape, 0.5, x)
        assert mask is not None
        return (mask,)

    x = torch.ones(1000, device="cuda")
    with graphed(step, [], GPU.device) as graph:
        masks = [graph(x)[0].clone() for _ in range(4)]
    assert len({tuple(mask.tolist()) for mask in masks}) == 4
    assert all(0.4 < float((mask == 0).float().mean()) < 0.6 for mask in masks)


@needs_gpu
def test_a_loss_that_is_not_finite_names_its_rows() -> None:
    network = tiny_classifier(adapters=LORA).to_compute(torch.float32, "cuda")
    token = int(TRAIN.tokens.row(5)[1])
    with torch.no_grad():
        network.encoder.word_embeddings[token] = float("nan")
    with pytest.raises(TrainingError, match="the loss is not finite at step") as raised:
        fit(network, TASK, TRAIN, VALIDATION, replace(CONFIG, batch_size=4, epochs=4), 0, GPU)
    rows = json.loads(str(raised.value).partition("training rows ")[2].partition(" (")[0])
    assert rows and all(token in TRAIN.tokens.row(row) for row in rows)


@needs_gpu
def test_logits_come_in_the_rows_order() -> None:
    network = tiny_classifier(adapters=LORA)
    expected = compute_logits(network, TASK, DATA.tokens, 8, CPU)
    found = compute_logits(network.to_compute(torch.float32, "cuda"), TASK, DATA.tokens, 8, GPU)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


MODELS: dict[str, tuple[str, NetworkSpec, AdapterSpec]] = {
    **{family: (family, NetworkSpec(dropout=0.0), LORA) for family in FAMILIES},
    "opened": ("bert", NetworkSpec(dropout=0.0, unfreeze_layers=1), LORA),
    "frozen below": ("bert", NetworkSpec(dropout=0.0), replace(LORA, layers=(2,), dropout=0.0)),
}


@needs_gpu
@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", MODELS)
def test_graphs_train_every_kind_of_model(
    name: str, dtype: torch.dtype, noise: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, model, lora = MODELS[name]
    compute, views = replace(GPU, dtype=dtype), (lambda _: NOISY) if noise else None

    def trained() -> list[float]:
        network = tiny_classifier(shape=tiny_shape(family), network=model, adapters=lora).to_compute(dtype, "cuda")
        return losses(fit(network, TASK, TRAIN, VALIDATION, CONFIG, 0, compute, views=views))

    with_graphs = trained()
    monkeypatch.setattr(step, "graphed", lambda step, *_: nullcontext(step))
    np.testing.assert_allclose(with_graphs, trained(), rtol=1e-5 if dtype == torch.float32 else 0.05, atol=1e-3)
