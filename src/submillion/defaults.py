"""The caller's settings of torch and numpy, put aside while this package computes."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def own_settings() -> Iterator[None]:
    """Runs a block with torch's and numpy's settings as they are when a thread begins, and puts the caller's back.

    These are gradients, inference mode, autocast and the default device of torch, and how numpy treats numbers out of
    range: all of them a thread's own. The default dtype is the whole process's, and any thread may change it at any
    time, so nothing in this package leaves a dtype to it.
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
