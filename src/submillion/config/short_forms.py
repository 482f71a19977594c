"""Short forms of two settings: data.separator = ";" stands for the word separator=; of data.reading."""

from collections.abc import Collection, Mapping
from typing import Any, Literal

from submillion.config.values import flat

_WORDS: dict[str, tuple[str, Any]] = {  # short name -> the setting that it is a word of, and its type
    "separator": ("reading", str),
    "encoding": ("reading", str),
    "header": ("reading", Literal["auto", "yes", "no"]),
    "quoting": ("reading", Literal["auto", "yes", "no"]),
    "merge_labels": ("repair", bool),
    "skip_bad_rows": ("repair", bool),
}


def short_kinds(keys: Collection[str]) -> dict[str, Any]:
    """Returns {short dotted key: its type} for the settings among these dotted keys that have short forms."""
    return {
        prefix + name: kind
        for prefix in dict.fromkeys(key[: key.rfind(".") + 1] for key in keys)
        for name, (setting, kind) in _WORDS.items()
        if prefix + setting in keys
    }


def setting_of(key: str) -> str:
    """Returns the key of the setting behind a short form: data.reading for data.separator; any other key as it is."""
    section, dot, name = key.rpartition(".")
    return f"{section}{dot}{_WORDS[name][0]}" if name in _WORDS else key


def spelled_out(tree: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values, each of its right type, with short keys replaced by the settings that they stand for.

    Words that the tree's setting has already stay, unless a short key says otherwise: "auto" and false remove one.
    """
    present = flat(tree)
    long_values = {key: value for key, value in values.items() if setting_of(key) == key}
    for key, value in values.items():
        setting, name = setting_of(key), key.rpartition(".")[2]
        if setting == key:
            continue
        word = name.replace("_", "-") if isinstance(value, bool) else f"{name}={value}"
        words = long_values.get(setting, present[setting])
        others = tuple(other for other in words if other.partition("=")[0] != word.partition("=")[0])
        long_values[setting] = others if value in (False, "auto") else (*others, word)
    return long_values
