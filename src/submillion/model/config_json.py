"""Reads the shape of a pretrained encoder from its config.json, as transformers writes it."""

import json
from pathlib import Path
from typing import Any

from submillion.errors import BaseModelError
from submillion.model.families import (
    CONFIG_KEYS,
    COUNTS_FROM_PADDING,
    DEFAULT_NORM_EPS,
    DEFAULT_PAD_ID,
    FAMILY_OF_TYPE,
    Family,
)
from submillion.model.shape import EncoderShape, ModernBertShape

_SUGGESTED = ("roberta-base", "xlm-roberta-base", "distilbert-base-uncased", "answerdotai/ModernBERT-base")


def read_shape(folder: Path) -> EncoderShape:
    """Returns the shape that folder/config.json describes.

    Raises BaseModelError if the file is missing or damaged, or if no encoder here computes the model exactly.
    """
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
        return _shape_of(config, family, path)
    except KeyError as error:
        raise BaseModelError(
            f"{path} lacks the key {error}, which a {kind} model needs\nfix: copy the file again, or have transformers "
            "write it: AutoConfig.from_pretrained(DIR).save_pretrained(DIR)"
        ) from None
    except (TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise BaseModelError(f"{path} holds a value of a wrong kind: {error}\nfix: copy the file again") from None


def _shape_of(config: dict[str, Any], family: Family, path: Path) -> EncoderShape:
    """Returns the shape. Raises KeyError if a key is missing, and BaseModelError if a value makes no sense."""
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
    """Returns a value of at least `least`. Raises KeyError if it is missing, and BaseModelError for any other value."""
    value = config[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        wrong = f"{name} = {value!r} (expected a whole number, at least {least})"
        raise BaseModelError(f"{path} describes no model that could be built: {wrong}\nfix: copy the file again")
    return value


def _pad_id(config: dict[str, Any], family: Family, path: Path) -> int:
    """Returns the id of padding; the positions of RoBERTa and MPNet start after it."""
    if family == "mpnet":
        return DEFAULT_PAD_ID[family]  # transformers counts from this one, whatever the file says
    if config.get("pad_token_id") is None and "pad_token_id" in config and family not in COUNTS_FROM_PADDING:
        return 0  # no id is padding: then any id will do, because nothing attends to padding
    if "pad_token_id" not in config:
        return DEFAULT_PAD_ID.get(family, 0)
    return _whole_number(config, "pad_token_id", 0, path)


def _norm_eps(config: dict[str, Any], family: Family, path: Path) -> float:
    """Returns the number that the norms add to a variance. Raises BaseModelError for a value outside 0 to 1."""
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
    """Returns ModernBERT's own sizes and settings.

    The configuration may be of transformers 5 (layer_types, rope_parameters) or of 4 (one number for each). Raises
    BaseModelError for layers or rotations of another kind.
    """
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
    """Raises BaseModelError for options that would change the numbers and that no supported checkpoint needs."""
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
