"""The encoder: token ids to hidden states, for the post-layer-norm family BERT, RoBERTa and MPNet.

    embeddings -> layer norm -> num_layers x (attention -> add, norm -> feed-forward -> add, norm)

Everything pretrained is a buffer, so nothing pretrained gets a gradient unless `open_layers` turns a layer's tensors
into parameters. A family is its table of key names and three switches in its shape: where positions start, whether
there are token types, whether attention has a relative bias.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from submillion.config import LoraConfig
from submillion.errors import BaseModelError
from submillion.model.base import WEIGHTS_FILES
from submillion.model.budget import adapted_layers, target_names
from submillion.model.functional import add_norm, attention
from submillion.model.lora import Dropout, LoraLinear
from submillion.model.shape import EncoderShape

# Our module -> the published checkpoints' name within an encoder layer.
_BERT_KEYS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
}
_MPNET_KEYS = _BERT_KEYS | {
    "query": "attention.attn.q",
    "key": "attention.attn.k",
    "value": "attention.attn.v",
    "attention_output": "attention.attn.o",
    "attention_norm": "attention.LayerNorm",
}
PADDING_BIAS = -1e30  # a weight of exactly 0, and still finite when a score or another bias is added
LAYER_KEYS = {"bert": _BERT_KEYS, "roberta": _BERT_KEYS, "mpnet": _MPNET_KEYS}


class LayerNorm(nn.Module):
    """Layer norm with frozen scale and shift, which stay in fp32: so do the statistics kept for the gradient."""

    weight: Tensor
    bias: Tensor

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(size))
        self.register_buffer("bias", torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)

    def add(self, x: Tensor, residual: Tensor, keep: Tensor | None) -> Tensor:
        """The norm of residual + keep * x, all [..., hidden]; keep is a dropout mask."""
        return add_norm(x, residual, self.weight, self.bias, self.eps, keep)


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

    def forward(self, x: Tensor, bias: Tensor | None, dropout: Dropout | None, first_only: bool = False) -> Tensor:
        """x [batch, length, hidden] -> the same shape, or [batch, 1, hidden]: the first token's row alone.

        bias, added to the attention scores, broadcasts to [batch, heads, length, length].
        """
        if first_only:
            query = self.attention_input(x[:, :1], dropout, ["query"])
            key, value = self.attention_input(x, dropout, ["key", "value"]).chunk(2, dim=-1)
            x = x[:, :1]
            if bias is not None and bias.shape[2] > 1:
                bias = bias[:, :, :1]
        else:
            query, key, value = self.attention_input(x, dropout).chunk(3, dim=-1)
        context = self._attention(query, key, value, bias, dropout)
        y = self.attention_output(context, dropout)
        x = self.attention_norm.add(y, x, dropout(y.shape, self.dropout_rate, y) if dropout else None)
        hidden = F.gelu(self.intermediate(x, dropout))
        y = self.output(hidden, dropout)
        return self.output_norm.add(y, x, dropout(y.shape, self.dropout_rate, y) if dropout else None)

    def _attention(
        self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: Dropout | None
    ) -> Tensor:
        """query [batch, queries, hidden], key and value [batch, length, hidden] -> [batch, queries, hidden]."""
        if not query.is_cuda:
            # Written out: on a CPU the fused kernel's backward takes as long as the rest of the step for short rows.
            shape = (len(query) * self.num_heads, query.shape[1], key.shape[1])
            keep = dropout(shape, self.dropout_rate, query) if dropout else None
            return attention(query, key, value, self.num_heads, bias, keep)
        query, key, value = (  # [batch, heads, length, head]
            x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (query, key, value)
        )
        rate = self.dropout_rate if dropout else 0.0
        bias = None if bias is None else bias.to(query.dtype)
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=rate)
        return context.transpose(1, 2).flatten(2)

    def linears(self) -> list[LoraLinear]:
        return [self.attention_input, self.attention_output, self.intermediate, self.output]


class Encoder(nn.Module):
    """A pretrained encoder with the dimensions of `shape`, its weights zero until `load` or `randomise`."""

    position_embeddings: Tensor
    word_embeddings: Tensor
    token_type_embeddings: Tensor
    relative_attention_bias: Tensor

    def __init__(self, shape: EncoderShape, dropout_rate: float = 0.1) -> None:
        super().__init__()
        h = shape.hidden_size
        self.shape = shape
        self.dropout_rate = dropout_rate
        self.register_buffer("word_embeddings", torch.zeros(shape.vocab_size, h))
        self.register_buffer("position_embeddings", torch.zeros(shape.num_positions, h))
        self.register_buffer("token_type_embeddings", torch.zeros(shape.num_token_types, h))
        self.register_buffer("relative_attention_bias", torch.zeros(shape.relative_buckets, shape.num_heads))
        self.embedding_norm = LayerNorm(h, shape.layer_norm_eps)
        self.layers = nn.ModuleList(EncoderLayer(shape, dropout_rate) for _ in range(shape.num_layers))

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
        bias = self._attention_bias(attention_mask)
        for index in layers:
            x = self.layers[index](x, bias, dropout, first_only and index == layers[-1])
        return x[:, :1] if first_only else x

    def layer_list(self) -> list[EncoderLayer]:
        """`layers` with its element type, which nn.ModuleList does not carry."""
        return cast(list[EncoderLayer], list(self.layers))

    @property
    def first_trained_layer(self) -> int:
        """The lowest layer with parameters; the number of layers where none has any. What is below never changes."""
        layers = self.layer_list()
        return next((index for index, layer in enumerate(layers) if list(layer.parameters())), len(layers))

    def embed(self, input_ids: Tensor, dropout: Dropout | None = None) -> Tensor:
        """What enters layer 0: input_ids int64 [batch, length] -> [batch, length, hidden]."""
        if self.shape.position_offset:
            # RoBERTa and MPNet count tokens, not places: padding does not move what follows it.
            is_token = input_ids.ne(self.shape.pad_id).long()
            positions = is_token.cumsum(dim=1) * is_token + self.shape.pad_id
        else:
            positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = F.embedding(input_ids, self.word_embeddings) + self.position_embeddings[positions]
        if self.shape.num_token_types:
            x = x + self.token_type_embeddings[0]
        x = self.embedding_norm(x)
        keep = dropout(x.shape, self.dropout_rate, x) if dropout else None
        return x if keep is None else x * keep

    def _attention_bias(self, attention_mask: Tensor) -> Tensor | None:
        """Added to attention scores, fp32: a very low number at padding, MPNet's relative bias. None where all zero."""
        bias = None
        if not attention_mask.all():
            bias = (attention_mask == 0)[:, None, None].float() * PADDING_BIAS  # [batch, 1, 1, length]
        if self.shape.relative_buckets:
            length = attention_mask.shape[1]
            buckets = relative_buckets(length, self.shape.relative_buckets).to(attention_mask.device)
            relative = (
                self.relative_attention_bias[buckets].permute(2, 0, 1)[None].float()
            )  # [1, heads, length, length]
            bias = relative if bias is None else relative + bias
        return bias

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
                    delattr(module, name)
                    module.register_parameter(name, nn.Parameter(buffer.float()))

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Copies a published checkpoint's tensors in, by their published names, with or without the model's prefix.

        Raises BaseModelError naming every tensor that is missing or has another shape. Tensors of a pooler or of a
        pretraining head are left out.
        """
        state = _plain_names(state)
        wanted = self.published_tensors()
        problems = [
            f"{name}: {'missing' if name not in state else f'shape {list(state[name].shape)}'}, "
            f"expected {list(ours.shape)}"
            for name, ours in wanted.items()
            if name not in state or state[name].shape != ours.shape
        ]
        if problems:
            shown = "\n  ".join(problems[:8]) + (f"\n  and {len(problems) - 8} more" if len(problems) > 8 else "")
            raise BaseModelError(f"the checkpoint does not fit its config.json:\n  {shown}")
        for name, ours in wanted.items():
            ours.copy_(state[name])

    @torch.no_grad()
    def randomise(self, generator: torch.Generator) -> None:
        """Random weights of the usual size, for tests and benchmarks where no pretrained ones are to be had."""
        for name, ours in self.published_tensors().items():
            if ours.ndim == 2:
                ours.normal_(std=0.02, generator=generator)
            else:
                ours.fill_(1.0 if name.endswith("LayerNorm.weight") else 0.0)

    def published_tensors(self) -> dict[str, Tensor]:
        """Our tensors by their published names, views into ours where several are stored as one."""
        tensors = {
            "embeddings.word_embeddings.weight": self.word_embeddings,
            "embeddings.position_embeddings.weight": self.position_embeddings,
            "embeddings.LayerNorm.weight": self.embedding_norm.weight,
            "embeddings.LayerNorm.bias": self.embedding_norm.bias,
        }
        if self.shape.num_token_types:
            tensors["embeddings.token_type_embeddings.weight"] = self.token_type_embeddings
        if self.shape.relative_buckets:
            tensors["encoder.relative_attention_bias.weight"] = self.relative_attention_bias
        keys = LAYER_KEYS[self.shape.family]
        for index, layer in enumerate(self.layer_list()):
            prefix = f"encoder.layer.{index}."
            for linear in layer.linears():
                for part, (start, end) in linear.rows.items():
                    tensors[f"{prefix}{keys[part]}.weight"] = linear.weight[start:end]
                    tensors[f"{prefix}{keys[part]}.bias"] = linear.bias[start:end]
            for norm in ("attention_norm", "output_norm"):
                for kind in ("weight", "bias"):
                    tensors[f"{prefix}{keys[norm]}.{kind}"] = getattr(getattr(layer, norm), kind)
        return tensors


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


def read_checkpoint(folder: Path) -> dict[str, Tensor]:
    """The tensors of folder/model.safetensors, or of pytorch_model.bin (weights only: no code in it can run).

    Raises BaseModelError where neither is there or readable.
    """
    safe, binary = (folder / name for name in WEIGHTS_FILES)
    try:
        if safe.is_file():
            from safetensors.torch import load_file

            return load_file(safe)
        if binary.is_file():
            state = torch.load(binary, map_location="cpu", weights_only=True)
            if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
                raise TypeError(f"expected a dict of named tensors, found {type(state).__name__}")
            return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    except Exception as error:  # cut or altered files fail in many ways inside both libraries
        raise BaseModelError(f"the weights in {folder} cannot be read: {error}") from error
    raise BaseModelError(f"{folder} holds neither {' nor '.join(WEIGHTS_FILES)}")


def _plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the model's prefix ('bert.', 'roberta.', ...), old layer-norm names made new."""
    embeddings: Sequence[str] = [name for name in state if name.endswith("embeddings.word_embeddings.weight")]
    prefix = embeddings[0].removesuffix("embeddings.word_embeddings.weight") if embeddings else ""
    return {
        name.removeprefix(prefix)
        .replace("LayerNorm.gamma", "LayerNorm.weight")
        .replace("LayerNorm.beta", "LayerNorm.bias"): tensor
        for name, tensor in state.items()
    }
