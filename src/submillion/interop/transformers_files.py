"""The configuration and tokenizer files that transformers, and the tools around it, read beside a model's weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from submillion.config import ModelConfig
from submillion.data.tokenizer import Tokenizer
from submillion.inference.pretrained import read_json
from submillion.inference.stock import stock_class

# The names that the encoders' vocabularies give to the special tokens.
_SPECIAL = {
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
}
# Keys of a base's config.json that say nothing about the classifier made from it.
_OUTDATED = ("torch_dtype", "_name_or_path", "num_labels", "auto_map")


def model_settings(base_folder: Path, model: ModelConfig, label_names: Sequence[str]) -> dict[str, Any]:
    """Returns the content of config.json for a classifier on this base: the base's own settings, the task, the labels.

    Raises BaseModelError where the base's config.json cannot be read, or names a model_type that has no stock class.
    """
    path = base_folder / "config.json"
    settings = read_json(path)
    stock = stock_class(settings.get("model_type"), path)
    kept = {key: value for key, value in settings.items() if key not in _OUTDATED}
    return kept | {
        "architectures": [stock.name],
        "id2label": {str(index): name for index, name in enumerate(label_names)},
        "label2id": {name: index for index, name in enumerate(label_names)},
        "problem_type": "single_label_classification",
        "dtype": "float32",
        **stock.pooling_settings(model.pooling),
    }


def general_tokenizer_settings(tokenizer: Tokenizer, pad_id: int) -> dict[str, Any]:
    """Returns the content of tokenizer_config.json that makes transformers read tokenizer.json as it stands.

    It names the general class and its special tokens. A family's own class builds its own normalizer, and takes
    nothing of the one in tokenizer.json.
    """
    special = [token.content for token in tokenizer.backend.get_added_tokens_decoder().values() if token.special]
    tokens = {name: next((token for token in known if token in special), None) for name, known in _SPECIAL.items()}
    tokens["pad_token"] = tokenizer.backend.id_to_token(pad_id)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        **{name: token for name, token in tokens.items() if token is not None},
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes an object as indented JSON in UTF-8."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
