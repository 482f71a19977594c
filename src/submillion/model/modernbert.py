"""ModernBERT's layer (Warner et al., 2024, arXiv:2412.13663).

    x -> x + attention(norm(x)) -> x + feed-forward(norm(x))

Norms come first and nothing has a bias unless the configuration says so. Positions are rotations of queries and keys
(RoPE, Su et al., 2021, arXiv:2104.09864). Most layers attend only to near tokens, every third to all tokens; each kind
has its own base of the rotations. The feed-forward is gated: Wo(gelu(a) * b), where a and b are the halves of Wi(x).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from submillion.model.attention import PADDING_BIAS, AttentionMask, attend
from submillion.model.cpu.dropout import dropped
from submillion.model.cpu.functional import gelu
from submillion.model.lora import Pass, PretrainedLinear
from submillion.model.norm import LayerNorm
from submillion.model.shape import EncoderShape, ModernBertShape


class Reach(NamedTuple):
    """What attention in a layer depends on beside the hidden states."""

    mask: AttentionMask
    cos: Tensor  # fp32 [length, head], or [tokens, head] if hidden states are packed
    sin: Tensor  # of the same shape, the first half negated


class Reaches(NamedTuple):
    near: Reach  # of the layers that attend to near tokens
    everywhere: Reach  # of the layers that attend to all tokens


def reaches(shape: ModernBertShape, head_size: int, length: int, mask: AttentionMask, places: Tensor) -> Reaches:
    """Returns what attention in each kind of layer depends on, for rows of `length` tokens.

    places: the position of each token in its row, int64 [length]; for packed rows, [tokens].
    """
    near = mask
    if torch.compiler.is_exporting() or length > shape.window + 1:  # an exported graph takes rows of any length
        each = torch.arange(length, device=places.device)
        is_far = (each[:, None] - each[None, :]).abs() > shape.window
        far = is_far[None, None].float() * PADDING_BIAS  # [1, 1, length, length]
        near = mask._replace(bias=far if mask.bias is None else mask.bias + far.to(mask.bias.dtype))
    return Reaches(
        Reach(near, *rotations(places, head_size, shape.local_theta)),
        Reach(mask, *rotations(places, head_size, shape.global_theta)),
    )


def rotations(places: Tensor, head_size: int, theta: float) -> tuple[Tensor, Tensor]:
    """Returns the cosine and the signed sine of each place's angles, fp32 [places, head].

    places: int64 [places]. Dimension i turns with dimension i + head / 2.
    """
    frequencies = 1.0 / theta ** (torch.arange(0, head_size, 2, device=places.device).float() / head_size)
    angles = places.float()[:, None] * frequencies  # [places, head / 2]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), dim=1), torch.cat((-sin, sin), dim=1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns each head of x [..., places, hidden] by its place's angles, in fp32; returns it in x's dtype."""
    head_size = cos.shape[1]
    heads = x.unflatten(-1, (-1, head_size))  # [..., places, heads, head]
    turned = heads * cos[:, None] + heads.roll(head_size // 2, dims=-1) * sin[:, None]
    return turned.flatten(-2).to(x.dtype)


class ModernBertLayer(nn.Module):
    """One layer of the encoder. The first has no norm before its attention; the last one has the final norm."""

    def __init__(self, shape: EncoderShape, modern: ModernBertShape, index: int, dropout_rate: float) -> None:
        super().__init__()
        h, i = shape.hidden_size, shape.intermediate_size
        self.num_heads = shape.num_heads
        self.dropout_rate = dropout_rate
        self.is_global = index in modern.global_layers
        self.attention_norm = self._norm(shape, modern) if index else None
        heads = {"query": h, "key": h, "value": h}
        self.attention_input = PretrainedLinear("attention_input", h, heads, modern.attention_bias)
        self.attention_output = PretrainedLinear("attention_output", h, {"attention_output": h}, modern.attention_bias)
        self.output_norm = self._norm(shape, modern)
        self.intermediate = PretrainedLinear("intermediate", h, {"intermediate": 2 * i}, modern.feed_forward_bias)
        self.output = PretrainedLinear("output", i, {"output": h}, modern.feed_forward_bias)
        self.final_norm = self._norm(shape, modern) if index == shape.num_layers - 1 else None

    @staticmethod
    def _norm(shape: EncoderShape, modern: ModernBertShape) -> LayerNorm:
        return LayerNorm(shape.hidden_size, shape.layer_norm_eps, modern.norm_bias)

    def forward(self, x: Tensor, reaches: Reaches, how: Pass, first_only: bool = False) -> Tensor:
        """Returns hidden states of the shape of x, [batch, length, hidden]; if packed, [tokens, hidden].

        first_only: returns the first token's alone, [batch, 1, hidden]; if packed, [batch, hidden].
        """
        rate, dropout = self.dropout_rate, how.dropout
        mask, cos, sin = reaches.everywhere if self.is_global else reaches.near
        normed = x if self.attention_norm is None else self.attention_norm(x)
        if first_only:
            query = self.attention_input(mask.first_tokens(normed), how, ["query"])
            key, value = self.attention_input(normed, how, ["key", "value"]).chunk(2, dim=-1)
            query = rotate(query, cos[:1], sin[:1])  # the first place's
            x, mask = mask.first_tokens(x), mask.of_first_query()
        else:
            query, key, value = self.attention_input(normed, how).chunk(3, dim=-1)
            query = rotate(query, cos, sin)
        context = attend((query, rotate(key, cos, sin), value), self.num_heads, mask, rate, dropout)
        x = x + dropped(self.attention_output(context, how), rate, dropout)
        hidden, gate = self.intermediate(self.output_norm(x), how).chunk(2, dim=-1)
        x = x + dropped(self.output(gelu(hidden) * gate, how), rate, dropout)
        return x if self.final_norm is None else self.final_norm(x)

    def linears(self) -> list[PretrainedLinear]:
        return [self.attention_input, self.attention_output, self.intermediate, self.output]

    def norms(self) -> dict[str, LayerNorm]:
        named = {"attention_norm": self.attention_norm, "output_norm": self.output_norm, "final_norm": self.final_norm}
        return {name: norm for name, norm in named.items() if norm is not None}
