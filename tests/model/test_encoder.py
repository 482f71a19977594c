"""The encoder: the same hidden states as transformers, from every way a checkpoint is published."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import FAMILIES, MODEL_TYPES, ragged_batch, scatter, tiny_classifier, tiny_shape, transformers_classifier
from torch import Tensor

from submillion.errors import BaseModelError
from submillion.model.adapters import AdapterSet
from submillion.model.attention import Packing
from submillion.model.checkpoint import read_checkpoint
from submillion.model.config_json import read_shape
from submillion.model.encoder import Encoder, relative_buckets
from submillion.model.shape import EncoderShape
from submillion.model.spec import AdapterSpec, NetworkSpec

LENGTHS = [5, 17, 2, 11]
pytestmark = pytest.mark.usefixtures("operations")


class TouchesFile:
    """Pickles to a call that makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def read_encoder(folder: Path) -> Encoder:
    encoder = Encoder(read_shape(folder))
    encoder.load(read_checkpoint(folder))
    return encoder


def random_encoder(family: str, **changes: Any) -> Encoder:
    encoder = Encoder(tiny_shape(family, **changes))
    scatter(list(encoder.published_tensors().values()))
    return encoder


def random_state(shape: EncoderShape) -> dict[str, Tensor]:
    return {name: torch.randn(tensor.shape) for name, tensor in Encoder(shape).published_tensors().items()}


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_hidden_states_equal_transformers(model_type: str, tmp_path: Path) -> None:
    shape = tiny_shape(model_type)
    theirs = transformers_classifier(shape, model_type=model_type).base_model
    theirs.save_pretrained(tmp_path)
    assert read_shape(tmp_path) == shape
    input_ids, mask = ragged_batch(shape, LENGTHS)
    with torch.no_grad():
        expected = theirs(input_ids=input_ids, attention_mask=mask).last_hidden_state
        found = read_encoder(tmp_path)(input_ids, mask)
    torch.testing.assert_close(found[mask == 1], expected[mask == 1], atol=1e-5, rtol=0)


def test_hidden_states_of_minilm_equal_transformers(minilm_folder: Path) -> None:
    from transformers import BertModel

    encoder = read_encoder(minilm_folder)
    theirs = BertModel.from_pretrained(minilm_folder, add_pooling_layer=False).eval()
    input_ids, mask = ragged_batch(encoder.shape, [64, 9, 33])
    with torch.no_grad():
        expected = theirs(input_ids=input_ids, attention_mask=mask).last_hidden_state
        found = encoder(input_ids, mask)
    torch.testing.assert_close(found[mask == 1], expected[mask == 1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("lengths", [LENGTHS, [9, 9]], ids=["ragged", "unpadded"])
@pytest.mark.parametrize("family", FAMILIES)
def test_first_only_equals_the_first_row_of_the_whole(family: str, lengths: list[int]) -> None:
    encoder = random_encoder(family)
    batch = ragged_batch(encoder.shape, lengths)
    # The products have other shapes, so other orders of sums on some processors: fp32's rounding of states around 1.
    torch.testing.assert_close(encoder(*batch, first_only=True), encoder(*batch)[:, :1], atol=5e-6, rtol=0)


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_tokens_give_the_logits_and_gradients_of_padded_ones(
    family: str, pooling: str, operations: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if operations == "torch":
        return  # never packed
    lora = AdapterSpec(rank=2, targets=("all-linear",), dropout=0.0)
    network = tiny_classifier(shape=tiny_shape(family), network=NetworkSpec(pooling=pooling), adapters=lora)
    scatter(list(network.trainable().values()), seed=2)
    batch = ragged_batch(network.encoder.shape, LENGTHS)
    shapes: list[torch.Size] = []
    network.encoder.layer_list()[0].register_forward_hook(lambda _, given, __: shapes.append(given[0].shape))
    found = []
    for of in (Packing.of, lambda *_: None):
        monkeypatch.setattr(Packing, "of", of)
        logits = network(*batch)
        found.append([logits, *torch.autograd.grad(logits.square().sum(), list(network.trainable().values()))])
    assert shapes == [(36, 32), (4, 17, 32)], "36: 35 tokens in fours"
    for packed, padded in zip(*found, strict=True):
        torch.testing.assert_close(packed, padded, atol=1e-5 * max(1.0, padded.abs().max().item()), rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_does_not_change_a_row(family: str) -> None:
    encoder = random_encoder(family)
    input_ids, mask = ragged_batch(encoder.shape, [6, 20])
    alone = encoder(input_ids[:1, :6], mask[:1, :6])
    torch.testing.assert_close(encoder(input_ids, mask)[:1, :6], alone, atol=5e-6, rtol=0)


@pytest.mark.parametrize("length", [1, 2, 16, 129, 512])
def test_relative_buckets_equal_mpnet(length: int) -> None:
    from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

    places = torch.arange(length)
    expected = MPNetEncoder.relative_position_bucket(places[None, :] - places[:, None], num_buckets=32)
    assert torch.equal(relative_buckets(length, 32), expected)


@pytest.mark.parametrize("prefix", ["", "bert.", "roberta.", "model.encoder."])
def test_the_prefix_of_names_does_not_matter(prefix: str) -> None:
    shape = tiny_shape("bert")
    state = random_state(shape)
    encoder = Encoder(shape)
    encoder.load({prefix + name: tensor for name, tensor in state.items()} | {"cls.bias": torch.zeros(1)})
    assert all(torch.equal(tensor, state[name]) for name, tensor in encoder.published_tensors().items())


def test_old_layer_norm_names_are_read() -> None:
    shape = tiny_shape("bert")
    state = random_state(shape)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in state.items()
    }
    encoder = Encoder(shape)
    encoder.load(old)
    assert old.keys() != state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in encoder.published_tensors().items())


def test_pytorch_model_bin_is_read_as_safetensors_are(tmp_path: Path) -> None:
    state = random_state(tiny_shape("roberta"))
    (tmp_path / "safe").mkdir()
    save_file(state, tmp_path / "safe" / "model.safetensors")
    torch.save(state, tmp_path / "pytorch_model.bin")
    safe, binary = read_checkpoint(tmp_path / "safe"), read_checkpoint(tmp_path)
    assert safe.keys() == binary.keys() == state.keys()
    assert all(torch.equal(safe[name], binary[name]) for name in state)


def test_hostile_pytorch_model_bin_is_refused_and_not_run(tmp_path: Path) -> None:
    target = tmp_path / "touched"
    torch.save({"embeddings": TouchesFile(target)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(BaseModelError, match="cannot be read"):
        read_checkpoint(tmp_path)
    assert not target.exists()


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {1: 2}], ids=str)
def test_pytorch_model_bin_without_named_tensors_is_an_error(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(BaseModelError):
        Encoder(tiny_shape("bert")).load(read_checkpoint(tmp_path))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02"])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_damaged_weights_are_an_error_that_names_the_folder(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BaseModelError) as caught:
        read_checkpoint(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_cut_safetensors_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(random_state(tiny_shape("bert")), path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BaseModelError, match="cannot be read"):
        read_checkpoint(tmp_path)


def test_no_weights_is_an_error_that_names_both_files(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        read_checkpoint(tmp_path)


def test_every_missing_and_misshaped_tensor_is_named() -> None:
    shape = tiny_shape("bert")
    state = random_state(shape)
    del state["encoder.layer.1.attention.self.key.bias"], state["embeddings.LayerNorm.weight"]
    state["encoder.layer.0.output.dense.weight"] = torch.zeros(3, 5)
    with pytest.raises(BaseModelError) as caught:
        Encoder(shape).load(state)
    text = str(caught.value)
    assert "encoder.layer.1.attention.self.key.bias: missing, expected [32]" in text
    assert "embeddings.LayerNorm.weight: missing, expected [32]" in text
    assert "encoder.layer.0.output.dense.weight: shape [3, 5], expected [32, 48]" in text


def test_a_refused_checkpoint_leaves_the_encoder_as_it_was() -> None:
    encoder = random_encoder("bert")
    before = {name: tensor.clone() for name, tensor in encoder.published_tensors().items()}
    state = random_state(encoder.shape)
    del state["encoder.layer.2.output.LayerNorm.bias"]
    with pytest.raises(BaseModelError):
        encoder.load(state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.published_tensors().items())


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_pretrained_is_a_parameter(family: str) -> None:
    assert list(Encoder(tiny_shape(family)).parameters()) == []
    names = tiny_classifier(shape=tiny_shape(family)).trainable()
    assert all(name.startswith("head.") or ".lora_A." in name or ".lora_B." in name for name in names)


@pytest.mark.parametrize("family", FAMILIES)
def test_published_tensors_hold_every_parameter_of_the_shape(family: str) -> None:
    shape = tiny_shape(family)
    assert sum(tensor.numel() for tensor in Encoder(shape).published_tensors().values()) == shape.parameters


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_exactly_the_last_layers_are_unfrozen(count: int) -> None:
    encoder = random_encoder("bert")
    batch = ragged_batch(encoder.shape, LENGTHS)
    before = encoder(*batch)
    adapters = AdapterSet(encoder.layer_list(), AdapterSpec(rank=0), count)
    unfrozen = {int(name.split(".")[1]) for name in adapters.trainable()}
    assert unfrozen == set(range(3)[max(0, 3 - count) :])
    assert sum(p.numel() for p in adapters.parameters()) == min(count, 3) * encoder.shape.layer_parameters
    # Layers that train have torch's layer norm, for it has the gradients of scale and shift too.
    with_them = encoder.run(encoder.embed(batch[0]), batch[1], range(3), adapters=adapters)
    torch.testing.assert_close(with_them, before, atol=5e-6, rtol=0)


def test_unfrozen_layers_get_gradients_and_load_a_checkpoint() -> None:
    network = tiny_classifier(network=NetworkSpec(unfreeze_layers=1))
    network(*ragged_batch(network.encoder.shape, LENGTHS)).square().sum().backward()
    unfrozen = {name: p for name, p in network.trainable().items() if "lora" not in name and "head" not in name}
    assert len(unfrozen) == 12 and all(p.grad is not None and p.grad.any() for p in unfrozen.values())
    state = random_state(network.encoder.shape)
    network.load(state)
    for encoder in (network.encoder, network.merged().encoder):
        assert all(torch.equal(tensor, state[name]) for name, tensor in encoder.published_tensors().items())


def test_tiny_base_runs(tiny_base: Path) -> None:
    encoder = read_encoder(tiny_base)
    assert set(load_file(tiny_base / "model.safetensors")) == set(encoder.published_tensors())
    assert encoder(*ragged_batch(encoder.shape, LENGTHS)).isfinite().all()
