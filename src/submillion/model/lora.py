"""LoRA (Hu et al., 2021, arXiv:2106.09685) on frozen linear layers: y = x W^T + b + (alpha / rank) x A^T B^T."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from submillion.model.functional import (
    Dropout,
    Int8Weight,
    dropped,
    gelu,
    linear,
    merged_linear,
    merged_weight,
    pack,
    pack_int8,
    packed_linear,
)

_exact: ContextVar[bool] = ContextVar("exact", default=False)  # a thread's own: others go on in int8


@contextmanager
def without_int8() -> Iterator[None]:
    """Within it, layers that compute in int8 do so in the compute type."""
    before = _exact.set(True)
    try:
        yield
    finally:
        _exact.reset(before)


class LoraLinear(nn.Module):
    """One linear layer, or several that read the same input stored as one, each part with or without an adapter.

    weight [out, in] and bias [out] are pretrained: buffers, stored once, in the compute type (a weight with adapters in
    fp32). The adapters are the only parameters: lora_A[part] [rank, in] and lora_B[part] [out of the part, rank], fp32.
    Where nothing acts between the input and the adapters, each forward pass adds their product to the weight first:
    training then costs what the plain layer costs, and computes what the merged layer will. Where the architecture has
    no bias, `has_bias` is False and the bias a buffer of zeros.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, in_features: int, parts: dict[str, int], has_bias: bool = True) -> None:
        super().__init__()
        self.in_features = in_features
        self.has_bias = has_bias
        self.rows: dict[str, tuple[int, int]] = {}
        start = 0
        for name, out_features in parts.items():
            self.rows[name] = (start, start + out_features)
            start += out_features
        self.register_buffer("weight", torch.zeros(start, in_features, dtype=torch.float32))
        self.register_buffer("bias", torch.zeros(start, dtype=torch.float32))
        self.lora_A = nn.ParameterDict()
        self.lora_B = nn.ParameterDict()
        self.scaling = 0.0
        self.dropout_rate = 0.0
        self.int8 = False  # whether products by the whole frozen weight are in int8
        self._pretrained: Tensor | None = None  # kept while merged
        # The weight, its version then, and what `_pack` made of it, by whether in int8 and whether of its transpose.
        self._packed: tuple[Tensor, int, dict[tuple[bool, bool], Tensor | Int8Weight | None]] | None = None

    def add_adapters(
        self,
        targets: Sequence[str],
        rank: int,
        alpha: float,
        dropout_rate: float,
        generator: torch.Generator | None = None,
    ) -> None:
        """Adds an adapter to each part among the targets, as peft does: A Kaiming-uniform (a = sqrt 5), B zero."""
        self.scaling = alpha / rank
        self.dropout_rate = dropout_rate
        for part in [name for name in self.rows if name in targets]:
            start, end = self.rows[part]
            # Drawn here and not by torch.nn.init: while transformers loads a model, in any thread, that draws nothing.
            bound = math.sqrt(3.0) * (math.sqrt(2.0 / (1 + math.sqrt(5) ** 2)) / math.sqrt(self.in_features))
            lora_A = torch.empty(rank, self.in_features, dtype=torch.float32).uniform_(
                -bound, bound, generator=generator
            )
            self.lora_A[part] = nn.Parameter(lora_A)
            self.lora_B[part] = nn.Parameter(torch.zeros(end - start, rank, dtype=torch.float32))

    def forward(
        self, x: Tensor, dropout: Dropout | None = None, parts: Sequence[str] | None = None, then_gelu: bool = False
    ) -> Tensor:
        """x [..., in] -> [..., out], or the outputs of neighbouring parts alone, in their stored order.

        then_gelu: the GELU of that. Without gradients in bf16, it is computed before the output is rounded.
        """
        names = list(parts or self.rows)
        adapted = [] if self.merged else [name for name in names if name in self.lora_A]
        if not adapted and not torch.is_grad_enabled() and names == list(self.rows):
            packed = self._pack(x.dtype)
            if packed is not None:
                return packed_linear(x, packed, self.bias, then_gelu)
        y = self._linear(x, dropout, names, adapted)
        return gelu(y) if then_gelu else y

    def _linear(self, x: Tensor, dropout: Dropout | None, names: Sequence[str], adapted: Sequence[str]) -> Tensor:
        first, last = self.rows[names[0]][0], self.rows[names[-1]][1]
        weight, bias = self.weight[first:last], self.bias[first:last].to(x.dtype)
        if not adapted:
            weight = weight.to(x.dtype)
            if self.weight.requires_grad:
                return F.linear(x, weight, bias)
            if names != list(self.rows):
                return linear(x, weight, bias)
            turned = self._pack(x.dtype, transpose=True) if x.requires_grad else None
            return linear(x, weight, bias, self._pack(x.dtype), turned)
        if not self.weight.requires_grad and not (dropout and self.dropout_rate):
            rows = [(start - first, end - first) for start, end in (self.rows[name] for name in adapted)]
            int8 = self._in_int8 and names == list(self.rows)
            return merged_linear(x, weight, bias, self.scaling, rows, int8, *self._adapters(adapted))
        # The adapters of one input are one: [rank of all, in] and [out, rank of all].
        lora_A, lora_B = torch.cat([self.lora_A[name] for name in adapted]), self._block_diagonal(names)
        y = F.linear(x, weight.to(x.dtype), bias)
        z = F.linear(dropped(x, self.dropout_rate, dropout), lora_A.to(x.dtype)).flatten(0, -2)
        # In place: autograd saved nothing of y, and a second copy of the layer's largest tensor costs a pass over it.
        y.view(-1, last - first).addmm_(z, lora_B.to(x.dtype).t())
        return y

    def _pack(self, dtype: torch.dtype, transpose: bool = False) -> Tensor | Int8Weight | None:
        """The weight or its transpose as the products by it are fastest, kept until the weight is another.

        None where it is multiplied as it is. In int8 it is always packed: it computes something else.
        """
        int8 = self._in_int8
        if self.weight.dtype != dtype:
            return None
        if self.weight.is_inference():  # such a tensor does not tell when it is changed
            return self._packed_now(transpose) if int8 else None
        if self._packed is None or self._packed[0] is not self.weight or self._packed[1] != self.weight._version:
            self._packed = (self.weight, self.weight._version, {})
        kept = self._packed[2]
        if (int8, transpose) not in kept:
            kept[int8, transpose] = self._packed_now(transpose)
        return kept[int8, transpose]

    def _packed_now(self, transpose: bool) -> Tensor | Int8Weight | None:
        if self._in_int8:
            return pack_int8(self.weight, None if transpose else self.bias, transpose)
        return pack(self.weight.t() if transpose else self.weight)

    def __getstate__(self) -> dict[str, Any]:
        """Without the packed weight, which nothing can copy or pickle, and which is made again when it is wanted."""
        return {**self.__dict__, "_packed": None}

    @property
    def _in_int8(self) -> bool:
        return self.int8 and not _exact.get()

    @property
    def keeps_fp32(self) -> bool:
        """Whether the weight stays in fp32 for the adapters' product to be added to it: rounded before, it would
        round small updates away. Where the weight itself is trained, it is a parameter and in fp32 anyway."""
        return bool(len(self.lora_A))

    def _adapters(self, names: Sequence[str]) -> list[Tensor]:
        """lora_A and lora_B of each part in turn."""
        return [matrix[name] for name in names for matrix in (self.lora_A, self.lora_B)]

    def _block_diagonal(self, names: Sequence[str]) -> Tensor:
        """(alpha / rank) B of every part in its own rows and columns: [out, adapters * rank]."""
        blocks = []
        for name in names:
            start, end = self.rows[name]
            blocks.append(self.lora_B[name] if name in self.lora_B else self.bias.new_zeros(end - start, 0))
        return torch.block_diag(*blocks) * self.scaling

    @property
    def merged(self) -> bool:
        return self._pretrained is not None

    @torch.no_grad()
    def merge(self) -> None:
        """Adds the adapters to the pretrained weight, in fp32, rounded once to the compute type. Twice is once."""
        if self.merged or not len(self.lora_A):
            return
        adapted = list(self.lora_A)
        # The kind of tensor that the weight is: of an inference tensor nothing can be kept, and its data is another's.
        with torch.inference_mode(self.weight.is_inference()):
            self._pretrained, self._packed = self.weight.data, None
            self.weight.data = merged_weight(
                self.weight.data,
                self.scaling,
                [self.rows[name] for name in adapted],
                self._adapters(adapted),
                self.bias.dtype,
            )

    def unmerge(self) -> None:
        """Puts the pretrained weight back, bit for bit. Twice is once."""
        if self._pretrained is not None:
            self.weight.data, self._pretrained, self._packed = self._pretrained, None, None
