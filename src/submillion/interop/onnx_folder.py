"""The files beside an exported ONNX graph: its tokenizer, its labels, and what optimum and transformers.js read."""

import json
from pathlib import Path

from submillion.data.tokenizer import Tokenizer
from submillion.inference.classifier import Classifier
from submillion.interop.transformers_files import general_tokenizer_settings, model_settings, write_json

# The first one tells an earlier export from a folder of the same kind that another tool wrote.
FILES = ("labels.json", "model.onnx", "tokenizer.json", "config.json", "tokenizer_config.json", "words.txt")


def write_companions(classifier: Classifier, base_folder: Path, folder: Path) -> list[str]:
    """Writes everything but the graph into `folder` and returns the names of the files.

    Always tokenizer.json, set to cut and pad as the graph expects, and labels.json, the names in the order of the
    logits. config.json and tokenizer_config.json for tools that open a folder of transformers; but words.txt in their
    place where spelling is corrected before the tokenizer: these tools would leave that out and give other logits.

    Raises BaseModelError where the base's config.json cannot be read.
    """
    tokenizer = _padding_tokenizer(classifier)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    (folder / "labels.json").write_text(json.dumps(classifier.label_names, ensure_ascii=False), encoding="utf-8")
    spelling = classifier.tokenizer.spelling
    if spelling is not None:
        (folder / "words.txt").write_text("\n".join(spelling.words), encoding="utf-8")
        return ["tokenizer.json", "labels.json", "words.txt"]
    model = classifier.config.model
    write_json(folder / "config.json", model_settings(base_folder, model, classifier.label_names))
    settings = general_tokenizer_settings(tokenizer, classifier.network.encoder.shape.pad_id)
    settings |= {"padding_side": "right", "truncation_side": "right"}
    if cuts(classifier):
        settings["model_max_length"] = model.max_length
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
        tokenizer.backend.enable_truncation(classifier.config.model.max_length)
    tokenizer.backend.enable_padding(pad_id=pad_id, pad_token=tokenizer.backend.id_to_token(pad_id) or "[PAD]")
    return tokenizer
