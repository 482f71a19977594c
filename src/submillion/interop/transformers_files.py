"""The configuration that transformers, and the tools around it, read beside a model's weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from submillion.errors import BaseModelError, ConfigError
from submillion.inference.json_files import read_json_if_there
from submillion.inference.stock import StockClass

# Keys of a base's config.json that say nothing about the classifier made from it.
_OUTDATED = ("torch_dtype", "_name_or_path", "num_labels", "auto_map")
_MADE_BY = {"made_by": "submillion"}  # by which an earlier export is known


def classifier_settings(base_settings: dict[str, Any], stock: StockClass, label_names: Sequence[str]) -> dict[str, Any]:
    """Returns the config.json of a classifier in fp32: that of its base, with the stock class and the label names."""
    kept = {key: value for key, value in base_settings.items() if key not in _OUTDATED}
    return kept | {
        "architectures": [stock.name],
        "id2label": {str(index): name for index, name in enumerate(label_names)},
        "label2id": {name: index for index, name in enumerate(label_names)},
        "problem_type": "single_label_classification",
        "dtype": "float32",
        **_MADE_BY,
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes an object as indented JSON in UTF-8."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def check_made_here(folder: Path) -> None:
    """Raises ConfigError for a folder that holds a model which another program wrote.

    The names of its files tell nothing: transformers and peft write the same. An earlier export of ours is known by its
    config.json, or as an adapter by the label names in its safetensors file, which peft does not write.
    """
    adapter = folder / "adapter_model.safetensors"
    if not ((folder / "model.safetensors").is_file() or adapter.is_file()):
        return
    try:
        is_ours = _MADE_BY.items() <= read_json_if_there(folder / "config.json").items() or _has_label_names(adapter)
    except BaseModelError:  # no JSON object
        is_ours = False
    if not is_ours:
        raise ConfigError(
            f"{folder}: expected a new or empty folder, or an earlier export, found a model in it that another program "
            "wrote, and that would be lost\nfix: name another folder"
        )


def _has_label_names(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return "label_names" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False
