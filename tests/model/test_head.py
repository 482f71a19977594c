"""Head and pooling: the logits of transformers' classification models, and what each pooling reads."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from tiny import (
    FAMILIES,
    copy_into,
    head_tensors,
    ragged_batch,
    scatter,
    tiny_classifier,
    tiny_shape,
    transformers_classifier,
)
from torch import Tensor

from submillion.model.classifier import TextClassifier
from submillion.model.head import Head
from submillion.model.spec import AdapterSpec, NetworkSpec

LENGTHS = [5, 17, 2, 11]
NO_LORA = AdapterSpec(rank=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_stock_logits_equal_transformers(family: str) -> None:
    shape = tiny_shape(family)
    theirs = transformers_classifier(shape)
    ours = TextClassifier(shape, NetworkSpec(head="stock", pooling="first"), NO_LORA, num_outputs=3)
    ours.load(theirs.state_dict())
    copy_into(ours, head_tensors(theirs))
    input_ids, mask = ragged_batch(shape, LENGTHS)
    with torch.no_grad():
        expected = theirs(input_ids=input_ids, attention_mask=mask).logits
        torch.testing.assert_close(ours(input_ids, mask), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("kind", "names"), [("stock", ["dense", "out_proj"]), ("linear", ["out_proj"])])
def test_heads_hold_these_tensors_initialised_as_the_stock_heads_are(kind: str, names: list[str]) -> None:
    head = Head(kind, 100, 40, 0.1, torch.Generator().manual_seed(0))
    parameters = dict(head.named_parameters())
    assert list(parameters) == [f"{name}.{part}" for name in names for part in ("weight", "bias")]
    for name in names:
        assert parameters[f"{name}.weight"].std().item() == pytest.approx(0.02, rel=0.05)
        assert not parameters[f"{name}.bias"].any()


def test_mean_pooling_is_the_mean_over_the_tokens_without_padding() -> None:
    network = tiny_classifier(network=NetworkSpec(head="linear", pooling="mean"), adapters=NO_LORA)
    input_ids, mask = ragged_batch(network.encoder.shape, LENGTHS)
    hidden_states = network.encoder(input_ids, mask)
    pooled = torch.stack([row[:length].mean(dim=0) for row, length in zip(hidden_states, LENGTHS, strict=True)])
    torch.testing.assert_close(network(input_ids, mask), network.head.out_proj(pooled), atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_logits_of_a_row_do_not_depend_on_the_padding(pooling: str) -> None:
    network = tiny_classifier(network=NetworkSpec(pooling=pooling))  # type: ignore[arg-type]
    input_ids, mask = ragged_batch(network.encoder.shape, [6, 30])
    alone = network(input_ids[:1, :6], mask[:1, :6])
    torch.testing.assert_close(network(input_ids, mask)[:1], alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("kind", "times"), [("stock", 2), ("linear", 1)])
def test_dropout_is_applied_before_every_linear_layer(kind: str, times: int) -> None:
    head = Head(kind, 8, 3, 0.25)
    rates = []

    def drop_all(shape: Sequence[int], rate: float, like: Tensor) -> Tensor:
        rates.append(rate)
        return like.new_zeros(shape)

    assert not head(torch.randn(2, 8), drop_all).any()  # the biases are zero
    assert rates == [0.25] * times


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_to_compute_casts_what_is_frozen_and_nothing_that_trains(dtype: torch.dtype) -> None:
    model = NetworkSpec(unfreeze_layers=1)
    network = tiny_classifier(network=model).to_compute(dtype)
    fp32 = {name for name, buffer in network.named_buffers() if buffer.dtype == torch.float32}
    adapted = {f"encoder.layers.{index}.attention_input.weight" for index in range(len(network.encoder.layers) - 1)}
    assert fp32 >= adapted and (dtype == torch.float32 or all("norm" in name for name in fp32 - adapted))
    assert {buffer.dtype for buffer in network.buffers()} == {dtype, torch.float32}
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert network(*ragged_batch(network.encoder.shape, LENGTHS)).dtype == torch.float32


@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_logits_are_near_those_of_fp32(family: str) -> None:
    network = tiny_classifier(shape=tiny_shape(family))
    scatter([p for name, p in network.named_parameters() if name.startswith("head")])
    batch = ragged_batch(network.encoder.shape, LENGTHS)
    exact = network(*batch)
    found = network.to_compute(torch.bfloat16)(*batch)
    assert 0 < (found - exact).abs().max() < 0.1 * exact.std() + 0.1


def test_trainable_names_keep_their_order() -> None:
    lora = replace(NO_LORA, rank=1, targets=("value", "query"), layers=(2, 0))
    network = tiny_classifier(network=NetworkSpec(head="linear"), adapters=lora)
    assert list(network.trainable()) == [
        f"encoder.layers.{layer}.attention_input.lora_{matrix}.{part}"
        for layer in (0, 2)
        for matrix in "AB"
        for part in ("query", "value")
    ] + ["head.out_proj.weight", "head.out_proj.bias"]
