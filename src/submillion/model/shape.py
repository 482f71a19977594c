"""The shape of a pretrained encoder, its parameter counts, and the shapes that are known by name without any file."""

from dataclasses import dataclass

from submillion.errors import BaseModelError, ConfigError, did_you_mean
from submillion.model.families import COUNTS_FROM_PADDING, ROBERTA_HEAD, STOCK_HEADS, Family, StockHead


@dataclass(frozen=True)
class ModernBertShape:
    """Sizes and settings that only a ModernBERT has."""

    global_layers: tuple[int, ...]  # indices of the layers that attend to all tokens
    window: int  # how many tokens on either side the other layers attend to
    global_theta: float = 160_000.0  # base of the rotations (RoPE) in the layers that attend to all tokens
    local_theta: float = 10_000.0  # base of the rotations in the other layers
    attention_bias: bool = False
    feed_forward_bias: bool = False
    norm_bias: bool = False
    head_bias: bool = False  # of the stock head's dense layer


@dataclass(frozen=True)
class EncoderShape:
    """Sizes of an encoder: all that decides its tensors and its parameter counts."""

    family: Family
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    num_positions: int
    num_token_types: int  # 0: the family has none
    pad_id: int
    layer_norm_eps: float
    relative_buckets: int = 0  # 0: no relative attention bias
    embedding_size: int = 0  # 0: hidden_size; else a linear layer widens the embeddings, as in small ELECTRAs
    modernbert: ModernBertShape | None = None

    @property
    def position_offset(self) -> int:
        """Returns the first token's row in the position table: RoBERTa and MPNet start after the padding id."""
        return self.pad_id + 1 if self.family in COUNTS_FROM_PADDING else 0

    @property
    def position_rows(self) -> int:
        """Returns the number of rows of the position table; 0 if positions are rotations."""
        return 0 if self.modernbert else self.num_positions

    @property
    def max_tokens(self) -> int:
        """Returns the length of the longest row, in tokens, that the encoder has positions for."""
        return self.num_positions - self.position_offset

    def check_length(self, max_length: int, base: str, flag: str) -> None:
        """Raises ConfigError if max_length, in tokens, which the flag sets, is more than the base has positions for."""
        if max_length > self.max_tokens:
            raise ConfigError(
                f"{flag} {max_length}, but {base} places at most {self.max_tokens} tokens\n"
                f"fix: {flag} {self.max_tokens}, or less"
            )

    @property
    def norms_have_bias(self) -> bool:
        return self.modernbert is None or self.modernbert.norm_bias

    @property
    def stock_head(self) -> StockHead:
        """Returns the head of transformers' class for sequence classification."""
        if self.modernbert is None:
            return STOCK_HEADS.get(self.family, ROBERTA_HEAD)
        norm_bias = self.modernbert.norm_bias
        return StockHead("gelu", self.modernbert.head_bias, True, norm_bias, self.layer_norm_eps)

    def _norm_parameters(self, size: int) -> int:
        return 2 * size if self.norms_have_bias else size

    def _has_bias(self, part: str) -> bool:
        if self.modernbert is None:
            return True
        feed_forward = part in ("intermediate", "output")
        return self.modernbert.feed_forward_bias if feed_forward else self.modernbert.attention_bias

    @property
    def layer_parameters(self) -> int:
        """Returns the number of parameters of a layer with two norms."""
        sizes = self.linear_sizes().items()
        linears = sum(size_in * size_out + size_out * self._has_bias(part) for part, (size_in, size_out) in sizes)
        return linears + 2 * self._norm_parameters(self.hidden_size)

    def last_layers_parameters(self, count: int) -> int:
        """Returns the number of parameters of the last `count` layers, or of all if there are fewer."""
        count = min(count, self.num_layers)
        parameters = count * self.layer_parameters
        # ModernBERT's last layer has the encoder's final norm, and its first layer has one norm less.
        carries_final = self.modernbert is not None and 0 < count < self.num_layers
        return parameters + (self._norm_parameters(self.hidden_size) if carries_final else 0)

    @property
    def embedding_parameters(self) -> int:
        rows = self.vocab_size + self.position_rows + self.num_token_types
        size = self.embedding_size or self.hidden_size
        projection = (size + 1) * self.hidden_size if self.embedding_size else 0
        return rows * size + self._norm_parameters(size) + projection + self.relative_buckets * self.num_heads

    @property
    def parameters(self) -> int:
        """Returns the number of parameters of the encoder without any pooler: every one of them is used."""
        return self.embedding_parameters + self.last_layers_parameters(self.num_layers)

    def linear_sizes(self) -> dict[str, tuple[int, int]]:
        """Returns (in_features, out_features) of each linear layer of an encoder layer, by its LoRA target's name."""
        h, i = self.hidden_size, self.intermediate_size
        gates = 2 if self.modernbert else 1
        return {
            "query": (h, h),
            "key": (h, h),
            "value": (h, h),
            "attention_output": (h, h),
            "intermediate": (h, gates * i),
            "output": (i, h),
        }


def _roberta(hidden: int, layers: int, heads: int, vocab: int = 50265) -> EncoderShape:
    return EncoderShape("roberta", vocab, hidden, layers, heads, 4 * hidden, 514, 1, 1, 1e-5)


def _bert(hidden: int, layers: int, heads: int, vocab: int = 30522) -> EncoderShape:
    return EncoderShape("bert", vocab, hidden, layers, heads, 4 * hidden, 512, 2, 0, 1e-12)


def _distilbert(vocab: int) -> EncoderShape:
    return EncoderShape("distilbert", vocab, 768, 6, 12, 3072, 512, 0, 0, 1e-12)


def _electra(hidden: int, layers: int, heads: int, embedding: int = 0) -> EncoderShape:
    return EncoderShape("electra", 30522, hidden, layers, heads, 4 * hidden, 512, 2, 0, 1e-12, 0, embedding)


def _modernbert(hidden: int, layers: int, heads: int, intermediate: int) -> EncoderShape:
    modern = ModernBertShape(tuple(range(0, layers, 3)), 64)
    return EncoderShape(
        "modernbert", 50368, hidden, layers, heads, intermediate, 8192, 0, 50283, 1e-5, modernbert=modern
    )


_MPNET = EncoderShape("mpnet", 30527, 768, 12, 12, 3072, 514, 0, 1, 1e-5, relative_buckets=32)

# By the last part of the hub id, lower case. Enough for `plan` to answer with no file and no network.
KNOWN_SHAPES: dict[str, EncoderShape] = {
    "roberta-base": _roberta(768, 12, 12),
    "roberta-large": _roberta(1024, 24, 16),
    "distilroberta-base": _roberta(768, 6, 12),
    "xlm-roberta-base": _roberta(768, 12, 12, vocab=250002),
    "xlm-roberta-large": _roberta(1024, 24, 16, vocab=250002),
    "camembert-base": _roberta(768, 12, 12, vocab=32005),
    "camembert-large": _roberta(1024, 24, 16, vocab=32005),
    "bert-base-uncased": _bert(768, 12, 12),
    "bert-base-cased": _bert(768, 12, 12, vocab=28996),
    "all-minilm-l6-v2": _bert(384, 6, 12),
    "all-minilm-l12-v2": _bert(384, 12, 12),
    "mpnet-base": _MPNET,
    "all-mpnet-base-v2": _MPNET,
    "distilbert-base-uncased": _distilbert(30522),
    "distilbert-base-cased": _distilbert(28996),
    "distilbert-base-multilingual-cased": _distilbert(119547),
    "electra-small-discriminator": _electra(256, 12, 4, embedding=128),
    "electra-base-discriminator": _electra(768, 12, 12),
    "electra-large-discriminator": _electra(1024, 24, 16),
    "modernbert-base": _modernbert(768, 22, 12, 1152),
    "modernbert-large": _modernbert(1024, 28, 16, 2624),
}


def known_shape(name: str) -> EncoderShape:
    """Returns the shape of a well-known base, by its hub id ('FacebookAI/roberta-base') or the id's last part.

    Raises BaseModelError if the name is not in the table.
    """
    key = name.removeprefix("package:").removeprefix("gt-").split("@")[0].rstrip("/").split("/")[-1].lower()
    if key not in KNOWN_SHAPES:
        raise BaseModelError(
            f"the shape of {name!r} is not known without its config.json{did_you_mean(key, list(KNOWN_SHAPES))}\n"
            f"known: {', '.join(KNOWN_SHAPES)}\nfix: give a local folder that holds the model's config.json"
        )
    return KNOWN_SHAPES[key]
