"""To transformers: the merged model as a whole checkpoint, with its configuration and tokenizer."""

import json
from pathlib import Path
from typing import Any

from submillion.config import Config
from submillion.inference.pretrained import read_json
from submillion.inference.stock import StockClass, check_representable, head_tensors
from submillion.interop.tensors import write_tensors
from submillion.model.base import Base
from submillion.model.classifier import TextClassifier
from submillion.training.artefact import Artefact


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
    labels = {str(index): name for index, name in enumerate(artefact.label_names)}
    changes = {
        "architectures": [stock.name],
        "id2label": labels,
        "label2id": {name: int(index) for index, name in labels.items()},
        "problem_type": "single_label_classification",
        "dtype": "float32",
    }
    old = ("torch_dtype", "_name_or_path", "num_labels", "auto_map")
    changes |= stock.pooling_settings(config.model.pooling)
    kept = {key: value for key, value in read_json(base.folder / "config.json").items() if key not in old}
    _write_json(folder / "config.json", kept | changes)
    (folder / "tokenizer.json").write_text(artefact.tokenizer, encoding="utf-8")
    path = base.folder / "tokenizer_config.json"
    settings = read_json(path) if path.is_file() else {"tokenizer_class": stock.tokenizer}
    _write_json(folder / "tokenizer_config.json", settings | {"model_max_length": config.model.max_length})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
