"""Turns a configuration into plain nested mappings, as TOML, JSON and a saved model hold them, and back."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from submillion.config.checks import range_problems
from submillion.config.schema import Config
from submillion.config.short_forms import short_kinds, spelled_out
from submillion.config.values import converted, described, flat, key_types, quoted, refuse
from submillion.errors import did_you_mean

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


T = TypeVar("T", bound="DataclassInstance")


def overlay(tree: T, values: Mapping[str, object], where: str = "", spell: Callable[[str], str] = str) -> T:
    """Returns the dataclass tree with new values for some of its settings.

    values: {dotted key or short form: value}. where: what the error begins with, such as a file's name. spell: turns a
    key into what the user typed. Raises ConfigError with every unknown key, wrong type and value out of range.
    """
    kinds = key_types(type(tree))
    kinds |= short_kinds(kinds)
    problems: list[str] = []
    good: dict[str, object] = {}
    for key, value in values.items():
        if key not in kinds:
            problems.append(f"unknown key {key}{did_you_mean(key, list(kinds))}")
            continue
        try:
            good[key] = converted(value, kinds[key])
        except (ValueError, OverflowError):  # a whole number may be too large for a float
            problems.append(f"{spell(key)}: expected {described(kinds[key])}, found {quoted(value)}")
    problems += [f"{spell(key)}: {problem}" for key, problem in range_problems(good).items()]
    refuse(problems, where)
    return _replaced(tree, spelled_out(tree, good))


def to_mapping(config: Config) -> dict[str, Any]:
    """Returns every setting as nested dicts, with lists for tuples, as TOML and a saved model hold them."""
    mapping: dict[str, Any] = {}
    for key, value in flat(config).items():
        section, _, name = key.rpartition(".")
        table = mapping.setdefault(section, {}) if section else mapping
        table[name] = list(value) if isinstance(value, tuple) else value
    return mapping


def from_mapping(mapping: Mapping[str, object], where: str = "configuration") -> Config:
    """Returns the configuration that `to_mapping` turned into this mapping; absent keys keep their defaults.

    where: what the error begins with. Raises ConfigError with every unknown key, wrong type and value out of range.
    """
    return overlay(Config(), dotted(mapping), where)


def to_toml(config: Config) -> str:
    """Returns every setting as the text of a recipe that reads back equal."""
    import tomli_w

    return tomli_w.dumps(to_mapping(config))


def dotted(mapping: Mapping[str, object]) -> dict[str, object]:
    """Returns {dotted key: value} for nested tables. An empty table that is no section stays, to be reported."""
    values: dict[str, object] = {}
    sections = {key.partition(".")[0] for key in key_types(Config) if "." in key}
    for key, value in mapping.items():
        if isinstance(value, Mapping) and (value or key in sections):
            values.update({f"{key}.{name}": inner for name, inner in dotted(value).items()})
        else:
            values[str(key)] = value
    return values


def _replaced(tree: T, values: Mapping[str, object]) -> T:
    changes: dict[str, Any] = {}
    for key, value in values.items():
        section, dot, name = key.partition(".")
        if dot:
            changes[section] = replace(changes.get(section, getattr(tree, section)), **{name: value})
        else:
            changes[section] = value
    return replace(tree, **changes)
