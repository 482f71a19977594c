"""The shape read from config.json: of every family, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tiny import MODEL_TYPES, tiny_shape, transformers_config

from submillion.errors import BaseModelError
from submillion.model.config_json import read_shape
from submillion.model.shape import known_shape

BERT = {
    "model_type": "bert",
    "vocab_size": 100,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
}


def write(folder: Path, config: object) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_config_that_transformers_writes_is_read(model_type: str, tmp_path: Path) -> None:
    shape = tiny_shape(model_type)
    transformers_config(shape, model_type=model_type).save_pretrained(tmp_path)
    assert read_shape(tmp_path) == shape


@pytest.mark.parametrize("kind", ["deberta-v2", "gpt2", "t5", None, 7, ["bert"]])
def test_any_other_kind_of_model_is_refused_with_the_list_of_those_that_are_read(kind: Any, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=f"model_type {re.escape(repr(kind))} is not supported") as caught:
        read_shape(write(tmp_path, BERT | {"model_type": kind}))
    assert all(model_type in str(caught.value) for model_type in MODEL_TYPES)


def test_the_config_of_minilm_is_the_known_shape(minilm_folder: Path) -> None:
    assert read_shape(minilm_folder) == known_shape("all-MiniLM-L6-v2")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2' is not supported"),
        ({"model_type": None}, "model_type None is not supported"),
        ({"hidden_act": "relu"}, "hidden_act = 'relu'"),
        ({"hidden_act": "gelu_new"}, "hidden_act = 'gelu_new'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type = 'relative_key'"),
        ({"is_decoder": True}, "is_decoder = True"),
    ],
)
def test_what_we_cannot_run_faithfully_is_named(change: dict[str, Any], found: str, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError) as caught:
        read_shape(write(tmp_path, BERT | change))
    assert found in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("key", [key for key in BERT if key not in ("model_type", "type_vocab_size")])
def test_a_lacking_key_is_named(key: str, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=f"lacks the key '{key}'"):
        read_shape(write(tmp_path, {name: value for name, value in BERT.items() if name != key}))


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00", "null", '"bert"'])
def test_a_config_that_is_no_json_object_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BaseModelError, match=r"config\.json"):
        read_shape(tmp_path)


def test_a_folder_without_a_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"holds no config\.json"):
        read_shape(tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"hidden_size": "24"}, {"num_hidden_layers": 0}, {"num_attention_heads": 5}, {"pad_token_id": "0"}],
    ids=str,
)
def test_values_that_make_no_encoder_are_an_error(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=next(iter(change))):
        read_shape(write(tmp_path, BERT | change))
