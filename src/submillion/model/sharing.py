"""Copies of modules that share their tensors."""

import copy
from typing import TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def sharing(module: Module, **submodules: nn.Module | None) -> Module:
    """Returns a copy of a module that shares every tensor and submodule with it, except the submodules given here.

    The copy has its own tables of both, so that an assignment to its attributes changes the copy alone.
    """
    twin = copy.copy(module)
    for table in ("_parameters", "_buffers", "_modules"):
        twin.__dict__[table] = dict(module.__dict__[table])
    twin.__dict__["_modules"].update(submodules)
    return twin
