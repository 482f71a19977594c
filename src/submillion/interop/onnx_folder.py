"""The files beside an exported ONNX graph: its tokenizer, its labels, and what optimum and transformers.js read."""

import json
from pathlib import Path

from submillion.inference.classifier import Classifier
from submillion.inference.json_files import read_json
from submillion.inference.stock import stock_class
from submillion.interop.tokenizer import general_settings
from submillion.interop.transformers_files import classifier_settings, write_json
from submillion.text.tokenizer import Tokenizer

# The first one tells an earlier export from a folder of the same kind that another tool wrote.
FILES = ("labels.json", "model.onnx", "tokenizer.json", "config.json", "tokenizer_config.json", "words.txt")


def write_companions(classifier: Classifier, base_folder: Path, folder: Path) -> list[str]:
    """Writes everything but the graph into `folder` and returns the names of the files.

    Always tokenizer.json, set to cut and pad as the graph expects, and labels.json, the names in the order of the
    logits. config.json and tokenizer_config.json for tools that open a folder of transformers; but words.txt in their
    place if spelling is corrected before the tokenizer: these tools would leave that out and give other logits.

    Raises BaseModelError if the base's config.json cannot be read.
    """
    tokenizer = _padding_tokenizer(classifier)
    (folder / "tokenizer.json").write_text(tokenizer.backend.to_str(), encoding="utf-8")
    (folder / "labels.json").write_text(json.dumps(classifier.label_names, ensure_ascii=False), encoding="utf-8")
    spelling = classifier.tokenizer.spelling
    if spelling is not None:
        (folder / "words.txt").write_text("\n".join(spelling.words), encoding="utf-8")
        return ["tokenizer.json", "labels.json", "words.txt"]
    spec, path = classifier.spec, base_folder / "config.json"
    base_settings = read_json(path)
    stock = stock_class(base_settings.get("model_type"), path)
    settings = classifier_settings(base_settings, stock, classifier.label_names)
    write_json(folder / "config.json", settings | stock.pooling_settings(spec.pooling))
    settings = general_settings(tokenizer, classifier.network.encoder.shape.pad_id)
    settings |= {"padding_side": "right", "truncation_side": _side(classifier)}
    if cuts(classifier):
        settings["model_max_length"] = spec.max_length
    write_json(folder / "tokenizer_config.json", settings)
    return ["tokenizer.json", "labels.json", "config.json", "tokenizer_config.json"]


def cuts(classifier: Classifier) -> bool:
    """Returns whether the tokenizer cuts long texts. A graph with n-grams reads whole texts and cuts by itself."""
    return classifier.network.ngrams is None


def _padding_tokenizer(classifier: Classifier) -> Tokenizer:
    """Returns a copy of the tokenizer that cuts and pads, so that whoever reads it need not know how."""
    tokenizer = Tokenizer.from_str(classifier.tokenizer.to_str(), "")
    pad_id = classifier.network.encoder.shape.pad_id
    if cuts(classifier):
        tokenizer.backend.enable_truncation(classifier.spec.max_length, direction=_side(classifier))
    tokenizer.backend.enable_padding(pad_id=pad_id, pad_token=tokenizer.backend.id_to_token(pad_id) or "[PAD]")
    return tokenizer


def _side(classifier: Classifier) -> str:
    """Returns the side of a long text that the tokenizer cuts."""
    return "left" if classifier.tokenizer.keeps_end else "right"
