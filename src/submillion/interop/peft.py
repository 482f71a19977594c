"""Adapters as PEFT keeps them: adapter_model.safetensors and adapter_config.json."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from submillion.errors import ArtefactError
from submillion.inference.artefact import Artefact
from submillion.inference.stock import StockClass, head_tensors
from submillion.interop.tensors import write_tensors
from submillion.model.families import layer_modules
from submillion.model.shape import EncoderShape
from submillion.model.spec import AdapterSpec

_ADAPTER = re.compile(r"encoder\.layers\.(\d+)\.\w+\.lora_([AB])\.(\w+)")
_PREFIX = "base_model.model."


def write_peft(artefact: Artefact, shape: EncoderShape, stock: StockClass, folder: Path) -> None:
    """Writes the adapters and the head into a folder that `peft.PeftModel.from_pretrained` loads.

    The stock class of transformers computes what the model does: `check_representable`. The label names travel in the
    metadata of the safetensors file. Raises ArtefactError if there are no adapters, or trained layers beside them.
    """
    spec, adapter_spec = artefact.specs()
    if spec.unfreeze_layers:
        raise ArtefactError(
            "expected adapters and a head, found encoder layers that trained in full "
            f"(model.unfreeze_layers = {spec.unfreeze_layers})\n"
            "fix: --to transformers, which writes every weight"
        )
    by_module = _adapters(artefact.tensors, shape)
    if not by_module:
        raise ArtefactError("expected adapters, found a head alone (lora.rank = 0)\nfix: --to transformers")
    adapters = {
        f"{_PREFIX}{stock.prefix}{module}.lora_{matrix}.weight": tensor
        for module, halves in by_module.items()
        for matrix, tensor in zip("AB", halves, strict=True)
    }
    head = {f"{_PREFIX}{name}": tensor for name, tensor in head_tensors(artefact.tensors, stock).items()}
    label_names = json.dumps(artefact.label_names, ensure_ascii=False)
    write_tensors(adapters | head, folder / "adapter_model.safetensors", label_names=label_names)
    ranks = {module: len(lora_A) for module, (lora_A, _) in by_module.items()}
    content = json.dumps(_peft_config(artefact, adapter_spec, stock, ranks), indent=2, ensure_ascii=False)
    (folder / "adapter_config.json").write_text(content + "\n", encoding="utf-8")


def _adapters(tensors: dict[str, Tensor], shape: EncoderShape) -> dict[str, tuple[Tensor, Tensor]]:
    """Returns {published module: (lora_A [rank, in], lora_B [out, rank])}, in the layers' order.

    Adapters of parts that are published as one matrix become one: their A stand below each other, and each B stands in
    its part's rows, with zeros elsewhere.
    """
    ours: dict[tuple[int, str], dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if found := _ADAPTER.fullmatch(name):
            layer, matrix, part = found.groups()
            ours.setdefault((int(layer), part), {})[matrix] = tensor
    sizes = shape.linear_sizes()
    adapters: dict[str, tuple[Tensor, Tensor]] = {}
    for layer in sorted({layer for layer, _ in ours}):
        for module, parts in layer_modules(shape.family, layer).items():
            halves = [ours.get((layer, part)) for part in parts]
            if any(halves):
                lora_A = torch.cat([half["A"] for half in halves if half])
                blocks = [
                    half["B"] if half else lora_A.new_zeros(sizes[part][1], 0)
                    for part, half in zip(parts, halves, strict=True)
                ]
                adapters[module] = lora_A, torch.block_diag(*blocks)
    return adapters


def _peft_config(artefact: Artefact, adapters: AdapterSpec, stock: StockClass, ranks: dict[str, int]) -> dict[str, Any]:
    """Returns the content of adapter_config.json.

    Targets are spelled out by layer: the suffix output.dense alone would mean attention.output.dense too.

    ranks: of each module. If several adapters became one, its rank and alpha grew alike: alpha / rank is the scale.
    """
    head = dict.fromkeys(name.removeprefix(stock.prefix).split(".")[0] for name in reversed(stock.head.values()))
    rank = adapters.rank
    joined = {module: joined_rank for module, joined_rank in ranks.items() if joined_rank != rank}
    return {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS",
        "base_model_name_or_path": artefact.base["name"],
        "revision": artefact.base["revision"] or None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": adapters.alpha,
        "lora_dropout": adapters.dropout,
        "target_modules": list(ranks),
        "modules_to_save": list(head),
        "rank_pattern": joined,
        "alpha_pattern": {module: adapters.alpha * joined_rank / rank for module, joined_rank in joined.items()},
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "use_rslora": False,
        "use_dora": False,
    }
