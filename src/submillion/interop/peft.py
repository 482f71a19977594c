"""Adapters as PEFT keeps them: adapter_model.safetensors and adapter_config.json."""

import json
import re
from pathlib import Path
from typing import Any

from torch import Tensor

from submillion.config import Config
from submillion.errors import ArtefactError
from submillion.inference.stock import StockClass, check_representable, head_tensors
from submillion.interop.tensors import write_tensors
from submillion.model.encoder import LAYER_KEYS
from submillion.model.shape import EncoderShape
from submillion.training.artefact import Artefact

_ADAPTER = re.compile(r"encoder\.layers\.(\d+)\.\w+\.lora_([AB])\.(\w+)")
_PREFIX = "base_model.model."


def write_peft(artefact: Artefact, config: Config, shape: EncoderShape, stock: StockClass, folder: Path) -> None:
    """Writes the adapters and the head into a folder that `peft.PeftModel.from_pretrained` loads.

    The label names travel in the metadata of the safetensors file. Raises ArtefactError where the stock class of
    transformers would not give the same logits.
    """
    check_representable(config, stock)
    if not config.model.freeze_base:
        raise ArtefactError(
            "expected adapters and a head, found encoder layers that trained in full (model.freeze_base = false)\n"
            "fix: --to transformers, which writes every weight"
        )
    adapters, targets = _adapters(artefact.tensors, shape, stock)
    if not targets:
        raise ArtefactError("expected adapters, found a head alone (lora.rank = 0)\nfix: --to transformers")
    head = {f"{_PREFIX}{name}": tensor for name, tensor in head_tensors(artefact.tensors, stock).items()}
    label_names = json.dumps(artefact.label_names, ensure_ascii=False)
    write_tensors(adapters | head, folder / "adapter_model.safetensors", label_names=label_names)
    content = json.dumps(_peft_config(artefact, config, stock, targets), indent=2, ensure_ascii=False)
    (folder / "adapter_config.json").write_text(content + "\n", encoding="utf-8")


def _adapters(
    tensors: dict[str, Tensor], shape: EncoderShape, stock: StockClass
) -> tuple[dict[str, Tensor], list[str]]:
    """The adapters' tensors by PEFT's names, and the modules they belong to."""
    named: dict[str, Tensor] = {}
    targets: list[str] = []
    for name, tensor in tensors.items():
        found = _ADAPTER.fullmatch(name)
        if found is None:
            continue
        layer, matrix, part = found.groups()
        module = f"encoder.layer.{layer}.{LAYER_KEYS[shape.family][part]}"
        named[f"{_PREFIX}{stock.prefix}{module}.lora_{matrix}.weight"] = tensor
        if module not in targets:
            targets.append(module)
    return named, targets


def _peft_config(artefact: Artefact, config: Config, stock: StockClass, targets: list[str]) -> dict[str, Any]:
    """Targets are spelled out by layer: the suffix output.dense alone would mean attention.output.dense too."""
    pooler = [name.removeprefix(stock.prefix).split(".")[0] for name in stock.head.values() if "pooler" in name]
    return {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS",
        "base_model_name_or_path": artefact.base["name"],
        "revision": artefact.base["revision"] or None,
        "inference_mode": True,
        "r": config.lora.rank,
        "lora_alpha": config.lora.alpha,
        "lora_dropout": config.lora.dropout,
        "target_modules": targets,
        "modules_to_save": ["classifier", *pooler],
        "rank_pattern": {},
        "alpha_pattern": {},
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "use_rslora": False,
        "use_dora": False,
    }
