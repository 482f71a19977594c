"""LoRA (Hu et al., 2021, arXiv:2106.09685) on pretrained linear layers: y = x W^T + b + (alpha / rank) x A^T B^T."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from submillion.model.budget import target_names
from submillion.model.cpu.dropout import Dropout, dropped
from submillion.model.cpu.functional import gelu, linear, merged_linear
from submillion.model.cpu.products import Int8Weight, merged_weight, pack, pack_int8, packed_linear
from submillion.model.sharing import sharing
from submillion.model.spec import AdapterSpec


class LinearAdapter(nn.Module):
    """The LoRA matrices of one linear layer, for the parts of it that are targets.

    lora_A[part] is fp32 [rank, in], lora_B[part] fp32 [out of the part, rank]. They are initialised as in peft: A
    Kaiming-uniform with a = sqrt 5, drawn from `generator`, and B zero, so that a new adapter changes nothing.
    """

    def __init__(self, linear: "PretrainedLinear", spec: AdapterSpec, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.scaling = spec.alpha / spec.rank
        self.dropout_rate = spec.dropout
        self.lora_A = nn.ParameterDict()
        self.lora_B = nn.ParameterDict()
        for part in linear.targeted(spec.targets):
            start, end = linear.rows[part]
            # Drawn here and not by torch.nn.init: while transformers loads a model, in any thread, that draws nothing.
            bound = math.sqrt(3.0) * (math.sqrt(2.0 / (1 + math.sqrt(5) ** 2)) / math.sqrt(linear.in_features))
            lora_A = torch.empty(spec.rank, linear.in_features, dtype=torch.float32)
            self.lora_A[part] = nn.Parameter(lora_A.uniform_(-bound, bound, generator=generator))
            self.lora_B[part] = nn.Parameter(torch.zeros(end - start, spec.rank, dtype=torch.float32))

    def matrices(self, parts: Sequence[str]) -> list[Tensor]:
        """Returns lora_A and lora_B of each part in turn."""
        return [matrix[part] for part in parts for matrix in (self.lora_A, self.lora_B)]


class Pass(NamedTuple):
    """How one forward pass computes an encoder layer."""

    dropout: Dropout | None = None  # None in evaluation
    adapters: Mapping[str, LinearAdapter] = MappingProxyType({})  # the layer's adapters, by the linear layer's name
    int8: bool = False  # whether products by whole frozen weights are in int8


EVALUATION = Pass()


class PretrainedLinear(nn.Module):
    """A pretrained linear layer, or several that read the same input, stored as one: each is a part of its rows.

    weight [out, in] and bias [out] are buffers, or parameters in a layer that trains in full. They are stored once for
    all networks that share the encoder; each pass brings its own adapters. If the architecture has no bias, `has_bias`
    is False and the bias is a buffer of zeros.

    If there is no dropout between the input and the adapters, each forward pass adds their product to the weight first:
    training then costs what the plain layer costs, and computes what the merged layer will.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, name: str, in_features: int, parts: dict[str, int], has_bias: bool = True) -> None:
        """name: the layer's name among the linear layers of its encoder layer. parts: {name: out_features}."""
        super().__init__()
        self.name = name
        self.in_features = in_features
        self.has_bias = has_bias
        self.rows: dict[str, tuple[int, int]] = {}
        start = 0
        for part, out_features in parts.items():
            self.rows[part] = (start, start + out_features)
            start += out_features
        self.register_buffer("weight", torch.zeros(start, in_features, dtype=torch.float32))
        self.register_buffer("bias", torch.zeros(start, dtype=torch.float32))
        # Whether the weight stays in fp32 when the encoder is cast, for adapters to be added to it: if it were rounded
        # first, small updates would be lost.
        self.keeps_fp32 = False
        # The weight, its version, and what `_pack` made from it, by (int8, transpose).
        self._packed: tuple[Tensor, int, dict[tuple[bool, bool], Tensor | Int8Weight | None]] | None = None

    def targeted(self, targets: Sequence[str]) -> list[str]:
        """Returns the parts that are among LoRA's targets."""
        return [part for part in self.rows if part in target_names(targets)]

    def forward(
        self, x: Tensor, how: Pass = EVALUATION, parts: Sequence[str] | None = None, then_gelu: bool = False
    ) -> Tensor:
        """Returns [..., out] for x [..., in]: the outputs of all parts, or of `parts`, which are stored side by side.

        parts: in their stored order. then_gelu: returns the GELU of the output. In bf16 without gradients, it is
        computed before the output is rounded.
        """
        names = list(parts or self.rows)
        adapter = how.adapters.get(self.name)
        adapted = [part for part in names if part in adapter.lora_A] if adapter else []
        if not adapted and not torch.is_grad_enabled() and names == list(self.rows):
            packed = self._pack(x.dtype, how.int8)
            if packed is not None:
                return packed_linear(x, packed, self.bias, then_gelu)
        y = self._adapted(x, how, names, adapter, adapted) if adapter and adapted else self._plain(x, how.int8, names)
        return gelu(y) if then_gelu else y

    def _plain(self, x: Tensor, int8: bool, names: Sequence[str]) -> Tensor:
        weight, bias = self._rows_of(names)
        weight, bias = weight.to(x.dtype), bias.to(x.dtype)
        if self.weight.requires_grad:
            return F.linear(x, weight, bias)
        if names != list(self.rows):
            return linear(x, weight, bias)
        transposed = self._pack(x.dtype, int8, transpose=True) if x.requires_grad else None
        return linear(x, weight, bias, self._pack(x.dtype, int8), transposed)

    def _adapted(
        self, x: Tensor, how: Pass, names: Sequence[str], adapter: LinearAdapter, adapted: Sequence[str]
    ) -> Tensor:
        weight, bias = self._rows_of(names)
        bias = bias.to(x.dtype)
        if not self.weight.requires_grad and not (how.dropout and adapter.dropout_rate):
            first = self.rows[names[0]][0]
            rows = [(start - first, end - first) for start, end in (self.rows[part] for part in adapted)]
            int8 = how.int8 and names == list(self.rows)
            return merged_linear(x, weight, bias, adapter.scaling, rows, int8, *adapter.matrices(adapted))
        # The adapters of one input are computed as one: [sum of ranks, in] and [out, sum of ranks].
        lora_A = torch.cat([adapter.lora_A[part] for part in adapted])
        lora_B = self._block_diagonal(adapter, names) * adapter.scaling
        y = F.linear(x, weight.to(x.dtype), bias)
        z = F.linear(dropped(x, adapter.dropout_rate, how.dropout), lora_A.to(x.dtype)).flatten(0, -2)
        # In place: autograd saved nothing of y, and a second copy of the layer's largest tensor costs a pass over it.
        y.view(-1, len(bias)).addmm_(z, lora_B.to(x.dtype).t())
        return y

    def _rows_of(self, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Returns the weight [out of the parts, in] and the bias [out of the parts] of neighbouring parts."""
        first, last = self.rows[names[0]][0], self.rows[names[-1]][1]
        return self.weight[first:last], self.bias[first:last]

    def _block_diagonal(self, adapter: LinearAdapter, names: Sequence[str]) -> Tensor:
        """Returns lora_B of every part in its own rows and columns: [out, adapters * rank]."""
        blocks = []
        for part in names:
            start, end = self.rows[part]
            blocks.append(adapter.lora_B[part] if part in adapter.lora_B else self.bias.new_zeros(end - start, 0))
        return torch.block_diag(*blocks)

    def merged(self, adapter: LinearAdapter | None) -> "PretrainedLinear":
        """Returns this layer with the adapter added to its weight, in fp32, rounded once to the type of its bias.

        The bias is shared; so is the whole layer if there is nothing to add or to round.
        """
        trains = isinstance(self.weight, nn.Parameter)
        if adapter is None and (trains or self.weight.dtype == self.bias.dtype):
            return self
        parts = list(adapter.lora_A) if adapter else []
        twin = sharing(self)
        # A weight that inference mode made could not be packed: it does not tell when it is changed.
        with torch.inference_mode(self.weight.is_inference()), torch.no_grad():
            weight = merged_weight(
                self.weight.data,
                adapter.scaling if adapter else 0.0,
                [self.rows[part] for part in parts],
                adapter.matrices(parts) if adapter else [],
                self.bias.dtype,
            )
            twin.weight = nn.Parameter(weight) if trains else weight
        return twin

    def _pack(self, dtype: torch.dtype, int8: bool, transpose: bool = False) -> Tensor | Int8Weight | None:
        """Returns the weight or its transpose in the layout of the fastest product, kept until the weight changes.

        Returns None if the weight is multiplied as it is. For int8 it is always packed, because int8 rounds it.
        """
        if self.weight.dtype != dtype or torch.compiler.is_exporting():
            return None
        if self.weight.is_inference():  # such a tensor does not tell when it is changed
            return self._packed_now(int8, transpose) if int8 else None
        packed = self._packed
        if packed is None or packed[0] is not self.weight or packed[1] != self.weight._version:
            packed = self._packed = (self.weight, self.weight._version, {})
        kept = packed[2]
        if (int8, transpose) not in kept:
            kept[int8, transpose] = self._packed_now(int8, transpose)
        return kept[int8, transpose]

    def _packed_now(self, int8: bool, transpose: bool) -> Tensor | Int8Weight | None:
        if int8:
            return pack_int8(self.weight, None if transpose else self.bias, transpose)
        return pack(self.weight.t() if transpose else self.weight)

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state without the packed weight, which cannot be pickled and is made again when needed."""
        return {**self.__dict__, "_packed": None}
