"""LoRA: the same logits, gradients and initialisation as peft's; merging is exact, explicit and can be undone."""

import copy
import math
import pickle
from collections.abc import Sequence
from typing import Any

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
from torch.nn import functional as F

from submillion.model.budget import adapted_layers, target_names
from submillion.model.classifier import TextClassifier
from submillion.model.families import LAYER_KEYS, layer_prefix
from submillion.model.lora import LinearAdapter, Pass, PretrainedLinear
from submillion.model.shape import EncoderShape
from submillion.model.spec import AdapterSpec, NetworkSpec

LENGTHS = [5, 17, 2, 11]
NARROW = AdapterSpec(rank=2, alpha=4.0, targets=("query", "value"))
WIDE = AdapterSpec(rank=8, alpha=4.0, targets=("all-linear",))
SOME_LAYERS = AdapterSpec(rank=3, alpha=6.0, targets=("key", "attention_output", "output"), layers=(0, 2))
FULL = NetworkSpec(unfreeze_layers=1)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),  # peft with transformers
    pytest.mark.usefixtures("operations"),
]


def with_peft(shape: EncoderShape, lora: AdapterSpec) -> Any:
    """transformers' classifier with peft's adapters, B scattered too, the head training."""
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    layers = adapted_layers(lora, shape.num_layers)
    keys = LAYER_KEYS[shape.family]
    config = PeftConfig(
        r=int(lora.rank),
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=[
            f"{layer_prefix(shape.family, i)}{keys[part]}" for i in layers for part in target_names(lora.targets)
        ],
    )
    model = get_peft_model(transformers_classifier(shape), config).eval()
    scatter([p for name, p in model.named_parameters() if "lora_" in name], seed=5, std=0.2)
    for p in head_tensors(model.base_model.model).values():
        p.requires_grad_(True)
    return model


def peft_tensors(model: Any, shape: EncoderShape) -> dict[str, Tensor]:
    """peft's trainable tensors by our names."""
    modules = ("attention_input",) * 3 + ("attention_output", "intermediate", "output")
    keys = list(LAYER_KEYS[shape.family].items())
    linears = [(part, key) for part, key in keys if not part.endswith("norm")]
    names = {
        f"{prefix}{key}.lora_{matrix}.": f"encoder.layers.{index}.{module}.lora_{matrix}.{part}"
        for index, prefix in enumerate(layer_prefix(shape.family, index) for index in range(shape.num_layers))
        for module, (part, key) in zip(modules, linears, strict=True)
        for matrix in "AB"
    }
    tensors = head_tensors(model.base_model.model)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            tensors[next(ours for theirs, ours in names.items() if theirs in name)] = parameter
    return tensors


@pytest.fixture(scope="module", params=[family for family in FAMILIES if family != "modernbert"])
def shape(request: pytest.FixtureRequest) -> EncoderShape:
    return tiny_shape(request.param)


@pytest.mark.parametrize("lora", [NARROW, WIDE, SOME_LAYERS], ids=["narrow", "wide", "some layers"])
def test_logits_and_gradients_equal_peft(shape: EncoderShape, lora: AdapterSpec) -> None:
    theirs = with_peft(shape, lora)
    expected = peft_tensors(theirs, shape)
    ours = TextClassifier(shape, NetworkSpec(head="stock"), lora, num_outputs=3)
    published = {name.replace("base_layer.", ""): p for name, p in theirs.base_model.model.state_dict().items()}
    ours.load(published)
    assert ours.trainable().keys() == expected.keys()
    copy_into(ours, expected)

    input_ids, mask = ragged_batch(shape, LENGTHS)
    labels = torch.tensor([0, 2, 1, 1])
    their_logits = theirs(input_ids=input_ids, attention_mask=mask).logits
    logits = ours(input_ids, mask)
    torch.testing.assert_close(logits, their_logits, atol=1e-5, rtol=0)
    F.cross_entropy(their_logits, labels).backward()
    F.cross_entropy(logits, labels).backward()
    for name, parameter in ours.trainable().items():
        torch.testing.assert_close(parameter.grad, expected[name].grad, atol=1e-5, rtol=0, msg=name)


def test_initialisation_is_that_of_peft() -> None:
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(400, 8)), PeftConfig(r=50, target_modules=["0"]))
    their_A, their_B = (p for name, p in model.named_parameters() if "lora_" in name)
    linear = PretrainedLinear("attention_input", 400, {"query": 8})
    adapter = LinearAdapter(linear, AdapterSpec(rank=50), torch.Generator().manual_seed(0))
    lora_A, lora_B = adapter.lora_A["query"], adapter.lora_B["query"]
    assert (lora_A.shape, lora_B.shape) == (their_A.shape, their_B.shape)
    for tensor in (lora_A, their_A):  # uniform within 1 / sqrt(in_features): 20,000 numbers reach the bound and fill it
        assert 0.999 / math.sqrt(400) < tensor.abs().max() <= 1 / math.sqrt(400)
        assert tensor.std().item() == pytest.approx(1 / math.sqrt(3 * 400), rel=0.02)
        assert abs(tensor.mean().item()) < 1e-3
    assert not lora_B.any() and not their_B.any()


def test_fresh_adapters_change_nothing() -> None:
    batch = ragged_batch(tiny_shape("bert"), LENGTHS)
    adapted, plain = tiny_classifier(adapters=WIDE), tiny_classifier(adapters=AdapterSpec(rank=0))
    assert torch.equal(adapted(*batch), plain(*batch))


def test_the_seed_decides_the_initialisation() -> None:
    first, same, other = (tiny_classifier(seed).trainable() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    drawn = [name for name in first if first[name].any()]
    assert drawn and not any(torch.equal(first[name], other[name]) for name in drawn)


def linear_and_pass(parts: dict[str, int], spec: AdapterSpec, dropout: Any = None) -> tuple[PretrainedLinear, Pass]:
    """Returns a layer of 6 inputs, and how it is computed with adapters; all tensors scattered."""
    linear = PretrainedLinear("attention_input", 6, parts)
    adapter = LinearAdapter(linear, spec)
    scatter([linear.weight, linear.bias, *adapter.parameters()])
    return linear, Pass(dropout, {linear.name: adapter})


@pytest.mark.parametrize(
    "parts", [["query"], ["key"], ["value"], ["query", "key"], ["key", "value"], ["query", "key", "value"]]
)
def test_each_part_has_its_own_adapter(parts: list[str]) -> None:
    spec = AdapterSpec(rank=2, alpha=3.0, dropout=0.0, targets=("query", "value"))
    linear, how = linear_and_pass({"query": 3, "key": 4, "value": 5}, spec)
    adapter = how.adapters[linear.name]
    x = torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(3))
    expected = []
    for part in parts:
        start, end = linear.rows[part]
        y = x @ linear.weight[start:end].T + linear.bias[start:end]
        if part != "key":
            y = y + 1.5 * (x @ adapter.lora_A[part].T @ adapter.lora_B[part].T)
        expected.append(y)
    torch.testing.assert_close(linear(x, how, parts), torch.cat(expected, dim=-1), atol=1e-5, rtol=0)


def test_dropout_acts_on_the_adapter_alone() -> None:
    x = torch.ones(3, 6)
    rates = []

    def drop_all(shape: Sequence[int], rate: float, like: Tensor) -> Tensor:
        rates.append(rate)
        return like.new_zeros(shape)

    linear, how = linear_and_pass({"query": 4}, AdapterSpec(rank=2, alpha=2.0, dropout=0.5), drop_all)
    torch.testing.assert_close(linear(x, how), x @ linear.weight.T + linear.bias)
    assert rates == [0.5] and not torch.allclose(linear(x, how._replace(dropout=None)), linear(x, how))


def adapted(spec: NetworkSpec | None = None) -> TextClassifier:
    network = tiny_classifier(network=spec, adapters=WIDE)
    scatter([p for name, p in network.named_parameters() if "lora_B" in name or "head" in name], std=0.1)
    return network


def weights(network: TextClassifier) -> list[Tensor]:
    return [linear.weight.detach().clone() for linear in network.encoder.linears()]


@pytest.mark.parametrize("unfrozen", [False, True])
def test_merged_logits_equal_unmerged(unfrozen: bool) -> None:
    network = adapted(FULL if unfrozen else None)
    batch = ragged_batch(network.encoder.shape, LENGTHS)
    before = network(*batch)
    torch.testing.assert_close(network.merged()(*batch), before, atol=1e-5, rtol=0)
    fresh = tiny_classifier(network=FULL if unfrozen else None, adapters=WIDE)
    assert not torch.allclose(before, fresh(*batch), atol=1e-2)


@pytest.mark.parametrize("unfrozen", [False, True])
def test_merging_a_merged_network_is_merging_once(unfrozen: bool) -> None:
    network = adapted(FULL if unfrozen else None)
    once = network.merged()
    again = once.merged().merged()
    assert all(map(torch.equal, weights(again), weights(once)))
    assert not any(map(torch.equal, weights(once), weights(network)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("unfrozen", [False, True])
def test_merging_leaves_the_network_as_it_was_however_often(unfrozen: bool, dtype: torch.dtype) -> None:
    network = adapted(FULL if unfrozen else None).to_compute(dtype)
    batch = ragged_batch(network.encoder.shape, LENGTHS)
    plain, logits, names = weights(network), network(*batch), list(network.trainable())
    first, second = (network.merged()(*batch) for _ in range(2))
    assert torch.equal(first, second)
    assert all(map(torch.equal, weights(network), plain)) and torch.equal(network(*batch), logits)
    assert list(network.trainable()) == names


def test_a_merged_network_shares_every_tensor_but_adapted_weights() -> None:
    network = tiny_classifier(network=FULL, adapters=NARROW)
    merged = network.merged()
    theirs = {name: (p.data_ptr(), p.shape) for name, p in network.encoder.published_tensors().items()}
    ours = {name: (p.data_ptr(), p.shape) for name, p in merged.encoder.published_tensors().items()}
    new = {name for name in ours if ours[name] != theirs[name]}
    adapted_names = {
        f"encoder.layer.{i}.attention.self.{key}.weight" for i in (0, 1) for key in ("query", "key", "value")
    }
    assert {name for name in new if "layer.2" not in name} == adapted_names
    unfrozen = {p.data_ptr() for p in network.trainable().values()}
    # The unfrozen layer's own tensors, but for the three parts of the matrix that adapters are added to.
    assert sum(ours[name][0] in unfrozen for name in new if "layer.2" in name) == 13 - 2
    assert merged.head is network.head


def test_merging_in_bf16_rounds_once() -> None:
    network = adapted().to_compute(torch.bfloat16)
    weight, tensors = network.encoder.layers[0].output.weight, network.trainable()
    assert weight.dtype == torch.float32  # rounded to bf16 first, it would be rounded twice
    lora_A, lora_B = (tensors[f"encoder.layers.0.output.lora_{matrix}.output"] for matrix in "AB")
    expected = weight + WIDE.alpha / WIDE.rank * lora_B @ lora_A
    merged = network.merged().encoder.layers[0].output.weight
    assert merged.dtype == torch.bfloat16
    torch.testing.assert_close(merged.float(), expected, rtol=2**-8, atol=1e-6)


def test_updates_smaller_than_a_weight_s_rounding_are_not_lost_on_average() -> None:
    linear = PretrainedLinear("attention_input", 4096, {"query": 1})
    adapter = LinearAdapter(linear, AdapterSpec(rank=1, alpha=1.0, dropout=0.0))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        linear.weight.uniform_(1.0, 2.0, generator=generator)  # here bf16 numbers lie 2^-7 apart
        adapter.lora_A["query"].fill_(1.0)
        adapter.lora_B["query"].fill_(2.0**-12)
    plain = linear.weight.to(torch.bfloat16).float().mean().item()
    linear.bias = linear.bias.to(torch.bfloat16)
    merged = linear.merged(adapter)
    assert merged.weight.float().mean().item() - plain == pytest.approx(2.0**-12, rel=0.3)


@pytest.mark.parametrize("int8", [False, True], ids=["bf16", "int8"])
def test_training_computes_what_the_merged_layer_computes_bit_for_bit(int8: bool) -> None:
    network = adapted().to_compute(torch.bfloat16, int8=int8)
    batch = ragged_batch(network.encoder.shape, LENGTHS)
    assert torch.equal(network.merged()(*batch), network(*batch))


def test_a_merged_network_is_not_cast_since_its_weights_would_be_rounded_twice() -> None:
    network = adapted()
    with pytest.raises(ValueError, match="cast it before merging"):
        network.merged().to_compute(torch.bfloat16)
    assert {tensor.dtype for tensor in weights(network)} == {torch.float32}
    network.to_compute(torch.bfloat16)
    assert {tensor.dtype for tensor in weights(network.merged())} == {torch.bfloat16}


def test_what_trains_is_not_to_be_had_from_a_merged_network() -> None:
    merged = adapted().merged()
    for use in (merged.trainable, merged.snapshot, lambda: merged.scale_adapters(0.5), lambda: merged.load({})):
        with pytest.raises(ValueError, match="found a merged one"):
            use()


def test_train_and_eval_mode_merge_nothing() -> None:
    network = adapted()
    plain = weights(network)
    network.eval()
    network.train()
    assert all(map(torch.equal, weights(network), plain))


def test_without_gradients_bf16_is_near_what_it_is_with_them() -> None:
    network = adapted().to_compute(torch.bfloat16).merged()
    batch = ragged_batch(network.encoder.shape, LENGTHS)
    with torch.no_grad():
        found = network(*batch)
    torch.testing.assert_close(found, network(*batch), atol=0.05, rtol=0)


def test_a_model_that_has_predicted_can_be_copied() -> None:
    network = adapted().to_compute(torch.bfloat16).merged()
    batch = ragged_batch(network.encoder.shape, LENGTHS)
    with torch.no_grad():
        logits = network(*batch)
        for copied in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
            assert torch.equal(copied(*batch), logits)


def test_values_and_gradients_in_int8_are_near_those_in_bf16() -> None:
    found = []
    for margin in (0.0, None):
        network = adapted().to_compute(torch.bfloat16)
        network.use_int8(margin)
        logits = network(*ragged_batch(network.encoder.shape, LENGTHS))
        logits.square().sum().backward()
        found.append((logits.detach(), torch.cat([p.grad.flatten() for p in network.trainable().values()])))
    for in_int8, in_bf16 in zip(*found, strict=True):
        assert not torch.equal(in_int8, in_bf16)
        assert (in_int8 - in_bf16).norm() < 0.05 * in_bf16.norm()


@pytest.mark.parametrize("int8", [False, True], ids=["bf16", "int8"])
def test_in_inference_mode_it_predicts_the_same_and_goes_on_after_it(int8: bool) -> None:
    batch = ragged_batch(tiny_shape("bert"), LENGTHS)
    found = []
    for built, merged in ((False, False), (False, True), (True, True)):  # in inference mode
        with torch.inference_mode(built):
            network = adapted().to_compute(torch.bfloat16, int8=int8)
        with torch.inference_mode(merged):
            network = network.merged()
            found.append(network(*batch).clone())
        with torch.no_grad():
            found.append(network(*batch))
        assert any(linear.weight.is_inference() for linear in network.encoder.linears()) == built
    for logits in found:  # without the packed weights, the rounding is another
        torch.testing.assert_close(logits, found[1], atol=0.05, rtol=0)


def test_no_tokens_in_int8_are_no_error() -> None:
    network = adapted().to_compute(torch.bfloat16, int8=True).merged()
    with torch.no_grad():
        output = network.encoder.layers[0].output(torch.zeros(0, 48, dtype=torch.bfloat16), Pass(int8=True))
    assert output.shape == (0, 32)


@pytest.mark.parametrize("margin", [None, 0.0], ids=["bf16", "int8"])
def test_a_packed_weight_is_packed_anew_when_it_changes(margin: float | None) -> None:
    network = adapted().to_compute(torch.bfloat16)
    network.use_int8(margin)
    batch, lora_B = (
        ragged_batch(network.encoder.shape, LENGTHS),
        network.trainable()["encoder.layers.0.output.lora_B.output"],
    )

    @torch.no_grad()
    def logits(of: TextClassifier) -> Tensor:
        return of(*batch).clone()

    merged = network.merged()
    linear = merged.encoder.layers[0].output
    first = logits(merged)
    assert torch.equal(logits(merged), first)
    linear.weight.mul_(-1)  # in place
    changed = logits(merged)
    assert not torch.equal(changed, first)
    linear.weight.mul_(-1)
    assert torch.equal(logits(merged), first)
    linear.weight = torch.zeros_like(linear.weight)
    assert not torch.equal(logits(merged), first)
    for sign in (-1, 1):  # new weights, at whatever address
        with torch.no_grad():
            lora_B.mul_(-1)
        assert torch.equal(logits(network.merged()), first) == (sign == 1)
