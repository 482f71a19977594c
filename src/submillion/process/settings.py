"""The caller's settings of torch and numpy, put aside while this package computes."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def own_settings() -> Iterator[None]:
    """Runs a block with the settings that torch and numpy have in a new thread, and puts the caller's back afterwards.

    These are torch's gradients, inference mode, autocast and default device, and how numpy treats numbers out of range.
    Each thread has its own. The default dtype belongs to the whole process, and any thread may change it at any time,
    so no code in this package relies on it.
    """
    import numpy as np
    import torch

    with ExitStack() as stack:
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield
