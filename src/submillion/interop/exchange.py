"""The work of `submillion export --to peft` and `--to transformers`."""

from collections.abc import Callable
from pathlib import Path

from submillion.atomic import write_folder_atomically
from submillion.console import terminal
from submillion.errors import ConfigError
from submillion.inference.artefact import Artefact
from submillion.inference.classifier import load_network, own_base
from submillion.inference.json_files import read_json
from submillion.inference.stock import check_representable, stock_class
from submillion.inference.transformers_tokenizer import reads_as
from submillion.interop.peft import write_peft
from submillion.interop.tokenizer import FILES as TOKENIZER_FILES
from submillion.interop.tokenizer import write_tokenizer
from submillion.interop.transformers import write_transformers
from submillion.interop.transformers_files import check_made_here
from submillion.model.base import Base
from submillion.model.config_json import read_shape
from submillion.text.tokenizer import Tokenizer

Writer = Callable[[Artefact, Base, Path], None]


def export_model(model: Path, to: str, folder: Path, base: str = "") -> None:
    """Writes a saved model into a folder, whole or not at all, and prints where.

    to: a key of WRITERS. base: where the pretrained encoder is now, if not where it was in training. Raises
    SubmillionError if the format cannot hold the model or the folder holds other files.
    """
    artefact = Artefact.load(model)
    found = own_base(artefact, base)
    if folder.exists() and folder.samefile(found.folder):
        raise ConfigError(f"{folder} is the pretrained encoder, which would be lost\nfix: name another folder")
    check_made_here(folder)
    with write_folder_atomically(folder, FILES[to]) as made:
        WRITERS[to](artefact, found, made)
    lines = [f"{model} -> {folder}  ({to}, labels in order: {', '.join(artefact.label_names)})"]
    temperature = artefact.calibration["temperature"]
    if temperature != 1.0:
        lines.append(f"  the logits are uncalibrated there: divide them by {temperature} before the softmax")
    terminal().print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)


def _to_peft(artefact: Artefact, base: Base, folder: Path) -> None:
    path = base.folder / "config.json"
    settings = read_json(path)
    stock = stock_class(settings.get("model_type"), path)
    spec, _ = artefact.specs()
    # An adapter does not change the base's config.json, and most programs take the base's tokenizer with an adapter.
    check_representable(artefact, stock, (stock.pooling(settings),), own_tokenizer=False)
    shape = read_shape(base.folder)
    write_peft(artefact, shape, stock, folder)
    tokenizer = Tokenizer.from_str(artefact.tokenizer, artefact.tokenizer_sha256)
    if not reads_as(base.folder, tokenizer):  # an imported adapter's own, say
        write_tokenizer(tokenizer, shape.pad_id, spec.max_length, folder)


def _to_transformers(artefact: Artefact, base: Base, folder: Path) -> None:
    path = base.folder / "config.json"
    stock = stock_class(read_json(path).get("model_type"), path)
    network = load_network(artefact, base)
    write_transformers(artefact, network, stock, base, folder)


FILES = {
    "peft": ("adapter_model.safetensors", "adapter_config.json", *TOKENIZER_FILES),
    "transformers": ("model.safetensors", "config.json", *TOKENIZER_FILES),
}
WRITERS: dict[str, Writer] = {"peft": _to_peft, "transformers": _to_transformers}
