"""Adapters that peft itself saves, with random weights, for the tests of import."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tiny import scatter

NUM_LABELS = 3


def save_adapter(base: Path, folder: Path, edit: Callable[[Any], object] | None = None, **changes: Any) -> Any:
    """A random adapter of peft's, all that trains in it moved, saved in `folder`; returns peft's model."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=NUM_LABELS)
    if edit is not None:
        edit(model)
    config = LoraConfig(**{"task_type": "SEQ_CLS", "r": 4, "lora_alpha": 6} | changes)
    model = get_peft_model(model, config).eval()
    scatter([parameter for parameter in model.parameters() if parameter.requires_grad], seed=8, std=0.1)
    model.save_pretrained(folder)
    return model


def as_binary(adapter: Path) -> None:
    """Replaces the adapter's safetensors file with adapter_model.bin, as earlier releases of peft wrote it."""
    path = adapter / "adapter_model.safetensors"
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()


def change(adapter: Path, **changes: Any) -> None:
    """Changes these values of the adapter's adapter_config.json."""
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), encoding="utf-8")


def advised(message: str) -> list[str]:
    """The flags of the `submillion` command in a message's fix."""
    fix = message.partition("\nfix: submillion ")[2].partition(", then")[0]
    return shlex.split(fix)
