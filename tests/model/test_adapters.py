"""Several adapter sets on one encoder: each network gives its own logits, and no weight of the encoder is copied."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from tiny import CPU, TASK, as_tokens, ragged_batch, scatter, tiny_classifier, tiny_shape
from torch import Tensor

from submillion.errors import ConfigError
from submillion.model.adapters import AdapterSet
from submillion.model.classifier import TextClassifier
from submillion.model.encoder import Encoder
from submillion.model.spec import AdapterSpec, NetworkSpec
from submillion.runtime.device import Compute
from submillion.runtime.forward import compute_logits

LENGTHS = [5, 17, 2, 11]
ROWS = as_tokens([[2, *range(5, 5 + length), 3] for length in (4, 9, 1, 30, 12, 7)])
SHAPE = tiny_shape("bert")
NARROW = AdapterSpec(rank=2, dropout=0.0)
WIDE = AdapterSpec(rank=4, alpha=2.0, dropout=0.0, targets=("all-linear",), layers=(1, 2))
BF16 = Compute(torch.device("cpu"), torch.bfloat16, "for tests")
pytestmark = pytest.mark.usefixtures("operations")


def network(seed: int, adapters: AdapterSpec, encoder: Encoder | None = None, **spec: Any) -> TextClassifier:
    """Returns a network whose trained tensors are scattered, on the encoder or on one of its own like it."""
    if encoder is None:
        encoder = tiny_classifier(adapters=AdapterSpec(rank=0)).encoder
    classifier = TextClassifier(SHAPE, NetworkSpec(**spec), adapters, 3, torch.Generator().manual_seed(seed), encoder)
    scatter(list(classifier.parameters()), seed=seed, std=0.1)
    return classifier


def two_on_one_encoder() -> tuple[TextClassifier, TextClassifier]:
    first = network(1, NARROW)
    return first, network(2, WIDE, first.encoder, pooling="mean", unfreeze_layers=1)


def each_alone() -> tuple[TextClassifier, TextClassifier]:
    return network(1, NARROW), network(2, WIDE, pooling="mean", unfreeze_layers=1)


def pretrained(encoder: Encoder) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in encoder.published_tensors().items()}


@pytest.mark.parametrize("compute", [CPU, BF16], ids=["fp32", "bf16"])
def test_two_networks_on_one_encoder_give_each_its_own_logits(compute: Compute) -> None:
    expected = [compute_logits(alone.to_compute(compute.dtype), TASK, ROWS, 4, compute) for alone in each_alone()]
    networks = two_on_one_encoder()
    for one in networks:
        one.to_compute(compute.dtype)
    frozen = pretrained(networks[0].encoder)
    assert networks[0].encoder is networks[1].encoder
    for _ in range(2):
        for one, logits in zip(networks, expected, strict=True):
            np.testing.assert_array_equal(compute_logits(one, TASK, ROWS, 4, compute), logits)
            np.testing.assert_array_equal(compute_logits(one.merged(), TASK, ROWS, 4, compute), logits)
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in networks[0].encoder.published_tensors().items())


@pytest.mark.parametrize("margin", [None, 0.0], ids=["bf16", "int8"])
def test_two_threads_compute_on_one_encoder_what_each_computes_alone(margin: float | None) -> None:
    networks = two_on_one_encoder()
    for one in networks:
        one.to_compute(torch.bfloat16)
    networks[1].use_int8(margin)  # of the second alone
    expected = [compute_logits(one, TASK, ROWS, 4, BF16) for one in networks]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda turn: compute_logits(networks[turn % 2], TASK, ROWS, 4, BF16), range(40)))
    for turn, logits in enumerate(answers):
        np.testing.assert_array_equal(logits, expected[turn % 2])


def test_two_threads_train_on_one_encoder_what_each_trains_alone() -> None:
    batch = ragged_batch(SHAPE, LENGTHS)

    def trained(one: TextClassifier) -> list[Tensor]:
        optimizer = torch.optim.AdamW(one.parameters(), lr=1e-2)
        for _ in range(5):
            optimizer.zero_grad()
            one(*batch).square().sum().backward()
            optimizer.step()
        return [parameter.detach().clone() for parameter in one.trainable().values()]

    expected = [trained(one) for one in each_alone()]
    networks = two_on_one_encoder()
    frozen = pretrained(networks[0].encoder)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(trained, networks))
    for result, alone in zip(results, expected, strict=True):
        assert all(map(torch.equal, result, alone))
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in networks[0].encoder.published_tensors().items())


def test_int8_of_one_network_is_not_int8_of_another() -> None:
    first, second = two_on_one_encoder()
    first.to_compute(torch.bfloat16)
    before = compute_logits(first, TASK, ROWS, 4, BF16)
    second.to_compute(torch.bfloat16, int8=True)
    np.testing.assert_array_equal(compute_logits(first, TASK, ROWS, 4, BF16), before)
    exact = compute_logits(second.without_int8(), TASK, ROWS, 4, BF16)
    assert not np.array_equal(compute_logits(second, TASK, ROWS, 4, BF16), exact) and second.int8_margin == 0.0


def test_packed_copies_of_frozen_weights_are_shared() -> None:
    first = network(1, NARROW)
    second = network(2, NARROW, first.encoder)
    first.to_compute(torch.bfloat16)
    merged = [one.merged() for one in (first, second)]
    for one in merged:
        compute_logits(one, TASK, ROWS, 4, BF16)
    frozen = [one.encoder.layer_list()[0].output for one in merged]
    adapted = [one.encoder.layer_list()[0].attention_input for one in merged]
    assert frozen[0] is frozen[1] is first.encoder.layer_list()[0].output
    assert adapted[0] is not adapted[1] and adapted[0].bias is adapted[1].bias


def test_networks_are_built_before_the_encoder_is_cast() -> None:
    first = network(1, NARROW).to_compute(torch.bfloat16)
    same_weights = network(2, NARROW, first.encoder)  # in fp32 still, for the first's adapters
    assert same_weights(*ragged_batch(SHAPE, LENGTHS)).isfinite().all()
    with pytest.raises(
        ValueError, match=r"layer 1, attention_output: expected a weight in fp32, found torch\.bfloat16"
    ):
        network(2, WIDE, first.encoder)


@pytest.mark.parametrize("build", [lambda: Encoder(tiny_shape("bert", num_layers=2)), lambda: Encoder(SHAPE, 0.3)])
def test_another_encoder_is_refused(build: Callable[[], Encoder]) -> None:
    with pytest.raises(ValueError, match="expected an encoder of"):
        network(1, NARROW, build())


def test_adapters_on_layers_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"layers \[3\], but this encoder has layers 0 to 2"):
        AdapterSet(Encoder(SHAPE).layer_list(), AdapterSpec(layers=(0, 3)))
