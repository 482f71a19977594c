"""Checks the range of every setting, and finds settings that do not go together or change nothing."""

import codecs
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from submillion.config.schema import TARGETS, Config, LoraConfig
from submillion.config.values import flat, quoted, refuse, shown
from submillion.errors import did_you_mean, encodable

SEPARATOR_WORDS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
READING = {  # words of data.reading, and what stands behind their =
    "separator": "tab, comma, semicolon, pipe, or one character",
    "encoding": "an encoding of text that Python knows",
    "header": "yes or no",
    "quoting": "yes or no",
}

_AT_LEAST = {
    "model.max_length": 3,  # the two special tokens and one of the text's
    "model.ngram_buckets": 0,
    "model.unfreeze_layers": 0,
    "lora.rank": 0,
    "train.batch_size": 1,
    "train.epochs": 1,
    "budget": 1,
    "seed": 0,
    "batch_size": 0,  # of predict and evaluate
}
_BELOW_ONE = ("model.dropout", "data.validation_fraction", "data.test_fraction")


def check(config: Config) -> None:
    """Raises ConfigError with every value of the tree that lies outside its range or does not go with another."""
    problems = range_problems(flat(config))
    if config.model.unfreeze_layers and config.robust.adapter_scale != 1:
        problems.setdefault(
            "robust.adapter_scale",
            "expected 1 for a model whose last layers train in full, because it scales adapters alone, "
            f"found {config.robust.adapter_scale:g}; fix: leave it at 1, or model.unfreeze_layers = 0",
        )
    refuse([f"{key}: {problem}" for key, problem in problems.items()])


def without_effect(config: Config) -> list[str]:
    """Returns the settings that change nothing in this run, each with the reason."""
    lines = []
    if config.lora.rank == 0 and config.lora.targets != LoraConfig().targets:
        lines.append(f"lora.targets = {shown(config.lora.targets)}: lora.rank is 0, so there are no adapters")
    if config.lora.rank == 0 and config.robust.adapter_scale != 1:
        lines.append(
            f"robust.adapter_scale = {config.robust.adapter_scale:g}: lora.rank is 0, so there are no adapters"
        )
    return lines


def range_problems(values: Mapping[str, Any]) -> dict[str, str]:
    """Returns {key: problem} for the values, each of the right type already, that lie outside their range."""
    problems: dict[str, str] = {}

    def expect(key: str, holds: bool, expected: str) -> None:
        if not holds:
            problems[key] = f"expected {expected}, found {quoted(values[key])}"

    for key, value in values.items():
        if not all(encodable(str(part)) for part in (value if isinstance(value, tuple) else (value,))):
            expect(key, False, "text that UTF-8 can hold")
        elif isinstance(value, float) and not isfinite(value):
            expect(key, False, "a finite number")
        elif key in _AT_LEAST and value != "auto":
            expect(key, value >= _AT_LEAST[key], f"at least {_AT_LEAST[key]}")
        elif key == "train.learning_rate":
            expect(key, value > 0, "more than 0")
        elif key in _BELOW_ONE:
            expect(key, 0 <= value < 1, "at least 0 and less than 1")
        elif key == "robust.adapter_scale":
            expect(key, 0 <= value <= 1, "0 to 1")
        elif key == "data.label_names" and value:
            expect(key, len(value) > 1 and _unique(value), "two or more different names, or none")
        elif (name := key.removeprefix("data.")) in READING:
            expect(key, value == "auto" or _can_read(name, value), f"auto, or {READING[name]}")
        elif name == "reading":
            problems |= {key: problem} if (problem := _reading_problem(value)) else {}
        elif key == "lora.targets":
            problems |= {key: problem} if (problem := _target_problem(value)) else {}
    return problems


def _reading_problem(words: tuple[str, ...]) -> str:
    """Returns what is wrong with the words of data.reading; "" if nothing is."""
    pairs = [word.partition("=") for word in words]
    for word, (name, equals, value) in zip(words, pairs, strict=True):
        if not equals or name not in READING:
            hint = did_you_mean(name, list(READING))
            return f"expected words such as {'=..., '.join(READING)}=..., found {quoted(word)}{hint}"
        if not _can_read(name, value):
            return f"{name}: expected {READING[name]}, found {quoted(value)}"
    if not _unique([name for name, _, _ in pairs]):
        return f"expected each word once, found {quoted(words)}"
    return ""


def _can_read(name: str, value: str) -> bool:
    if name == "separator":
        return value.lower() in SEPARATOR_WORDS or (len(value) == 1 and value not in '"\r\n')
    return _is_encoding(value) if name == "encoding" else value in ("yes", "no")


def _is_encoding(name: str) -> bool:
    """Returns whether a text encoding has this name: rot13 and zip are encodings of other things."""
    try:
        return isinstance("a".encode(name), bytes) and codecs.lookup(name).name not in ("idna", "punycode", "undefined")
    except (LookupError, ValueError, TypeError):
        return False


def _target_problem(targets: tuple[str, ...]) -> str:
    known = [*TARGETS, "all-linear"]
    unknown = [target for target in targets if target not in known]
    if unknown:
        hints = "; ".join(f"unknown {name!r}{did_you_mean(name, known)}" for name in unknown)
        return f"{hints} (there are {', '.join(known)})"
    if not targets or not _unique(targets) or ("all-linear" in targets and len(targets) > 1):
        return f"expected different targets, at least one, or all-linear alone, found {quoted(targets)}"
    return ""


def _unique(items: Sequence[object]) -> bool:
    return len(set(items)) == len(items)
