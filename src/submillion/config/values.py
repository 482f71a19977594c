"""Reads and shows the values of a dataclass tree: by dotted key, as text, converted to the type of their field."""

import json
import shlex
from contextlib import suppress
from dataclasses import fields, is_dataclass
from os import PathLike, fspath
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from submillion.errors import ConfigError


def flat(tree: Any) -> dict[str, Any]:
    """Returns {dotted key: value} for a dataclass tree, in tree order: {"model.base": "roberta-base", ...}."""
    values: dict[str, Any] = {}
    for item in fields(tree):
        value = getattr(tree, item.name)
        if is_dataclass(value):
            values.update({f"{item.name}.{key}": inner for key, inner in flat(value).items()})
        else:
            values[item.name] = value
    return values


def key_types(tree: Any) -> dict[str, Any]:
    """Returns {dotted key: type} for a dataclass tree, in tree order."""
    kinds: dict[str, Any] = {}
    for name, inner in get_type_hints(tree).items():
        if is_dataclass(inner):
            kinds.update({f"{name}.{key}": leaf for key, leaf in key_types(inner).items()})
        else:
            kinds[name] = inner
    return kinds


def shown(value: object) -> str:
    """Returns a value as it is typed after its flag: "query value", "true", "5e-06"; "" for empty text and lists."""
    if isinstance(value, list | tuple):
        return shlex.join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def quoted(value: object) -> str:
    """Returns a value as JSON, which is nearly what a recipe would have."""
    return json.dumps(value, ensure_ascii=False, default=repr)


def described(kind: Any) -> str:
    """Returns what an error calls a value of this type: "a whole number or auto"."""
    if len(alternatives(kind)) > 1:
        return " or ".join(map(described, alternatives(kind)))
    if get_origin(kind) is Literal:
        return ", ".join(get_args(kind)[:-1]) + " or " * (len(get_args(kind)) > 1) + get_args(kind)[-1]
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        return {str: "a list of texts", int: "a list of whole numbers"}.get(item) or f"a list of {described(item)}"
    return {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[kind]


def alternatives(kind: Any) -> tuple[Any, ...]:
    """Returns the members of a union; any other type alone."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def converted(value: object, kind: Any) -> object:
    """Returns the value as a field of this type holds it: tuples for lists, floats for whole numbers.

    Raises ValueError for a value of another type.
    """
    if len(alternatives(kind)) > 1:
        for option in alternatives(kind):
            with suppress(ValueError):
                return converted(value, option)
        raise ValueError
    if get_origin(kind) is Literal and isinstance(value, str) and value in get_args(kind):
        return value
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return tuple(converted(item, get_args(kind)[0]) for item in value)
    if kind is float and type(value) is int:
        return float(value)
    if kind is str and isinstance(value, PathLike):
        return fspath(value)
    if type(value) is kind:  # not isinstance: True is no whole number
        return value
    raise ValueError


def from_words(words: list[str], kind: Any) -> object:
    """Returns the value of this type that the words after a flag spell. Raises ValueError where they spell none."""
    for option in alternatives(kind):
        with suppress(ValueError):
            if get_origin(option) is tuple:
                return tuple(from_words([word], get_args(option)[0]) for word in words)
            [word] = words
            if option in (int, float):
                return option(word)
            return converted({"true": True, "false": False}.get(word.lower()) if option is bool else word, option)
    raise ValueError


def placeholder(kind: Any) -> str:
    """Returns what the help shows in the place of a value of this type: "N|auto", "TEXT ..."."""
    if get_origin(kind) is tuple:
        return f"{placeholder(get_args(kind)[0])} ..."
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    names = {int: "N", float: "X", str: "TEXT", bool: "true|false"}
    return names[kind] if kind in names else "|".join(map(placeholder, alternatives(kind)))


def flag_name(key: str) -> str:
    """Returns a dotted key as its flag is typed: --model.max-length for model.max_length."""
    return "--" + key.replace("_", "-")


def refuse(problems: list[str], where: str = "") -> None:
    """Raises ConfigError with all of the problems, if there are any."""
    if len(problems) == 1:
        raise ConfigError(f"{where}: {problems[0]}" if where else problems[0])
    if problems:
        heading = f"{where}: {len(problems)} problems" if where else f"{len(problems)} problems"
        raise ConfigError("\n  ".join([heading, *problems]))
