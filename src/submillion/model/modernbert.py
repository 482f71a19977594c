"""ModernBERT's layer (Warner et al., 2024, arXiv:2412.13663).

    x -> x + attention(norm(x)) -> x + feed-forward(norm(x))

Norms come first and nothing has a bias unless the configuration says so. Positions are rotations of queries and keys
(RoPE, Su et al., 2021, arXiv:2104.09864). Most layers attend only to near tokens, every third to all of them, with a
base of the rotations of their own. The feed-forward is gated: Wo(gelu(a) * b), a and b the two halves of Wi(x).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from submillion.model.attention import PADDING_BIAS, AttentionMask, attend
from submillion.model.functional import Dropout, dropped, gelu
from submillion.model.lora import LoraLinear
from submillion.model.norm import LayerNorm
from submillion.model.shape import EncoderShape, ModernBertShape


class Reach(NamedTuple):
    """What attention in a layer depends on beside the hidden states."""

    mask: AttentionMask
    cos: Tensor  # fp32 [length, head], or [tokens, head] where hidden states are packed
    sin: Tensor  # of the same shape, the first half negated


class Reaches(NamedTuple):
    near: Reach  # of the layers that attend to near tokens
    everywhere: Reach  # of those that attend to all


def reaches(shape: ModernBertShape, head_size: int, length: int, mask: AttentionMask, places: Tensor) -> Reaches:
    """Of rows of `length` tokens. places: of each token in its row, int64 [length], or [tokens] of packed rows."""
    near = mask
    if length > shape.window + 1:
        each = torch.arange(length, device=places.device)
        is_far = (each[:, None] - each[None, :]).abs() > shape.window
        far = is_far[None, None].float() * PADDING_BIAS  # [1, 1, length, length]
        near = mask._replace(bias=far if mask.bias is None else mask.bias + far.to(mask.bias.dtype))
    return Reaches(
        Reach(near, *rotations(places, head_size, shape.local_theta)),
        Reach(mask, *rotations(places, head_size, shape.global_theta)),
    )


def rotations(places: Tensor, head_size: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and signed sine of each place's angles, fp32 [places, head]: dimension i turns with i + head / 2."""
    frequencies = 1.0 / theta ** (torch.arange(0, head_size, 2, device=places.device).float() / head_size)
    angles = places.float()[:, None] * frequencies  # [places, head / 2]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), dim=1), torch.cat((-sin, sin), dim=1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [..., places, hidden], each head of it turned by its place's angles, in fp32; back in x's dtype."""
    head_size = cos.shape[1]
    heads = x.unflatten(-1, (-1, head_size))  # [..., places, heads, head]
    turned = heads * cos[:, None] + heads.roll(head_size // 2, dims=-1) * sin[:, None]
    return turned.flatten(-2).to(x.dtype)


class ModernBertLayer(nn.Module):
    """One layer; the first has no norm before its attention, the last carries the encoder's final norm."""

    def __init__(self, shape: EncoderShape, modern: ModernBertShape, index: int, dropout_rate: float) -> None:
        super().__init__()
        h, i = shape.hidden_size, shape.intermediate_size
        self.num_heads = shape.num_heads
        self.dropout_rate = dropout_rate
        self.is_global = index in modern.global_layers
        self.attention_norm = self._norm(shape, modern) if index else None
        self.attention_input = LoraLinear(h, {"query": h, "key": h, "value": h}, modern.attention_bias)
        self.attention_output = LoraLinear(h, {"attention_output": h}, modern.attention_bias)
        self.output_norm = self._norm(shape, modern)
        self.intermediate = LoraLinear(h, {"intermediate": 2 * i}, modern.feed_forward_bias)
        self.output = LoraLinear(i, {"output": h}, modern.feed_forward_bias)
        self.final_norm = self._norm(shape, modern) if index == shape.num_layers - 1 else None

    @staticmethod
    def _norm(shape: EncoderShape, modern: ModernBertShape) -> LayerNorm:
        return LayerNorm(shape.hidden_size, shape.layer_norm_eps, modern.norm_bias)

    def forward(self, x: Tensor, reaches: Reaches, dropout: Dropout | None, first_only: bool = False) -> Tensor:
        """x [batch, length, hidden] -> the same shape, or [batch, 1, hidden]: the first token's row alone.

        Packed: [tokens, hidden] -> the same shape, or [batch, hidden].
        """
        mask, cos, sin = reaches.everywhere if self.is_global else reaches.near
        normed = x if self.attention_norm is None else self.attention_norm(x)
        if first_only:
            query = self.attention_input(mask.first_tokens(normed), dropout, ["query"])
            key, value = self.attention_input(normed, dropout, ["key", "value"]).chunk(2, dim=-1)
            query = rotate(query, cos[:1], sin[:1])  # the first place's
            x, mask = mask.first_tokens(x), mask.of_first_query()
        else:
            query, key, value = self.attention_input(normed, dropout).chunk(3, dim=-1)
            query = rotate(query, cos, sin)
        context = attend((query, rotate(key, cos, sin), value), self.num_heads, mask, self.dropout_rate, dropout)
        x = x + dropped(self.attention_output(context, dropout), self.dropout_rate, dropout)
        hidden, gate = self.intermediate(self.output_norm(x), dropout).chunk(2, dim=-1)
        x = x + dropped(self.output(gelu(hidden) * gate, dropout), self.dropout_rate, dropout)
        return x if self.final_norm is None else self.final_norm(x)

    def linears(self) -> list[LoraLinear]:
        return [self.attention_input, self.attention_output, self.intermediate, self.output]

    def norms(self) -> dict[str, LayerNorm]:
        named = {"attention_norm": self.attention_norm, "output_norm": self.output_norm, "final_norm": self.final_norm}
        return {name: norm for name, norm in named.items() if norm is not None}
