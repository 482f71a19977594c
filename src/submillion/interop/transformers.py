"""To transformers: the merged model as a whole checkpoint, with its configuration and tokenizer."""

import json
from pathlib import Path
from typing import Any

from submillion.config import Config
from submillion.data.tokenizer import Tokenizer
from submillion.inference.pretrained import bert_settings, read_json
from submillion.inference.stock import StockClass, check_representable, head_tensors
from submillion.interop.tensors import write_tensors
from submillion.model.base import Base
from submillion.model.classifier import TextClassifier
from submillion.training.artefact import Artefact

# What the encoders here call them.
_SPECIAL = {
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
}


def write_transformers(
    artefact: Artefact, config: Config, network: TextClassifier, stock: StockClass, base: Base, folder: Path
) -> None:
    """Writes the merged model, its configuration and its tokenizer for AutoModelForSequenceClassification.

    network: fp32, with its tensors loaded; merged here. Raises ArtefactError where the stock class would not give the
    same logits.
    """
    check_representable(config, stock, stock.poolings)
    network.merge()
    encoder = {f"{stock.prefix}{name}": tensor for name, tensor in network.encoder.published_tensors().items()}
    write_tensors(encoder | head_tensors(dict(network.trainable()), stock), folder / "model.safetensors")
    settings = classifier_settings(read_json(base.folder / "config.json"), stock, artefact.label_names)
    write_json(folder / "config.json", settings | stock.pooling_settings(config.model.pooling))
    (folder / "tokenizer.json").write_text(artefact.tokenizer, encoding="utf-8")
    tokenizer = Tokenizer.from_str(artefact.tokenizer, artefact.tokenizer_sha256)
    if config.model.clean_text:
        settings = _settings_of_cleaning(tokenizer, network.encoder.shape.pad_id)
    else:
        path = base.folder / "tokenizer_config.json"
        settings = read_json(path) if path.is_file() else {"tokenizer_class": stock.tokenizer}
    ours = {"model_max_length": config.model.max_length, "truncation_side": "right"}
    write_json(folder / "tokenizer_config.json", settings | bert_settings(tokenizer) | ours)


def _settings_of_cleaning(tokenizer: Tokenizer, pad_id: int) -> dict[str, Any]:
    """The general class of transformers, and what it must be told: a family's own class builds its own normalizer, and
    takes nothing of the one in tokenizer.json, which cleans."""
    special = [token.content for token in tokenizer.backend.get_added_tokens_decoder().values() if token.special]
    tokens = {name: next((token for token in known if token in special), None) for name, known in _SPECIAL.items()}
    tokens["pad_token"] = tokenizer.backend.id_to_token(pad_id)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        **{name: token for name, token in tokens.items() if token is not None},
    }


def classifier_settings(base_settings: dict[str, Any], stock: StockClass, label_names: list[str]) -> dict[str, Any]:
    """Returns the config.json of a classifier in fp32: that of its base, with the stock class and the label names."""
    old = ("torch_dtype", "_name_or_path", "num_labels", "auto_map")
    kept = {key: value for key, value in base_settings.items() if key not in old}
    labels = {str(index): name for index, name in enumerate(label_names)}
    return kept | {
        "architectures": [stock.name],
        "id2label": labels,
        "label2id": {name: int(index) for index, name in labels.items()},
        "problem_type": "single_label_classification",
        "dtype": "float32",
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file as transformers does, in UTF-8."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
