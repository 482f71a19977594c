"""The shape of a pretrained encoder: read from its config.json, or known by name without any file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from submillion.errors import BaseModelError, did_you_mean

Family = Literal["bert", "roberta", "mpnet"]


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

    @property
    def position_offset(self) -> int:
        """Row of the position table that the first token takes: RoBERTa and MPNet count on from the padding id."""
        return 0 if self.family == "bert" else self.pad_id + 1

    @property
    def max_tokens(self) -> int:
        """Longest row, in tokens, that the position table can place."""
        return self.num_positions - self.position_offset

    @property
    def layer_parameters(self) -> int:
        h, i = self.hidden_size, self.intermediate_size
        attention = 4 * (h * h + h)
        feed_forward = (h * i + i) + (i * h + h)
        return attention + feed_forward + 2 * 2 * h  # two layer norms

    @property
    def embedding_parameters(self) -> int:
        rows = self.vocab_size + self.num_positions + self.num_token_types
        return rows * self.hidden_size + 2 * self.hidden_size + self.relative_buckets * self.num_heads

    @property
    def parameters(self) -> int:
        """Parameters of the encoder without any pooler: every one of them is used."""
        return self.embedding_parameters + self.num_layers * self.layer_parameters

    def linear_sizes(self) -> dict[str, tuple[int, int]]:
        """(in_features, out_features) of each linear layer in an encoder layer, by the name LoRA targets use."""
        h, i = self.hidden_size, self.intermediate_size
        return {
            "query": (h, h),
            "key": (h, h),
            "value": (h, h),
            "attention_output": (h, h),
            "intermediate": (h, i),
            "output": (i, h),
        }


def _roberta(hidden: int, layers: int, heads: int, vocab: int = 50265) -> EncoderShape:
    return EncoderShape("roberta", vocab, hidden, layers, heads, 4 * hidden, 514, 1, 1, 1e-5)


def _bert(hidden: int, layers: int, heads: int, vocab: int = 30522) -> EncoderShape:
    return EncoderShape("bert", vocab, hidden, layers, heads, 4 * hidden, 512, 2, 0, 1e-12)


_MPNET = EncoderShape("mpnet", 30527, 768, 12, 12, 3072, 514, 0, 1, 1e-5, relative_buckets=32)

# By the last part of the hub id, lower case. Enough for `plan` to answer with no file and no network.
KNOWN_SHAPES: dict[str, EncoderShape] = {
    "roberta-base": _roberta(768, 12, 12),
    "roberta-large": _roberta(1024, 24, 16),
    "distilroberta-base": _roberta(768, 6, 12),
    "xlm-roberta-base": _roberta(768, 12, 12, vocab=250002),
    "bert-base-uncased": _bert(768, 12, 12),
    "bert-base-cased": _bert(768, 12, 12, vocab=28996),
    "all-minilm-l6-v2": _bert(384, 6, 12),
    "all-minilm-l12-v2": _bert(384, 12, 12),
    "mpnet-base": _MPNET,
    "all-mpnet-base-v2": _MPNET,
}
_FAMILY_OF_TYPE: dict[str, Family] = {"bert": "bert", "roberta": "roberta", "xlm-roberta": "roberta", "mpnet": "mpnet"}


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
        if kind not in _FAMILY_OF_TYPE:
            raise BaseModelError(
                f"{path}: model_type {kind!r} is not supported\nsupported: {', '.join(sorted(_FAMILY_OF_TYPE))}"
            )
        shape = EncoderShape(
            family=_FAMILY_OF_TYPE[kind],
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=config["num_attention_heads"],
            intermediate_size=config["intermediate_size"],
            num_positions=config["max_position_embeddings"],
            num_token_types=0 if kind == "mpnet" else config["type_vocab_size"],
            pad_id=config.get("pad_token_id", 0 if kind == "bert" else 1),
            layer_norm_eps=config.get("layer_norm_eps", 1e-12),
            relative_buckets=config.get("relative_attention_num_buckets", 32) if kind == "mpnet" else 0,
        )
    except FileNotFoundError:
        raise BaseModelError(f"{folder} holds no config.json, so it is no pretrained model's folder") from None
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise BaseModelError(f"{path} is not the JSON object of a model's configuration: {error}") from None
    except KeyError as error:
        raise BaseModelError(f"{path} lacks the key {error}, which a {kind} model needs") from None
    _refuse_variants(config, path)
    _refuse_nonsense(config, path)
    return shape


def _refuse_nonsense(config: dict, path: Path) -> None:
    """Sizes that no model can have: a clear error here, not a crash in the middle of a run."""
    least = dict.fromkeys(("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"), 1)
    least |= {"intermediate_size": 1, "max_position_embeddings": 1, "type_vocab_size": 0, "pad_token_id": 0}
    wrong = [
        f"{key} = {config[key]!r}"
        for key, lowest in least.items()
        if key in config and (not isinstance(config[key], int) or config[key] < lowest)
    ]
    if not wrong and config["hidden_size"] % config["num_attention_heads"]:
        wrong = [
            f"hidden_size {config['hidden_size']} is no multiple of num_attention_heads {config['num_attention_heads']}"
        ]
    if wrong:
        raise BaseModelError(f"{path} describes no model that could be built: {', '.join(wrong)}")


def _refuse_variants(config: dict, path: Path) -> None:
    """Options that would change the numbers and that no supported checkpoint needs."""
    expected = {"hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False}
    wrong = [
        f"{key} = {config[key]!r} (supported: {value!r})"
        for key, value in expected.items()
        if config.get(key, value) != value
    ]
    if wrong:
        raise BaseModelError(f"{path}: {'; '.join(wrong)}")
