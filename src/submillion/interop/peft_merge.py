"""A PEFT adapter merged into its base, as an ordinary checkpoint of transformers: `submillion import --merge`.

It is what peft's merge_and_unload gives, also for what our own adapters cannot hold: DoRA, biases, adapters on
embeddings, embeddings of another size, layer norms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from submillion.atomic import check_replaceable, write_folder_atomically
from submillion.errors import ArtefactError, ConfigError
from submillion.inference.json_files import read_json_if_there
from submillion.inference.transformers_tokenizer import holds_tokenizer
from submillion.interop.peft_files import PeftAdapter, choose_label_names, open_adapter, values_checked
from submillion.interop.peft_import import print_import
from submillion.interop.peft_settings import rank_and_scale, token_indices
from submillion.interop.peft_tensors import (
    Parts,
    StockModel,
    check_shapes,
    lora_of,
    read_parts,
    read_stock_model,
    whole_head,
)
from submillion.interop.tensors import write_tensors
from submillion.interop.tokenizer import FILES as TOKENIZER_FILES
from submillion.interop.tokenizer import tokenizer_of_adapter, write_tokenizer
from submillion.interop.transformers_files import check_made_here, classifier_settings, write_json
from submillion.model.checkpoint import read_checkpoint
from submillion.model.config_json import read_shape
from submillion.model.encoder import Encoder

FILES = ("model.safetensors", "config.json", *TOKENIZER_FILES)


def merge_peft(name: str, output: Path, base: str = "", label_names: Sequence[str] = (), max_length: int = 0) -> None:
    """Merges a PEFT adapter into its base and writes a checkpoint of transformers, whole or not at all.

    The folder `output` gets config.json with the label names, model.safetensors in fp32, and the tokenizer: the
    adapter's if its folder holds one, else the base's. The arguments are those of `import_peft`. Raises ArtefactError
    for an adapter that is not whole, does not fit its base or cannot be merged, BaseModelError if the base cannot be
    had or the tokenizer cannot be read as transformers reads it, ConfigError if output holds other files or is the
    base, or max_length is more than the base places.
    """
    check_replaceable(output, FILES)
    check_made_here(output)
    adapter = open_adapter(name, base, merging=True)
    if output.exists() and output.samefile(adapter.base.folder):
        raise ConfigError(f"{output} is the pretrained encoder, which would be lost\nfix: name another folder")
    with values_checked(adapter):
        tensors, settings, notes = _merged_model(adapter, label_names, max_length)
    shape = replace(read_shape(adapter.base.folder), vocab_size=settings["vocab_size"])
    tokenizer, longest, tokenizer_notes = tokenizer_of_adapter(adapter.folder, adapter.base, shape)
    named = adapter.folder if holds_tokenizer(adapter.folder) else adapter.base.folder
    with write_folder_atomically(output, FILES) as part:
        write_tensors(tensors, part / "model.safetensors")
        write_json(part / "config.json", settings)
        tokenizer_settings = read_json_if_there(named / "tokenizer_config.json")
        write_tokenizer(tokenizer, shape.pad_id, max_length or longest, part, tokenizer_settings)
    print_import(adapter, output, list(settings["id2label"].values()), notes + tokenizer_notes)


def _merged_model(
    adapter: PeftAdapter, label_names: Sequence[str], max_length: int
) -> tuple[dict[str, Tensor], dict[str, Any], list[str]]:
    """Returns the merged tensors by the stock class's names, fp32; config.json; and notes."""
    stock_model = read_stock_model(adapter)
    stock, shape = stock_model.stock, stock_model.shape
    shape.check_length(max_length, adapter.base.name, "--max-length")
    stock.pooling(stock_model.settings)  # raises for a pooling that we could not open
    parts, base_state = read_parts(adapter, stock_model), read_checkpoint(adapter.base.folder)
    encoder = Encoder(shape)
    encoder.load(base_state)
    tensors = {f"{stock.prefix}{name}": tensor for name, tensor in encoder.published_tensors().items()}
    tensors |= whole_head(parts, base_state, stock_model) | parts.saved
    names, notes = choose_label_names(
        len(tensors[stock_model.last_bias]), label_names, parts.label_names, stock_model.settings
    )
    _check_sizes(tensors, stock_model)
    merged = merged_tensors(tensors, parts, adapter.settings, stock_model)
    settings = classifier_settings(stock_model.settings, stock, names)
    settings["vocab_size"] = len(merged[f"{stock_model.word_embeddings}.weight"])
    return merged, settings, notes


def _check_sizes(tensors: Mapping[str, Tensor], stock_model: StockModel) -> None:
    """Raises ArtefactError for a tensor of another shape than the class has; of word embeddings, any number of rows."""
    expected = stock_model.shapes(len(tensors[stock_model.last_bias]))
    words = f"{stock_model.word_embeddings}.weight"
    expected[words] = (len(tensors[words]), *expected[words][1:])
    check_shapes(tensors, expected)


def merged_tensors(
    tensors: Mapping[str, Tensor], parts: Parts, settings: dict[str, Any], stock_model: StockModel
) -> dict[str, Tensor]:
    """Returns the tensors with every adapter added to its weight and bias, and trained rows of embeddings in place.

    tensors: fp32, by the stock class's names. Raises ArtefactError if an adapter does not fit them.
    """
    merged = dict(tensors)
    for module, halves in parts.lora.items():
        merged[f"{module}.weight"] = _merged_weight(module, merged[f"{module}.weight"], halves, settings)
        if "B.bias" in halves:
            merged[f"{module}.bias"] = _merged_bias(module, merged.get(f"{module}.bias"), halves["B.bias"], settings)
    for module, rows in parts.token_rows.items():
        indices = token_indices(module, settings, module == stock_model.word_embeddings)
        merged[f"{module}.weight"] = _with_rows(module, merged[f"{module}.weight"], rows, indices)
    return merged


def _merged_weight(module: str, weight: Tensor, halves: dict[str, Tensor], settings: dict[str, Any]) -> Tensor:
    """Returns W + scale B A.

    With DoRA (arXiv:2402.09353) each output's weights are scaled to the length that it learned. weight: [out, in] of a
    linear layer, [rows, out] of an embedding.
    """
    is_embedding = "embedding_A" in halves
    by_output = weight.T if is_embedding else weight
    size_out, size_in = by_output.shape
    lora_A, lora_B = lora_of(module, halves, (size_in, size_out), settings)
    by_output = by_output + lora_B @ lora_A
    if "magnitude_vector" in halves:
        magnitude = _checked(f"{module}: lora_magnitude_vector", halves["magnitude_vector"], (size_out,))
        by_output = by_output * (magnitude / torch.linalg.norm(by_output, dim=1))[:, None]
    return by_output.T if is_embedding else by_output


def _merged_bias(module: str, bias: Tensor | None, lora_bias: Tensor, settings: dict[str, Any]) -> Tensor:
    """Returns the bias plus that of lora_B, which is scaled as its weight is.

    Raises ArtefactError if the base has no bias there.
    """
    if bias is None:
        raise ArtefactError(
            f"{module}: expected a bias that lora_bias could be added to, found none in this base, so that peft cannot "
            "merge it either\nfix: serve it with transformers and peft: PeftModel.from_pretrained(MODEL, FOLDER)"
        )
    return bias + _checked(f"{module}: lora_B.bias", lora_bias, tuple(bias.shape)) * rank_and_scale(module, settings)[1]


def _with_rows(module: str, weight: Tensor, rows: Tensor, indices: list[int]) -> Tensor:
    """Returns the embeddings [tokens, size] with the trained rows in their places.

    indices: the places of these rows. Raises ValueError for a place that the embeddings do not have.
    """
    if not all(0 <= index < len(weight) for index in indices):
        raise ValueError(f"expected trainable_token_indices below {len(weight)}, found {indices}")
    checked = _checked(f"{module}: its trained rows", rows, (len(indices), weight.shape[1]))
    return weight.index_copy(0, torch.tensor(indices), checked)


def _checked(name: str, tensor: Tensor, size: tuple[int, ...]) -> Tensor:
    check_shapes({name: tensor}, {name: size})
    return tensor
