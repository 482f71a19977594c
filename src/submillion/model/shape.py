"""The shape of a pretrained encoder: read from its config.json, or known by name without any file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submillion.errors import BaseModelError, ConfigError, did_you_mean
from submillion.model.families import (
    CONFIG_KEYS,
    COUNTS_FROM_PADDING,
    DEFAULT_NORM_EPS,
    DEFAULT_PAD_ID,
    FAMILY_OF_TYPE,
    ROBERTA_HEAD,
    STOCK_HEADS,
    Family,
    StockHead,
)


@dataclass(frozen=True)
class ModernBertShape:
    """What ModernBERT has beside what every encoder has."""

    global_layers: tuple[int, ...]  # those that attend to all tokens
    window: int  # the others attend to so many tokens on either side
    global_theta: float = 160_000.0  # base of the rotations (RoPE) in the layers that attend to all
    local_theta: float = 10_000.0  # and in the others
    attention_bias: bool = False
    feed_forward_bias: bool = False
    norm_bias: bool = False
    head_bias: bool = False  # of the stock head's dense layer


@dataclass(frozen=True)
class EncoderShape:
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
        """Row of the position table that the first token takes: RoBERTa and MPNet count on from the padding id."""
        return self.pad_id + 1 if self.family in COUNTS_FROM_PADDING else 0

    @property
    def position_rows(self) -> int:
        """Rows of the position table; 0 where positions are rotations."""
        return 0 if self.modernbert else self.num_positions

    @property
    def max_tokens(self) -> int:
        """Longest row, in tokens, that the position table can place."""
        return self.num_positions - self.position_offset

    def check_length(self, max_length: int, base: str, flag: str) -> None:
        """Raises ConfigError where rows of max_length tokens, given by the flag, are longer than the base can place."""
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
        """The head of transformers' class for sequence classification."""
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
        """Of a layer with two norms."""
        sizes = self.linear_sizes().items()
        linears = sum(size_in * size_out + size_out * self._has_bias(part) for part, (size_in, size_out) in sizes)
        return linears + 2 * self._norm_parameters(self.hidden_size)

    def opened_parameters(self, count: int) -> int:
        """Parameters of the last `count` layers, or of all where there are no more."""
        count = min(count, self.num_layers)
        parameters = count * self.layer_parameters
        # ModernBERT's last layer carries the encoder's final norm, and its first lacks one of its own.
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
        """Parameters of the encoder without any pooler: every one of them is used."""
        return self.embedding_parameters + self.opened_parameters(self.num_layers)

    def linear_sizes(self) -> dict[str, tuple[int, int]]:
        """(in_features, out_features) of each linear layer in an encoder layer, by the name LoRA targets use."""
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
    """The shape of a well-known base, by hub id ('FacebookAI/roberta-base') or its last part.

    Raises BaseModelError where the name is not in the table.
    """
    key = name.removeprefix("package:").removeprefix("gt-").split("@")[0].rstrip("/").split("/")[-1].lower()
    if key not in KNOWN_SHAPES:
        raise BaseModelError(
            f"the shape of {name!r} is not known without its config.json{did_you_mean(key, list(KNOWN_SHAPES))}\n"
            f"known: {', '.join(KNOWN_SHAPES)}\nfix: give a local folder that holds the model's config.json"
        )
    return KNOWN_SHAPES[key]


def read_shape(folder: Path) -> EncoderShape:
    """The shape that folder/config.json describes. Raises BaseModelError where we could not run it faithfully."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
        kind = config.get("model_type")
    except FileNotFoundError:
        raise BaseModelError(
            f"{folder} holds no config.json, so it is no pretrained model's folder\n"
            "fix: give the folder that holds config.json and the weights"
        ) from None
    except (ValueError, AttributeError, RecursionError) as error:
        raise BaseModelError(f"{path} is not the JSON object of a model's configuration: {error}") from None
    family = FAMILY_OF_TYPE.get(kind) if isinstance(kind, str) else None
    if family is None:
        supported = ", ".join(sorted(FAMILY_OF_TYPE))
        raise BaseModelError(
            f"{path}: model_type {kind!r} is not supported\nsupported: {supported}\n"
            f"fix: take a base of one of these, such as {', '.join(_SUGGESTED)}"
        )
    _refuse_variants(config, family, path)
    try:
        shape = _shape_of(config, family, path)
    except KeyError as error:
        raise BaseModelError(
            f"{path} lacks the key {error}, which a {kind} model needs\nfix: copy the file again, or have transformers "
            "write it: AutoConfig.from_pretrained(DIR).save_pretrained(DIR)"
        ) from None
    except (TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise BaseModelError(f"{path} holds a value of a wrong kind: {error}\nfix: copy the file again") from None
    return shape


_SUGGESTED = ("roberta-base", "xlm-roberta-base", "distilbert-base-uncased", "answerdotai/ModernBERT-base")


def _shape_of(config: dict[str, Any], family: Family, path: Path) -> EncoderShape:
    """Raises KeyError where a key is lacking, BaseModelError where a value makes no sense."""
    keys = CONFIG_KEYS.get(family, {})

    def number(key: str, least: int = 1) -> int:
        """Reads a key by the family's own name for it, or by BERT's, as transformers does."""
        name = key if keys.get(key, key) not in config and key in config else keys.get(key, key)
        return _whole_number(config, name, least, path)

    hidden_size, num_heads = number("hidden_size"), number("num_attention_heads")
    times = 2 if family == "modernbert" else 1  # rotations take the dimensions of a head in pairs
    if hidden_size % (times * num_heads):
        multiple = "twice num_attention_heads" if times == 2 else "num_attention_heads"
        wrong = f"hidden_size {hidden_size} is no multiple of {multiple} {times * num_heads}"
        raise BaseModelError(f"{path} describes no model that could be built: {wrong}")
    num_layers = number("num_hidden_layers")
    embedding_size = number("embedding_size") if family == "electra" else hidden_size
    has_token_types = family in ("bert", "roberta", "electra")
    return EncoderShape(
        family=family,
        vocab_size=number("vocab_size"),
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=num_heads,
        intermediate_size=number("intermediate_size"),
        num_positions=number("max_position_embeddings"),
        num_token_types=(number("type_vocab_size", least=0) if "type_vocab_size" in config else 2)
        if has_token_types
        else 0,
        pad_id=_pad_id(config, family, path),
        layer_norm_eps=_norm_eps(config, family, path),
        relative_buckets=config.get("relative_attention_num_buckets", 32) if family == "mpnet" else 0,
        embedding_size=0 if embedding_size == hidden_size else embedding_size,
        modernbert=_modernbert_shape(config, num_layers, path) if family == "modernbert" else None,
    )


def _whole_number(config: dict[str, Any], name: str, least: int, path: Path) -> int:
    """Raises KeyError where the key is lacking, BaseModelError for any other value."""
    value = config[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        wrong = f"{name} = {value!r} (expected a whole number, at least {least})"
        raise BaseModelError(f"{path} describes no model that could be built: {wrong}\nfix: copy the file again")
    return value


def _pad_id(config: dict[str, Any], family: Family, path: Path) -> int:
    """Returns the id of padding, from which RoBERTa and MPNet count their positions on."""
    if family == "mpnet":
        return DEFAULT_PAD_ID[family]  # transformers counts from this one, whatever the file says
    if config.get("pad_token_id") is None and "pad_token_id" in config and family not in COUNTS_FROM_PADDING:
        return 0  # no id is padding: then any does, for nothing attends to it
    if "pad_token_id" not in config:
        return DEFAULT_PAD_ID.get(family, 0)
    return _whole_number(config, "pad_token_id", 0, path)


def _norm_eps(config: dict[str, Any], family: Family, path: Path) -> float:
    default = DEFAULT_NORM_EPS.get(family, 1e-12)
    if family == "distilbert":
        return default  # its configuration has no such key, and transformers reads none
    name = CONFIG_KEYS.get(family, {}).get("layer_norm_eps", "layer_norm_eps")
    value = config.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
        raise BaseModelError(
            f"{path} describes no model that could be built: {name} = {value!r} (expected a number, 0 to 1)\n"
            "fix: copy the file again"
        )
    return float(value)


def _modernbert_shape(config: dict[str, Any], num_layers: int, path: Path) -> ModernBertShape:
    """From a configuration of transformers 5 (layer_types, rope_parameters) or of 4 (one number for each)."""
    types = config.get("layer_types")
    if types is None:
        every = config.get("global_attn_every_n_layers", 3)
        types = ["sliding_attention" if layer % every else "full_attention" for layer in range(num_layers)]
    rope = config.get("rope_parameters") or {}
    whole, near = (rope.get(kind) or {} for kind in ("full_attention", "sliding_attention"))
    rope_types = {part.get("rope_type", "default") for part in (whole, near)}
    if len(types) != num_layers or set(types) - {"full_attention", "sliding_attention"} or rope_types != {"default"}:
        raise BaseModelError(
            f"{path}: expected {num_layers} layer_types of full_attention and sliding_attention, rope_type default; "
            f"found {types} and {', '.join(sorted(map(str, rope_types)))}"
        )
    return ModernBertShape(
        global_layers=tuple(layer for layer, kind in enumerate(types) if kind == "full_attention"),
        # In transformers sliding_window is half of local_attention, and sets it.
        window=config["sliding_window"] if "sliding_window" in config else config.get("local_attention", 128) // 2,
        global_theta=float(whole.get("rope_theta", config.get("global_rope_theta", 160_000.0))),
        local_theta=float(near.get("rope_theta", config.get("local_rope_theta", 10_000.0))),
        attention_bias=bool(config.get("attention_bias", False)),
        feed_forward_bias=bool(config.get("mlp_bias", False)),
        norm_bias=bool(config.get("norm_bias", False)),
        head_bias=bool(config.get("classifier_bias", False)),
    )


def _refuse_variants(config: dict[str, Any], family: Family, path: Path) -> None:
    """Options that would change the numbers and that no supported checkpoint needs."""
    activation = CONFIG_KEYS.get(family, {}).get("hidden_act", "hidden_act")
    exact = ("gelu", "gelu_python")  # two names of one function
    expected: dict[str, tuple[Any, ...]] = {activation: exact, "is_decoder": (False,)}
    if family in ("bert", "roberta", "electra"):  # the others do not read it
        expected["position_embedding_type"] = ("absolute",)
    if family == "modernbert":
        expected |= {"classifier_activation": exact, "rope_scaling": (None,)}
    wrong = [
        f"{key} = {config[key]!r} (supported: {values[0]!r})"
        for key, values in expected.items()
        if config.get(key, values[0]) not in values
    ]
    if wrong:
        raise BaseModelError(
            f"{path}: {'; '.join(wrong)}: another function than the encoders here compute\n"
            f"fix: use the model with transformers, or take another base, such as {', '.join(_SUGGESTED)}"
        )
