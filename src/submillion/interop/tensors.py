"""Tensors written as safetensors, and read back before anyone relies on them."""

from pathlib import Path

import torch
from torch import Tensor

from submillion.errors import ArtefactError, ConfigError

_MADE_BY = {"made_by": "submillion"}  # in the metadata of every safetensors file that is written here


def write_tensors(tensors: dict[str, Tensor], path: Path, **metadata: str) -> None:
    """Writes fp32 tensors and reads them back. Raises ArtefactError where one is not finite or came back changed."""
    from safetensors.torch import load_file, save_file

    wrong = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if wrong:
        raise ArtefactError(f"expected finite numbers, found others in {', '.join(wrong[:8])}\nfix: train again")
    copies = {name: tensor.detach().float().cpu().clone().contiguous() for name, tensor in tensors.items()}
    save_file(copies, path, metadata={"format": "pt", **_MADE_BY, **metadata})
    found = load_file(path)
    if found.keys() != copies.keys() or not all(torch.equal(copies[name], found[name]) for name in copies):
        raise ArtefactError(f"{path.name} did not come back from the disk as it was written\nfix: check the disk")


def check_made_here(path: Path) -> None:
    """Raises ConfigError for a safetensors file that this package did not write; its folder is somebody else's model.

    The names of files tell nothing here: transformers and peft write the same. No such file at all is fine.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError):
        metadata = {}
    if not _MADE_BY.items() <= metadata.items():
        raise ConfigError(
            f"{path.parent}: expected a new or empty folder, or an earlier export, found a model in it that another "
            "program wrote, and that would be lost\nfix: name another folder"
        )
