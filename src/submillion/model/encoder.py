"""The encoder: token ids to hidden states. Its layers are in bert.py and modernbert.py.

    embeddings -> layer norm -> num_layers x (attention -> add, norm -> feed-forward -> add, norm)

Everything here is a buffer and stays as it was loaded: what trains is an AdapterSet, which is passed to `run`. So one
encoder serves several networks. A family has rows in the tables of families.py and some switches in its shape: the
first position, and whether there are token types, a relative bias in attention, and narrower embeddings.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from submillion.errors import BaseModelError
from submillion.model.adapters import AdapterSet, Layer
from submillion.model.attention import AttentionMask, Packing, public_only
from submillion.model.bert import BertLayer
from submillion.model.checkpoint import plain_names
from submillion.model.cpu.dropout import Dropout, dropped
from submillion.model.families import (
    EMBEDDING_NORM,
    FINAL_NORM,
    LAYER_KEYS,
    WORD_EMBEDDINGS,
    layer_modules,
    layer_prefix,
)
from submillion.model.lora import Pass, PretrainedLinear
from submillion.model.modernbert import ModernBertLayer, Reaches, reaches
from submillion.model.norm import LayerNorm
from submillion.model.shape import EncoderShape
from submillion.model.sharing import sharing


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
        self.embedding_projection = (
            PretrainedLinear("embedding_projection", e, {"": shape.hidden_size}) if shape.embedding_size else None
        )
        self.layers = nn.ModuleList(self._layer(index) for index in range(shape.num_layers))

    def _layer(self, index: int) -> Layer:
        if self.shape.modernbert is None:
            return BertLayer(self.shape, self.dropout_rate)
        return ModernBertLayer(self.shape, self.shape.modernbert, index, self.dropout_rate)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, dropout: Dropout | None = None, first_only: bool = False
    ) -> Tensor:
        """Returns hidden states, [batch, length, hidden] in the compute type, by the pretrained weights alone.

        input_ids, attention_mask: int64 [batch, length]; the mask is 1 at tokens and 0 at padding. first_only: the last
        layer computes the first token alone, [batch, 1, hidden], equal to the first token of the whole result. dropout:
        None in evaluation.
        """
        return self.run(self.embed(input_ids, dropout), attention_mask, range(len(self.layers)), dropout, first_only)

    def run(
        self,
        x: Tensor,
        attention_mask: Tensor,
        layers: range,
        dropout: Dropout | None = None,
        first_only: bool = False,
        adapters: AdapterSet | None = None,
        int8: bool = False,
    ) -> Tensor:
        """Returns the last of these layers' output, [batch, length, hidden]; x of the same shape enters the first.

        first_only: returns the first token alone, [batch, 1, hidden]; only for layers that end with the encoder's last
        one, or for none if all layers have run already. adapters: what trains in the layers; None computes with the
        encoder's weights alone. int8: whether products by whole frozen weights are in int8.
        """
        length, mask = attention_mask.shape[1], self._attention_mask(attention_mask)
        if public_only(x):  # once a pass and not once a layer
            mask = mask.joined(x.dtype)
        packing = Packing.of(mask, attention_mask, x, self.shape.num_heads) if layers else None
        if packing:
            x, mask = packing.pack(x), packing.mask
        reach: AttentionMask | Reaches = mask
        if self.shape.modernbert is not None:
            head_size = self.shape.hidden_size // self.shape.num_heads
            places = packing.places % length if packing else torch.arange(length, device=x.device)
            reach = reaches(self.shape.modernbert, head_size, length, mask, places)
        how, pretrained = Pass(dropout, int8=int8), self.layer_list()
        for index in layers:
            layer = pretrained[index]
            if adapters is not None:
                layer, how = adapters.layer(index, layer), how._replace(adapters=adapters.of_layer(index))
            x = layer(x, reach, how, first_only and index == layers[-1])
        if packing:
            return x[:, None] if first_only else packing.padded(x, length)
        return x[:, :1] if first_only else x

    def layer_list(self) -> list[Layer]:
        """Returns `layers` as a list with its element type, which nn.ModuleList lacks."""
        return cast(list[Layer], list(self.layers))

    def linears(self) -> list[PretrainedLinear]:
        """Returns the linear layers of all layers, from the lowest layer to the highest."""
        return [linear for layer in self.layer_list() for linear in layer.linears()]

    def merged(self, adapters: AdapterSet) -> "Encoder":
        """Returns an encoder that computes without adapters what this one computes with them.

        The weights that adapters are added to are new, in the compute type; all other tensors are shared. This encoder
        does not change.
        """
        layers = [adapters.merged_layer(index, layer) for index, layer in enumerate(self.layer_list())]
        return sharing(self, layers=nn.ModuleList(layers))

    def embed(self, input_ids: Tensor, dropout: Dropout | None = None) -> Tensor:
        """Returns the input of layer 0, [batch, length, hidden]; input_ids int64 [batch, length]."""
        x = F.embedding(input_ids, self.word_embeddings)
        if self.shape.position_rows:
            x = x + self.position_embeddings[self._positions(input_ids)]
        if self.shape.num_token_types:
            x = x + self.token_type_embeddings[0]
        x = dropped(self.embedding_norm(x), self.dropout_rate, dropout)
        return x if self.embedding_projection is None else self.embedding_projection(x)

    def _positions(self, input_ids: Tensor) -> Tensor:
        """Returns row indices of the position table, int64 [batch, length], or [length] if all rows have the same."""
        if not self.shape.position_offset:
            return torch.arange(input_ids.shape[1], device=input_ids.device)
        # RoBERTa and MPNet count tokens, not places: padding does not move what follows it.
        is_token = input_ids.ne(self.shape.pad_id).long()
        return is_token.cumsum(dim=1) * is_token + self.shape.pad_id

    def _attention_mask(self, attention_mask: Tensor) -> AttentionMask:
        """Returns the mask of attention_mask, int64 [batch, length], with a relative bias if the family has one."""
        mask = AttentionMask.of(attention_mask)
        if not self.shape.relative_buckets:
            return mask
        length = attention_mask.shape[1]
        buckets = _buckets_on(attention_mask.device, self.shape.max_tokens, self.shape.relative_buckets)
        buckets = buckets[:length, :length]
        bias = self.relative_attention_bias[buckets].permute(2, 0, 1)[None]  # [1, heads, length, length]
        return mask._replace(bias=bias.float().contiguous())

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Copies a published checkpoint's tensors in, by their published names, with or without the model's prefix.

        `TextClassifier.load` calls this, and sets unfrozen layers too. Tensors of a pooler or of a pretraining head are
        left out. Raises BaseModelError, naming the tensors, if any is missing or has another shape.
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
        """Draws random weights of the usual size, for tests and benchmarks without pretrained ones."""
        for name, ours in self.published_tensors().items():
            if ours.ndim == 2:
                ours.normal_(std=0.02, generator=generator)
            else:
                ours.fill_(1.0 if name.endswith("weight") else 0.0)  # a norm's scale is its only vector of that name

    def published_tensors(self) -> dict[str, Tensor]:
        """Returns our tensors by their published names; views, if several are stored as one."""
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
            for key, norm in layer.norms().items():
                is_final = key == FINAL_NORM
                name = FINAL_NORM if is_final else layer_prefix(family, index) + LAYER_KEYS[family][key]
                tensors |= _tensors_of(norm, name)
        return tensors


def _tensors_of(module: PretrainedLinear | LayerNorm, name: str, parts: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Returns the weight, and the bias if there is one, by published names; with `parts`, their rows alone."""
    rows = slice(None)
    if isinstance(module, PretrainedLinear) and parts:
        rows = slice(module.rows[parts[0]][0], module.rows[parts[-1]][1])
    tensors = {f"{name}.weight": module.weight[rows]}
    return tensors | {f"{name}.bias": module.bias[rows]} if module.has_bias else tensors


@lru_cache(maxsize=8)
def _buckets_on(device: torch.device, length: int, num_buckets: int) -> Tensor:
    """Returns `relative_buckets` on the device, copied there once: a copy in each pass would make a GPU wait."""
    with torch.inference_mode(False):  # it is kept, also for training
        return relative_buckets(length, num_buckets).to(device)


def relative_buckets(length: int, num_buckets: int, max_distance: int = 128) -> Tensor:
    """Returns the bucket of each (query, key) distance, int64 [length, length], by T5's rule (arXiv:1910.10683).

    Half of the buckets are for keys after the query. Within each half, each near distance has its own bucket, and far
    ones share buckets on a logarithmic scale up to max_distance.
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
