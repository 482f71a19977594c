"""The encoder: token ids to hidden states, for BERT and its like; the layers of ModernBERT are in modernbert.py.

    embeddings -> layer norm -> num_layers x (attention -> add, norm -> feed-forward -> add, norm)

Everything pretrained is a buffer, so nothing pretrained gets a gradient unless `open_layers` turns a layer's tensors
into parameters. A family is its rows in the tables of families.py and some switches in its shape: where positions
start, whether there are token types, whether attention has a relative bias, whether embeddings are narrower.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from submillion.config import LoraConfig
from submillion.errors import BaseModelError
from submillion.model.attention import AttentionMask, Packing, attend
from submillion.model.budget import adapted_layers, target_names
from submillion.model.checkpoint import plain_names
from submillion.model.families import (
    EMBEDDING_NORM,
    FINAL_NORM,
    LAYER_KEYS,
    WORD_EMBEDDINGS,
    layer_modules,
    layer_prefix,
)
from submillion.model.functional import Dropout, dropped
from submillion.model.lora import LoraLinear
from submillion.model.modernbert import ModernBertLayer, Reaches, reaches
from submillion.model.norm import LayerNorm
from submillion.model.shape import EncoderShape


class EncoderLayer(nn.Module):
    def __init__(self, shape: EncoderShape, dropout_rate: float) -> None:
        super().__init__()
        h, i = shape.hidden_size, shape.intermediate_size
        self.num_heads = shape.num_heads
        self.dropout_rate = dropout_rate
        self.attention_input = LoraLinear(h, {"query": h, "key": h, "value": h})
        self.attention_output = LoraLinear(h, {"attention_output": h})
        self.attention_norm = LayerNorm(h, shape.layer_norm_eps)
        self.intermediate = LoraLinear(h, {"intermediate": i})
        self.output = LoraLinear(i, {"output": h})
        self.output_norm = LayerNorm(h, shape.layer_norm_eps)

    def forward(self, x: Tensor, mask: AttentionMask, dropout: Dropout | None, first_only: bool = False) -> Tensor:
        """x [batch, length, hidden] -> the same shape, or [batch, 1, hidden]: the first token's row alone.

        Packed: [tokens, hidden] -> the same shape, or [batch, hidden].
        """
        rate = self.dropout_rate
        if first_only:
            first = mask.first_tokens(x)
            parts = [self.attention_input(first, dropout, ["query"])]
            parts += [self.attention_input(x, dropout, ["key", "value"])]
            x, mask = first, mask.of_first_query()
        else:
            parts = [self.attention_input(x, dropout)]
        context = attend(parts, self.num_heads, mask, rate, dropout)
        x = self.attention_norm.add(self.attention_output(context, dropout), x, rate, dropout)
        hidden = self.intermediate(x, dropout, then_gelu=True)
        return self.output_norm.add(self.output(hidden, dropout), x, rate, dropout)

    def linears(self) -> list[LoraLinear]:
        return [self.attention_input, self.attention_output, self.intermediate, self.output]

    def norms(self) -> dict[str, LayerNorm]:
        return {"attention_norm": self.attention_norm, "output_norm": self.output_norm}


Layer = EncoderLayer | ModernBertLayer


class Encoder(nn.Module):
    """A pretrained encoder with the dimensions of `shape`, its weights zero until `load` or `randomise`."""

    position_embeddings: Tensor
    word_embeddings: Tensor
    token_type_embeddings: Tensor
    relative_attention_bias: Tensor

    def __init__(self, shape: EncoderShape, dropout_rate: float = 0.1) -> None:
        super().__init__()
        e = shape.embedding_size or shape.hidden_size
        self.shape = shape
        self.dropout_rate = dropout_rate
        self.register_buffer("word_embeddings", torch.zeros(shape.vocab_size, e, dtype=torch.float32))
        self.register_buffer("position_embeddings", torch.zeros(shape.position_rows, e, dtype=torch.float32))
        self.register_buffer("token_type_embeddings", torch.zeros(shape.num_token_types, e, dtype=torch.float32))
        relative_bias = torch.zeros(shape.relative_buckets, shape.num_heads, dtype=torch.float32)
        self.register_buffer("relative_attention_bias", relative_bias)
        self.embedding_norm = LayerNorm(e, shape.layer_norm_eps, shape.norms_have_bias)
        self.embedding_projection = LoraLinear(e, {"": shape.hidden_size}) if shape.embedding_size else None
        self.layers = nn.ModuleList(self._layer(index) for index in range(shape.num_layers))

    def _layer(self, index: int) -> Layer:
        if self.shape.modernbert is None:
            return EncoderLayer(self.shape, self.dropout_rate)
        return ModernBertLayer(self.shape, self.shape.modernbert, index, self.dropout_rate)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, dropout: Dropout | None = None, first_only: bool = False
    ) -> Tensor:
        """input_ids and attention_mask, int64 [batch, length], mask 1 where there is a token.

        Returns hidden states [batch, length, hidden] in the compute type. first_only: the last layer computes its first
        token alone, [batch, 1, hidden], equal to the whole result's first row. dropout None is evaluation.
        """
        return self.run(self.embed(input_ids, dropout), attention_mask, range(len(self.layers)), dropout, first_only)

    def run(
        self, x: Tensor, attention_mask: Tensor, layers: range, dropout: Dropout | None = None, first_only: bool = False
    ) -> Tensor:
        """These layers in turn: x [batch, length, hidden] enters the first of them, the last one's output is returned.

        first_only is for layers that end with the encoder's last, or none where those before have run already.
        """
        length, mask = attention_mask.shape[1], self._attention_mask(attention_mask)
        if x.is_cuda:  # once a pass and not once a layer
            mask = mask.joined(x.dtype)
        packing = Packing.of(mask, attention_mask, x, self.shape.num_heads) if layers else None
        if packing:
            x, mask = packing.pack(x), packing.mask
        reach: AttentionMask | Reaches = mask
        if self.shape.modernbert is not None:
            head_size = self.shape.hidden_size // self.shape.num_heads
            places = packing.places % length if packing else torch.arange(length, device=x.device)
            reach = reaches(self.shape.modernbert, head_size, length, mask, places)
        for index in layers:
            x = self.layers[index](x, reach, dropout, first_only and index == layers[-1])
        if packing:
            return x[:, None] if first_only else packing.padded(x, length)
        return x[:, :1] if first_only else x

    def layer_list(self) -> list[Layer]:
        """`layers` with its element type, which nn.ModuleList does not carry."""
        return cast(list[Layer], list(self.layers))

    def linears(self) -> list[LoraLinear]:
        """The linear layers of all layers, from the lowest on."""
        return [linear for layer in self.layer_list() for linear in layer.linears()]

    @property
    def first_trained_layer(self) -> int:
        """The lowest layer with parameters; the number of layers where none has any. What is below never changes."""
        layers = self.layer_list()
        return next((index for index, layer in enumerate(layers) if list(layer.parameters())), len(layers))

    def embed(self, input_ids: Tensor, dropout: Dropout | None = None) -> Tensor:
        """What enters layer 0: input_ids int64 [batch, length] -> [batch, length, hidden]."""
        x = F.embedding(input_ids, self.word_embeddings)
        if self.shape.position_rows:
            x = x + self.position_embeddings[self._positions(input_ids)]
        if self.shape.num_token_types:
            x = x + self.token_type_embeddings[0]
        x = dropped(self.embedding_norm(x), self.dropout_rate, dropout)
        return x if self.embedding_projection is None else self.embedding_projection(x)

    def _positions(self, input_ids: Tensor) -> Tensor:
        """Rows of the position table, int64: [batch, length], or [length] where all rows of the batch have the same."""
        if not self.shape.position_offset:
            return torch.arange(input_ids.shape[1], device=input_ids.device)
        # RoBERTa and MPNet count tokens, not places: padding does not move what follows it.
        is_token = input_ids.ne(self.shape.pad_id).long()
        return is_token.cumsum(dim=1) * is_token + self.shape.pad_id

    def _attention_mask(self, attention_mask: Tensor) -> AttentionMask:
        """With MPNet's relative bias, where the family has one."""
        mask = AttentionMask.of(attention_mask)
        if not self.shape.relative_buckets:
            return mask
        length = attention_mask.shape[1]
        buckets = _buckets_on(attention_mask.device, self.shape.max_tokens, self.shape.relative_buckets)
        buckets = buckets[:length, :length]
        bias = self.relative_attention_bias[buckets].permute(2, 0, 1)[None]  # [1, heads, length, length]
        return mask._replace(bias=bias.float().contiguous())

    def add_adapters(self, lora: LoraConfig, generator: torch.Generator | None = None) -> None:
        """Adds LoRA adapters of a resolved rank to the targets of the chosen layers, in the encoder's order."""
        if not lora.rank:
            return
        targets = target_names(lora.targets)
        layers = self.layer_list()
        for index in adapted_layers(lora, self.shape.num_layers):
            for linear in layers[index].linears():
                linear.add_adapters(targets, int(lora.rank), lora.alpha, lora.dropout, generator)

    def open_layers(self, count: int) -> None:
        """Makes every tensor of the last `count` layers a parameter, in fp32: full fine-tuning of those layers."""
        for layer in self.layer_list()[max(0, self.shape.num_layers - count) :] if count else []:
            for module in layer.modules():
                for name, buffer in list(module.named_buffers(recurse=False)):
                    if name == "bias" and not getattr(module, "has_bias", True):
                        continue  # zeros in the place of a bias that the architecture does not have
                    delattr(module, name)
                    module.register_parameter(name, nn.Parameter(buffer.float()))

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Copies a published checkpoint's tensors in, by their published names, with or without the model's prefix.

        Raises BaseModelError naming every tensor that is missing or has another shape. Tensors of a pooler or of a
        pretraining head are left out.
        """
        state = plain_names(state)
        wanted = self.published_tensors()
        problems = [
            f"{name}: {'missing' if name not in state else f'shape {list(state[name].shape)}'}, "
            f"expected {list(ours.shape)}"
            for name, ours in wanted.items()
            if name not in state or state[name].shape != ours.shape
        ]
        if problems:
            shown = "\n  ".join(problems[:8]) + (f"\n  and {len(problems) - 8} more" if len(problems) > 8 else "")
            raise BaseModelError(
                f"the checkpoint does not fit its config.json:\n  {shown}\n"
                "fix: copy config.json and the weights again, both from one folder"
            )
        for name, ours in wanted.items():
            ours.copy_(state[name])

    @torch.no_grad()
    def randomise(self, generator: torch.Generator) -> None:
        """Random weights of the usual size, for tests and benchmarks where no pretrained ones are to be had."""
        for name, ours in self.published_tensors().items():
            if ours.ndim == 2:
                ours.normal_(std=0.02, generator=generator)
            else:
                ours.fill_(1.0 if name.endswith("weight") else 0.0)  # a norm's scale is its only vector of that name

    def published_tensors(self) -> dict[str, Tensor]:
        """Our tensors by their published names, views into ours where several are stored as one."""
        family = self.shape.family
        tensors = {f"{WORD_EMBEDDINGS.get(family, 'embeddings.word_embeddings')}.weight": self.word_embeddings}
        if self.shape.position_rows:
            tensors["embeddings.position_embeddings.weight"] = self.position_embeddings
        tensors |= _tensors_of(self.embedding_norm, EMBEDDING_NORM.get(family, "embeddings.LayerNorm"))
        if self.shape.num_token_types:
            tensors["embeddings.token_type_embeddings.weight"] = self.token_type_embeddings
        if self.shape.relative_buckets:
            tensors["encoder.relative_attention_bias.weight"] = self.relative_attention_bias
        if self.embedding_projection is not None:
            tensors |= _tensors_of(self.embedding_projection, "embeddings_project")
        for index, layer in enumerate(self.layer_list()):
            linear_of = {part: linear for linear in layer.linears() for part in linear.rows}
            for name, parts in layer_modules(family, index).items():
                tensors |= _tensors_of(linear_of[parts[0]], name, parts)
            for own, norm in layer.norms().items():
                is_final = own == FINAL_NORM
                name = FINAL_NORM if is_final else layer_prefix(family, index) + LAYER_KEYS[family][own]
                tensors |= _tensors_of(norm, name)
        return tensors


def _tensors_of(module: LoraLinear | LayerNorm, name: str, parts: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The weight, and the bias if there is one, under a published name; of a linear layer, the rows of some parts."""
    rows = slice(None)
    if isinstance(module, LoraLinear) and parts:
        rows = slice(module.rows[parts[0]][0], module.rows[parts[-1]][1])
    tensors = {f"{name}.weight": module.weight[rows]}
    return tensors | {f"{name}.bias": module.bias[rows]} if module.has_bias else tensors


@lru_cache(maxsize=8)
def _buckets_on(device: torch.device, length: int, num_buckets: int) -> Tensor:
    """`relative_buckets` there, computed once on the CPU: a copy in each pass would make a GPU wait."""
    with torch.inference_mode(False):  # it is kept, also for training
        return relative_buckets(length, num_buckets).to(device)


def relative_buckets(length: int, num_buckets: int, max_distance: int = 128) -> Tensor:
    """Bucket of each (query, key) distance, int64 [length, length]: T5's rule (arXiv:1910.10683), which MPNet uses.

    Half of the buckets are for keys after the query. Within each half, near distances have a bucket each, far ones
    share buckets on a logarithmic scale up to max_distance.
    """
    places = torch.arange(length)
    distance = places[:, None] - places[None, :]  # query minus key
    half = num_buckets // 2
    exact = half // 2
    after = (distance < 0).long() * half
    distance = distance.abs()
    log_scale = torch.log(distance.clamp_min(1).float() / exact) / math.log(max_distance / exact) * (half - exact)
    far = (exact + log_scale.long()).clamp_max(half - 1)
    return after + torch.where(distance < exact, distance, far)
