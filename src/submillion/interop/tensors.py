"""Tensors written as safetensors, and read back before anyone relies on them."""

from pathlib import Path

import torch
from torch import Tensor

from submillion.errors import ArtefactError


def write_tensors(tensors: dict[str, Tensor], path: Path, **metadata: str) -> None:
    """Writes fp32 tensors and reads them back. Raises ArtefactError if one is not finite or came back changed."""
    from safetensors.torch import load_file, save_file

    wrong = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if wrong:
        raise ArtefactError(f"expected finite numbers, found others in {', '.join(wrong[:8])}\nfix: train again")
    copies = {name: tensor.detach().float().cpu().clone().contiguous() for name, tensor in tensors.items()}
    save_file(copies, path, metadata={"format": "pt", **metadata})
    found = load_file(path)
    if found.keys() != copies.keys() or not all(torch.equal(copies[name], found[name]) for name in copies):
        raise ArtefactError(f"{path.name} did not come back from the disk as it was written\nfix: check the disk")
