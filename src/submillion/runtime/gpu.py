"""What keeps a GPU busy: steps as CUDA graphs, copies that do not wait, and looks at results one step late.

A step on an encoder of roberta-base's size is more than a thousand kernels of a few microseconds each, which take
longer to launch one by one than to run. A graph launches them as one (Nguyen et al., 2021,
https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs). Everything here is the plain thing on a CPU.
"""

import gc
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

# A batch without gradients holds as many tokens as batch_size rows of this length: 64 such rows take a gigabyte for an
# encoder of roberta-base's size, and longer to compute than to launch.
FULL_LENGTH = 512
LENGTH_MULTIPLE = 8  # padded lengths: torch's fused attention reads the mask in such steps, and each length is a graph
GRAPHS = 64  # at most, each with its own gradients; steps of other shapes launch one kernel at a time

Step = Callable[..., tuple[Tensor, ...]]  # tensors to tensors, adding to the parameters' gradients


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Returns the tensor on the device; its copy to a GPU does not wait for what is queued there."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


@contextmanager
def graphed(step: Step, parameters: Sequence[torch.nn.Parameter], device: torch.device) -> Iterator[Step]:
    """Yields `step` itself on a CPU; on a GPU, `step` as CUDA graphs, one for each combination of its inputs' shapes.

    step: changes nothing but the parameters' gradients, and reads no tensor's values on the CPU. The tensors that a
    graph returns are overwritten when it runs again.
    """
    if device.type != "cuda":
        yield step
        return
    stream = torch.cuda.Stream(device)  # a graph cannot be recorded on the default one
    stream.wait_stream(torch.cuda.current_stream(device))
    gc.collect()  # an earlier run's graphs must not be destroyed while one is recorded
    try:
        with torch.cuda.stream(stream):
            yield _Graphs(step, parameters, stream)
    finally:
        torch.cuda.current_stream(device).wait_stream(stream)


class _Graph(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    gradients: list[Tensor | None]


class _Graphs:
    def __init__(self, step: Step, parameters: Sequence[torch.nn.Parameter], stream: torch.cuda.Stream) -> None:
        self._step, self._parameters, self._stream = step, parameters, stream
        self._graphs: dict[tuple[torch.Size, ...], _Graph | None] = {}
        self._pool = torch.cuda.graph_pool_handle()  # they run one after the other, so they share their memory

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        shapes = tuple(tensor.shape for tensor in inputs)
        if shapes not in self._graphs:  # what happens once is not worth a graph, and libraries set themselves up here
            if len(self._graphs) < GRAPHS:
                self._graphs[shapes] = None
            return self._step(*inputs)
        # Copies, because these gradients may be the tensors that this graph is about to overwrite.
        earlier = [None if parameter.grad is None else parameter.grad.clone() for parameter in self._parameters]
        made = self._graphs[shapes] = self._graphs[shapes] or self._record(inputs)
        for own, given in zip(made.inputs, inputs, strict=True):
            own.copy_(given, non_blocking=True)
        made.graph.replay()
        for parameter, before, gradient in zip(self._parameters, earlier, made.gradients, strict=True):
            parameter.grad = before if gradient is None else gradient if before is None else before + gradient
        return made.outputs

    def _record(self, inputs: tuple[Tensor, ...]) -> _Graph:
        own = tuple(tensor.clone() for tensor in inputs)
        for parameter in self._parameters:
            parameter.grad = None  # so that the graph writes gradients, and does not add to those of its last run
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            outputs = self._step(*own)
        return _Graph(graph, own, outputs, [parameter.grad for parameter in self._parameters])


class Later:
    """Calls `look` with each tensor's values: at once on a CPU, in `settle` on a GPU.

    It does not wait for what a GPU was given to do after the tensor.
    """

    def __init__(self, look: Callable[..., None]) -> None:
        self._look = look
        self._waiting: deque[tuple[int, Tensor, torch.cuda.Event, tuple[object, ...]]] = deque()

    def add(self, step: int, values: Tensor, *details: object) -> None:
        if not values.is_cuda:
            self._look(values, *details)
            return
        copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._waiting.append((step, copy, event, details))

    def settle(self, before: int) -> None:
        """Calls `look` for everything that was added for the steps before this one."""
        while self._waiting and self._waiting[0][0] < before:
            _, copy, event, details = self._waiting.popleft()
            event.synchronize()
            self._look(copy, *details)
