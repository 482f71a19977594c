"""The tensors of a published checkpoint: safetensors or pytorch_model.bin, one file or shards, of any float type."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from submillion.errors import BaseModelError
from submillion.model.base import weights_files


def read_checkpoint(folder: Path) -> dict[str, Tensor]:
    """Returns the tensors of the folder's weights by name, from the first of WEIGHTS_FILES that is there.

    Only the weights in pytorch_model.bin are read: no code in it can run. Raises BaseModelError if there are no
    weights, if a shard is missing, or if a file cannot be read.
    """
    from safetensors.torch import load_file

    state: dict[str, Tensor] = {}
    for path in weights_files(folder):
        try:
            state |= load_file(path) if path.suffix == ".safetensors" else _read_binary(path)
        except Exception as error:  # cut or altered files fail in many ways inside both libraries
            raise BaseModelError(f"the weights in {path} cannot be read: {error}\nfix: copy the file again") from error
    return state


def _read_binary(path: Path) -> dict[str, Tensor]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise TypeError(f"expected a dict of named tensors, found {type(state).__name__}")
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


def plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Removes the model's prefix ('bert.', 'roberta.', ...) from the names, and makes old layer-norm names new."""
    first = ("embeddings.word_embeddings.weight", "embeddings.tok_embeddings.weight")
    prefix = next((name.removesuffix(end) for name in state for end in first if name.endswith(end)), "")
    return {
        name.removeprefix(prefix)
        .replace("LayerNorm.gamma", "LayerNorm.weight")
        .replace("LayerNorm.beta", "LayerNorm.bias"): tensor
        for name, tensor in state.items()
    }
