"""To transformers: the merged model as a whole checkpoint, with its configuration and tokenizer."""

from pathlib import Path

from submillion.config import Config
from submillion.data.tokenizer import Tokenizer
from submillion.inference.pretrained import bert_settings, read_json
from submillion.inference.stock import StockClass, check_representable, head_tensors
from submillion.interop.tensors import write_tensors
from submillion.interop.transformers_files import general_tokenizer_settings, model_settings, write_json
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
    write_json(folder / "config.json", model_settings(base.folder, config.model, artefact.label_names))
    (folder / "tokenizer.json").write_text(artefact.tokenizer, encoding="utf-8")
    tokenizer = Tokenizer.from_str(artefact.tokenizer, artefact.tokenizer_sha256)
    if config.model.clean_text:
        settings = general_tokenizer_settings(tokenizer, network.encoder.shape.pad_id)
    else:
        path = base.folder / "tokenizer_config.json"
        settings = read_json(path) if path.is_file() else {"tokenizer_class": stock.tokenizer}
    ours = {"model_max_length": config.model.max_length, "truncation_side": "right"}
    write_json(folder / "tokenizer_config.json", settings | bert_settings(tokenizer) | ours)
