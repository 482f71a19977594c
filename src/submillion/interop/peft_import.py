"""PEFT adapters as one of our models: `submillion import`.

Adapters of different ranks and scales become one rank: A and B are padded with zeros, and B takes the scale in, so that
the function is the same. What cannot be the same function is refused by name, never dropped; peft_merge.py takes more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from submillion.atomic import check_replaceable, write_folder_atomically
from submillion.config.mapping import to_mapping, to_toml
from submillion.config.schema import TARGETS, Config, DataConfig, LoraConfig, ModelConfig, TrainConfig
from submillion.console import terminal
from submillion.errors import ArtefactError
from submillion.inference.artefact import Artefact, base_record, network_record
from submillion.interop.peft_files import PeftAdapter, choose_label_names, open_adapter, values_checked
from submillion.interop.peft_tensors import (
    Parts,
    StockModel,
    indented,
    lora_of,
    read_parts,
    read_stock_model,
    whole_head,
)
from submillion.interop.tokenizer import tokenizer_of_adapter
from submillion.model.budget import count
from submillion.model.checkpoint import read_checkpoint
from submillion.model.classifier import TextClassifier
from submillion.model.shape import EncoderShape
from submillion.model.spec import AdapterSpec, NetworkSpec
from submillion.tasks.saved import task_of, task_record
from submillion.text.vocabulary import files_hash

FILES = ("model.pt", "config.toml")


@dataclass(frozen=True)
class Adapter:
    lora_A: Tensor  # fp32 [rank, in]
    lora_B: Tensor  # fp32 [out, rank], its scale in it


def import_peft(name: str, output: Path, base: str = "", label_names: Sequence[str] = (), max_length: int = 0) -> None:
    """Writes the model in a PEFT adapter as output/model.pt, whole or not at all, and prints what it found.

    name: a folder or a hub id. base: the pretrained encoder; empty takes the one that the adapter names. label_names:
    in the order of the logits; empty takes those in our own exports, else the base's. The tokenizer is the one in the
    adapter's folder, else the base's. max_length: tokens a row; 0 takes that tokenizer's model_max_length if the
    encoder places as many, else all that it places. Raises ArtefactError for an adapter that is not whole or that our
    model cannot represent, BaseModelError if the base is not to be found or the tokenizer cannot be read as
    transformers reads it, ConfigError if output holds other files or max_length is more than the base places.
    """
    check_replaceable(output, FILES)
    adapter = open_adapter(name, base)
    with values_checked(adapter):
        artefact, config, notes = _read(adapter, label_names, max_length)
    with write_folder_atomically(output, FILES) as part:
        (part / "config.toml").write_text(to_toml(config), encoding="utf-8")
        artefact.save(part)
    print_import(adapter, output, artefact.label_names, notes)


def print_import(adapter: PeftAdapter, output: Path, label_names: Sequence[str], notes: list[str]) -> None:
    """Prints where an adapter went, its labels, and the notes of finding and reading it."""
    lines = [f"{adapter.name} -> {output}  (labels in order: {', '.join(label_names)})"]
    lines += [f"  note: {note}" for note in adapter.notes + notes]
    terminal().print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)


def _read(adapter: PeftAdapter, label_names: Sequence[str], max_length: int) -> tuple[Artefact, Config, list[str]]:
    base, stock_model = adapter.base, read_stock_model(adapter)
    base_settings, shape, stock = stock_model.settings, stock_model.shape, stock_model.stock
    shape.check_length(max_length, base.name, "--max-length")
    parts = read_parts(adapter, stock_model)
    _check_fits(parts, adapter, stock_model)
    their_head = whole_head(parts, read_checkpoint(base.folder), stock_model)
    adapters, head = _in_our_form(parts, their_head, adapter.settings, stock_model)
    rows = len(head["head.out_proj.bias"])
    names, notes = choose_label_names(rows, label_names, parts.label_names, base_settings)
    tokenizer, longest, tokenizer_notes = tokenizer_of_adapter(adapter.folder, base, shape)
    dropout = float(adapter.settings.get("lora_dropout") or 0.0)
    if dropout >= 1:  # peft takes it, and it changes no prediction
        notes = [*notes, f"lora_dropout = {dropout:g} is not read: no adapter could train on with it"]
        dropout = 0.0
    adapter_spec = _spec_of(adapters, shape, dropout)
    spec = NetworkSpec(max_length=max_length or longest, pooling=stock.pooling(base_settings))
    plan = count(shape, spec, adapter_spec, rows)
    config = Config(
        data=DataConfig(source="unknown: imported from PEFT", label_names=tuple(names)),
        model=ModelConfig(
            base=f"{base.name}@{base.revision}" if base.revision else base.name, max_length=spec.max_length
        ),
        lora=LoraConfig(rank=adapter_spec.rank, targets=adapter_spec.targets),
        train=TrainConfig(precision="fp32"),
        budget=max(Config().budget, plan.trainable),
    )
    network = TextClassifier(shape, spec, adapter_spec, rows, torch.Generator())
    _fill(network, adapters, head)
    artefact = Artefact(
        tensors=dict(network.trainable()),
        task=task_record(task_of(names)),
        base=base_record(base, shape),
        tokenizer=tokenizer.to_str(),
        tokenizer_sha256=files_hash(base.folder),  # which the base is known by when the model is loaded
        config=to_mapping(config),
        network=network_record(spec, adapter_spec),
        precision="fp32",
        parameters={
            "trainable": plan.trainable,
            "total": plan.total,
            "total_with_adapters": plan.total_with_adapters,
        },
        metrics={},
    )
    return artefact, config, notes + tokenizer_notes


def _check_fits(parts: Parts, adapter: PeftAdapter, stock_model: StockModel) -> None:
    """Raises ArtefactError for what trained outside the encoder layers' linear modules and the head."""
    places = {*stock_model.layer_modules, *(name.removesuffix(".weight") for name in stock_model.head)}
    others = [f"{module}: an adapter" for module in parts.lora if module not in places]
    others += [f"{name}: a tensor of the encoder" for name in parts.saved if name not in stock_model.head]
    others += [f"{module}: single rows" for module in parts.token_rows]
    if others:
        raise ArtefactError(
            "expected LoRA on the linear modules of the encoder's layers, and a head; the adapter changes more:\n"
            f"{indented(others)}\n{adapter.merge_fix}"
        )


def _in_our_form(
    parts: Parts, their_head: dict[str, Tensor], settings: dict[str, Any], stock_model: StockModel
) -> tuple[dict[tuple[int, str], Adapter], dict[str, Tensor]]:
    """Returns the adapters by layer and target, and the head by our names; adapters on the head are added to it."""
    sizes, places = stock_model.shape.linear_sizes(), stock_model.layer_modules
    head = {stock_model.head[theirs]: tensor for theirs, tensor in their_head.items()}
    adapters: dict[tuple[int, str], Adapter] = {}
    for module, tensors in parts.lora.items():
        if module not in places:
            ours = stock_model.head[f"{module}.weight"]
            size_out, size_in = head[ours].shape
            lora_A, lora_B = lora_of(module, tensors, (size_in, size_out), settings)
            head[ours] = head[ours] + lora_B @ lora_A
            continue
        layer, names = places[module]
        out = [sizes[name][1] for name in names]
        lora_A, lora_B = lora_of(module, tensors, (sizes[names[0]][0], sum(out)), settings)
        for name, rows in zip(names, lora_B.split(out), strict=True):
            if len(names) == 1:
                adapters[layer, name] = Adapter(lora_A, rows)
            elif rows.any():
                adapters[layer, name] = _without_zeros(lora_A, rows)
    return adapters, head


def _without_zeros(lora_A: Tensor, lora_B: Tensor) -> Adapter:
    """Returns the adapter of one part with the ranks alone that its rows of B use.

    Our exports join several parts; this gives each part back as it was.
    """
    used = lora_B.any(dim=0)
    return Adapter(lora_A[used], lora_B[:, used])


def _spec_of(adapters: dict[tuple[int, str], Adapter], shape: EncoderShape, dropout: float) -> AdapterSpec:
    """Returns a spec that holds all adapters: the largest rank, alpha / rank = 1."""
    if not adapters:
        return AdapterSpec(rank=0)
    rank = max(len(adapter.lora_A) for adapter in adapters.values())
    layers = tuple(sorted({layer for layer, _ in adapters}))
    targets = tuple(part for part in TARGETS if any(target == part for _, target in adapters))
    every = len(layers) == shape.num_layers
    return AdapterSpec(
        rank=rank, alpha=float(rank), dropout=dropout, targets=targets, layers="all" if every else layers
    )


@torch.no_grad()
def _fill(network: TextClassifier, adapters: dict[tuple[int, str], Adapter], head: dict[str, Tensor]) -> None:
    parameters = network.trainable()
    for index, layer in enumerate(network.encoder.layer_list()):
        for linear in layer.linears():
            for part in linear.rows:
                adapter = adapters.get((index, part))
                if adapter is not None:
                    rank, name = len(adapter.lora_A), f"encoder.layers.{index}.{linear.name}"
                    parameters[f"{name}.lora_A.{part}"].zero_()[:rank].copy_(adapter.lora_A)
                    parameters[f"{name}.lora_B.{part}"][:, :rank].copy_(adapter.lora_B)
    for name, tensor in head.items():
        parameters[name].copy_(tensor)
