"""To transformers: the merged model as a whole checkpoint, with its configuration and tokenizer."""

from pathlib import Path

from submillion.inference.artefact import Artefact
from submillion.inference.json_files import read_json, read_json_if_there
from submillion.inference.stock import StockClass, check_representable, head_tensors
from submillion.interop.tensors import write_tensors
from submillion.interop.tokenizer import write_tokenizer
from submillion.interop.transformers_files import classifier_settings, write_json
from submillion.model.base import Base
from submillion.model.classifier import TextClassifier
from submillion.text.tokenizer import Tokenizer


def write_transformers(
    artefact: Artefact, network: TextClassifier, stock: StockClass, base: Base, folder: Path
) -> None:
    """Writes the merged model, its configuration and its tokenizer for AutoModelForSequenceClassification.

    network: fp32, with its tensors loaded; not merged. Raises ArtefactError if the stock class would not give the
    same logits.
    """
    check_representable(artefact, stock, stock.poolings)
    spec, _ = artefact.specs()
    encoder = {f"{stock.prefix}{name}": tensor for name, tensor in network.merged().encoder.published_tensors().items()}
    write_tensors(encoder | head_tensors(dict(network.trainable()), stock), folder / "model.safetensors")
    settings = classifier_settings(read_json(base.folder / "config.json"), stock, artefact.label_names)
    write_json(folder / "config.json", settings | stock.pooling_settings(spec.pooling))
    settings = read_json_if_there(base.folder / "tokenizer_config.json") or {"tokenizer_class": stock.tokenizer}
    write_tokenizer(
        Tokenizer.from_str(artefact.tokenizer, artefact.tokenizer_sha256),
        network.encoder.shape.pad_id,
        spec.max_length,
        folder,
        # A family's own class cannot clean texts: it builds its own normalizer.
        settings=None if "clean" in artefact.configuration().robust.normalise else settings,
    )
