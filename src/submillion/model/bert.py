"""BERT's layer (Devlin et al., 2018, arXiv:1810.04805), which RoBERTa, MPNet, DistilBERT and ELECTRA have too.

x -> norm(x + attention(x)) -> norm(x + feed-forward(x))
"""

from torch import Tensor, nn

from submillion.model.attention import AttentionMask, attend
from submillion.model.lora import Pass, PretrainedLinear
from submillion.model.norm import LayerNorm
from submillion.model.shape import EncoderShape


class BertLayer(nn.Module):
    """One layer of the encoder; a norm comes last in both of its halves."""

    def __init__(self, shape: EncoderShape, dropout_rate: float) -> None:
        super().__init__()
        h, i = shape.hidden_size, shape.intermediate_size
        self.num_heads = shape.num_heads
        self.dropout_rate = dropout_rate
        self.attention_input = PretrainedLinear("attention_input", h, {"query": h, "key": h, "value": h})
        self.attention_output = PretrainedLinear("attention_output", h, {"attention_output": h})
        self.attention_norm = LayerNorm(h, shape.layer_norm_eps)
        self.intermediate = PretrainedLinear("intermediate", h, {"intermediate": i})
        self.output = PretrainedLinear("output", i, {"output": h})
        self.output_norm = LayerNorm(h, shape.layer_norm_eps)

    def forward(self, x: Tensor, mask: AttentionMask, how: Pass, first_only: bool = False) -> Tensor:
        """Returns hidden states of the shape of x, [batch, length, hidden]; if packed, [tokens, hidden].

        first_only: returns the first token's alone, [batch, 1, hidden]; if packed, [batch, hidden].
        """
        rate, dropout = self.dropout_rate, how.dropout
        if first_only:
            first = mask.first_tokens(x)
            parts = [self.attention_input(first, how, ["query"])]
            parts += [self.attention_input(x, how, ["key", "value"])]
            x, mask = first, mask.of_first_query()
        else:
            parts = [self.attention_input(x, how)]
        context = attend(parts, self.num_heads, mask, rate, dropout)
        x = self.attention_norm.add(self.attention_output(context, how), x, rate, dropout)
        hidden = self.intermediate(x, how, then_gelu=True)
        return self.output_norm.add(self.output(hidden, how), x, rate, dropout)

    def linears(self) -> list[PretrainedLinear]:
        return [self.attention_input, self.attention_output, self.intermediate, self.output]

    def norms(self) -> dict[str, LayerNorm]:
        return {"attention_norm": self.attention_norm, "output_norm": self.output_norm}
