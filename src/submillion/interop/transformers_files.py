"""The configuration that transformers, and the tools around it, read beside a model's weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from submillion.inference.stock import StockClass

# Keys of a base's config.json that say nothing about the classifier made from it.
_OUTDATED = ("torch_dtype", "_name_or_path", "num_labels", "auto_map")


def classifier_settings(base_settings: dict[str, Any], stock: StockClass, label_names: Sequence[str]) -> dict[str, Any]:
    """Returns the config.json of a classifier in fp32: that of its base, with the stock class and the label names."""
    kept = {key: value for key, value in base_settings.items() if key not in _OUTDATED}
    return kept | {
        "architectures": [stock.name],
        "id2label": {str(index): name for index, name in enumerate(label_names)},
        "label2id": {name: index for index, name in enumerate(label_names)},
        "problem_type": "single_label_classification",
        "dtype": "float32",
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes an object as indented JSON in UTF-8."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
