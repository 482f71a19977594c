"""ModernBERT: every switch of its configuration gives the hidden states and gradients of transformers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import copy_into, head_tensors, ragged_batch, scatter, tiny_shape, transformers_classifier
from torch.nn import functional as F

from submillion.errors import BaseModelError
from submillion.model.adapters import AdapterSet
from submillion.model.attention import AttentionMask
from submillion.model.checkpoint import read_checkpoint
from submillion.model.classifier import TextClassifier
from submillion.model.config_json import read_shape
from submillion.model.encoder import Encoder
from submillion.model.modernbert import reaches
from submillion.model.shape import ModernBertShape
from submillion.model.spec import AdapterSpec, NetworkSpec

LENGTHS = [5, 17, 2, 11]
SHAPE = tiny_shape("modernbert")
OLD = {
    "global_attn_every_n_layers": 2,
    "global_rope_theta": 5000.0,
    "local_rope_theta": 300.0,
    "local_attention": 8,
    "position_embedding_type": "absolute",
}


def assert_equal_states(folder: Path) -> None:
    """Ours and transformers' from the same folder."""
    from transformers import AutoModel

    shape = read_shape(folder)
    encoder = Encoder(shape)
    encoder.load(read_checkpoint(folder))
    input_ids, mask = ragged_batch(shape, LENGTHS)
    with torch.no_grad():
        theirs = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        expected = theirs(input_ids=input_ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(encoder(input_ids, mask)[mask == 1], expected[mask == 1], atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder(input_ids, mask, first_only=True), expected[:, :1], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"attention_bias": True, "feed_forward_bias": True, "norm_bias": True, "head_bias": True},
        {"feed_forward_bias": True},
        {"global_layers": ()},
        {"global_layers": (0, 1, 2)},
        {"global_layers": (1,), "window": 1},
        {"window": 64},
        {"global_theta": 100.0, "local_theta": 37.0},
    ],
    ids=str,
)
def test_every_switch_gives_the_states_of_transformers(changes: dict[str, Any], tmp_path: Path) -> None:
    assert SHAPE.modernbert is not None
    shape = replace(SHAPE, modernbert=replace(SHAPE.modernbert, **changes))
    transformers_classifier(shape).save_pretrained(tmp_path)
    assert read_shape(tmp_path) == shape
    assert_equal_states(tmp_path)


def test_a_configuration_of_transformers_4_is_read(tmp_path: Path) -> None:
    transformers_classifier(SHAPE).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    for key in ("layer_types", "rope_parameters"):
        del settings[key]
    (tmp_path / "config.json").write_text(json.dumps(settings | OLD))
    expected = ModernBertShape((0, 2), window=4, global_theta=5000.0, local_theta=300.0)
    assert read_shape(tmp_path) == replace(SHAPE, modernbert=expected)
    assert_equal_states(tmp_path)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"hidden_activation": "silu"}, "hidden_activation = 'silu'"),
        ({"classifier_activation": "relu"}, "classifier_activation = 'relu'"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "rope_scaling"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "yarn"),
        ({"layer_types": ["full_attention"]}, "expected 3 layer_types"),
        ({"layer_types": 7}, "a value of a wrong kind"),
        ({"rope_parameters": [1]}, "a value of a wrong kind"),
        ({"layer_types": None, "global_attn_every_n_layers": 0}, "a value of a wrong kind"),
        ({"num_attention_heads": 32}, "no multiple of twice num_attention_heads"),
        ({"layer_types": ["full_attention", "chunked_attention", "full_attention"]}, "chunked_attention"),
    ],
    ids=str,
)
def test_what_we_cannot_run_faithfully_is_named(changes: dict[str, Any], text: str, tmp_path: Path) -> None:
    transformers_classifier(SHAPE).config.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | changes))
    with pytest.raises(BaseModelError) as caught:
        read_shape(tmp_path)
    assert text in str(caught.value)


def test_gradients_of_adapters_on_a_joined_matrix_are_those_of_transformers() -> None:
    """With W = W0 + s B A in theirs, the gradient of A is s B^T G and of B is s G A^T, G that of W's own rows."""
    lora = AdapterSpec(rank=2, alpha=6.0, targets=("query", "value", "output"))
    ours = TextClassifier(SHAPE, NetworkSpec(), lora, num_outputs=3)
    theirs = transformers_classifier(SHAPE)
    ours.load(theirs.state_dict())
    copy_into(ours, head_tensors(theirs))
    scatter([p for name, p in ours.trainable().items() if "lora_" in name], seed=5, std=0.2)
    theirs.model.load_state_dict(ours.merged().encoder.published_tensors())
    input_ids, mask = ragged_batch(SHAPE, LENGTHS)
    labels = torch.tensor([0, 2, 1, 1])
    F.cross_entropy(theirs(input_ids=input_ids, attention_mask=mask).logits, labels).backward()
    F.cross_entropy(ours(input_ids, mask), labels).backward()
    for index, layer in enumerate(ours.encoder.layer_list()):
        their_layer = theirs.model.layers[index]
        for linear, module in ((layer.attention_input, their_layer.attn.Wqkv), (layer.output, their_layer.mlp.Wo)):
            for part in linear.targeted(lora.targets):
                start, end = linear.rows[part]
                name = f"encoder.layers.{index}.{linear.name}"
                A, B = (ours.trainable()[f"{name}.lora_{matrix}.{part}"] for matrix in "AB")
                G, scaling = module.weight.grad[start:end], lora.alpha / lora.rank
                torch.testing.assert_close(A.grad, scaling * B.t() @ G, atol=1e-5, rtol=2e-5)
                torch.testing.assert_close(B.grad, scaling * G @ A.t(), atol=1e-5, rtol=2e-5)
    for name, parameter in head_tensors(theirs).items():
        torch.testing.assert_close(ours.trainable()[name].grad, parameter.grad, atol=1e-5, rtol=2e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_unfrozen_layers_hold_their_own_tensors_and_no_bias(count: int) -> None:
    encoder = Encoder(SHAPE)
    scatter(list(encoder.published_tensors().values()))
    batch = ragged_batch(SHAPE, LENGTHS)
    before = encoder(*batch)
    adapters = AdapterSet(encoder.layer_list(), AdapterSpec(rank=0), count)
    names = set(adapters.trainable())
    assert not any(name.endswith("bias") for name in names) and "layers.2.final_norm.weight" in names
    assert sum(p.numel() for p in adapters.parameters()) == SHAPE.last_layers_parameters(count)
    with_them = encoder.run(encoder.embed(batch[0]), batch[1], range(SHAPE.num_layers), adapters=adapters)
    assert torch.equal(with_them, before)
    with_them.square().sum().backward()
    assert all(p.grad is not None for p in adapters.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mask_joined_before_reaches_what_one_joined_after_does(dtype: torch.dtype) -> None:
    shape = ModernBertShape((0,), window=2)
    mask = AttentionMask.of((torch.arange(9) < torch.tensor([[9], [5]])).long())
    before = reaches(shape, 16, 9, mask.joined(dtype), torch.arange(9))
    after = reaches(shape, 16, 9, mask, torch.arange(9))
    for one, other in zip(before, after, strict=True):
        assert one.mask.bias is not None and one.mask.padding is None
        assert torch.equal(one.mask.bias, other.mask.joined(dtype).bias)
