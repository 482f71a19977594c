"""Reads the command-line flags of a tree of dataclasses, and prints the help that lists them all.

argparse prints the help. No library reads the flags: argparse, tyro, cyclopts and jsonargparse stop at the first wrong
one instead of reporting all, and none reads both `--scores FILE` and `--scores false`.
"""

import re
from collections.abc import Sequence
from dataclasses import is_dataclass
from os.path import exists
from typing import Any, NamedTuple, get_origin, get_type_hints

from submillion.config.short_forms import short_kinds
from submillion.config.values import (
    alternatives,
    described,
    flag_name,
    flat,
    from_words,
    key_types,
    placeholder,
    refuse,
    shown,
)
from submillion.errors import did_you_mean, escaped_lines

HEADINGS = {"lora": "adapters (LoRA)", "train": "training", "robust": "robustness"}  # of sections in the help


class _Flag(NamedTuple):
    key: str
    kind: Any
    alone: object = None  # the value without a word; None: a word must follow
    takes_value: bool = True


def read_flags(kind: type, argv: Sequence[str], positionals: int = 0) -> tuple[dict[str, Any], list[str]]:
    """Returns {dotted key: value} of the flags in argv, and the words that belong to no flag.

    The setting `model.max_length` of the dataclass tree `kind` has the flag --model.max-length, which takes one word;
    the flag of a tuple takes all words up to the next flag. A bool has --robust.noise, --robust.no-noise and
    --robust.noise true|false. A value that begins with a dash follows an equals sign.

    Raises ConfigError with every problem at once: unknown flags, wrong values, more than `positionals` other words.
    """
    flags = _flags(kind)
    others, groups = _split(argv)
    values: dict[str, Any] = {}
    problems: list[str] = []
    for typed_name, has_equals, words in groups:
        name = typed_name.replace("_", "-")
        if name not in flags:  # the words behind it are taken for its values
            problems.append(f"unknown flag {typed_name}{did_you_mean(name, list(flags))}")
            continue
        flag = flags[name]
        count = _words_taken(flag, words, has_equals, positionals)
        taken = words[:count]
        others += words[count:]
        if taken and not flag.takes_value:
            problems.append(f"{name}: takes no value, found {shown(taken)}")
            continue
        try:
            values[flag.key] = from_words(taken, flag.kind) if taken or flag.alone is None else flag.alone
        except ValueError:
            problems.append(f"{name}: expected {described(flag.kind)}, found {shown(taken) or 'nothing'}")
    for word in others[positionals:]:
        hint = f"; fix: --data.source {word}" if "--data.source" in flags and exists(word) else ""
        problems.append(f"unexpected {word!r}{hint}")
    refuse(problems)
    return values, others


def _split(argv: Sequence[str]) -> tuple[list[str], list[tuple[str, bool, list[str]]]]:
    """Returns the words before the first flag, and (flag, whether it has an equals sign, words up to the next flag)."""
    first: list[str] = []
    groups: list[tuple[str, bool, list[str]]] = []
    for word in argv:
        if re.match(r"-[^\d.]", word):  # -5, -.5 and - (standard input) are no flags
            name, equals, value = word.partition("=")
            groups.append((name, bool(equals), [value] if equals else []))
        else:
            (groups[-1][2] if groups else first).append(word)
    return first, groups


def _words_taken(flag: _Flag, words: list[str], has_equals: bool, positionals: int) -> int:
    """Returns how many of the words after a flag are its value; the others belong to no flag."""
    if any(get_origin(option) is tuple for option in alternatives(flag.kind)):
        return len(words)
    if positionals and flag.alone is not None and words and not has_equals:
        # In `predict --scores FILE` the word is the file.
        return int(words[0].lower() in placeholder(flag.kind).split("|"))
    return 1


def _flags(kind: type) -> dict[str, _Flag]:
    """Returns every flag under each of its spellings, with hyphens."""
    flags: dict[str, _Flag] = {}
    kinds = key_types(kind)
    for key, leaf in (kinds | short_kinds(kinds)).items():
        section, dot, name = key.rpartition(".")
        flags[flag_name(key)] = _Flag(key, leaf, alone=True if leaf is bool else None)
        if leaf is bool:
            flags[flag_name(f"{section}{dot}no_{name}")] = _Flag(key, leaf, alone=False, takes_value=False)
        elif name == "header":
            flags["--header"] = _Flag(key, leaf, alone="yes")
            flags["--no-header"] = _Flag(key, leaf, alone="no", takes_value=False)
    return flags


def print_help(command: str, description: str, defaults: Any) -> None:
    """Prints every flag of the dataclass tree `defaults` by section, with the text under its field and its default."""
    from argparse import ArgumentParser, RawDescriptionHelpFormatter
    from textwrap import wrap

    class Formatter(RawDescriptionHelpFormatter):
        def _split_lines(self, text: str, width: int) -> list[str]:
            return wrap(text, width, break_on_hyphens=False)  # a flag that is broken in two cannot be copied

    usage = f"submillion {command} [FLAGS]"
    parser = ArgumentParser(usage=usage, description=description, formatter_class=Formatter)
    groups: dict[str, Any] = {"": parser}
    texts = _texts(type(defaults))
    flags = _flags(type(defaults))
    # The recipe comes first, because it sets the defaults of all others.
    for key, value in sorted(flat(defaults).items(), key=lambda item: item[0] != "recipe"):
        section = key.rpartition(".")[0]
        if section not in groups:
            groups[section] = parser.add_argument_group(HEADINGS.get(section, section))
        is_bool = isinstance(value, bool)
        names = [name for name, flag in flags.items() if flag.key == key] if is_bool else [flag_name(key)]
        looks = {"action": "store_true"} if is_bool else {"metavar": placeholder(flags[names[0]].kind)}
        text = f"{texts[key]} (default: {shown(value) or 'none'})"
        groups[section].add_argument(*names, **looks, help=text.replace("%", "%%"))
    print(escaped_lines(parser.format_help()), end="")


def _texts(kind: Any) -> dict[str, str]:
    """Returns {dotted key: text under the field} of a dataclass tree. Only the source holds these texts."""
    import ast
    from inspect import getsource
    from itertools import pairwise

    texts: dict[str, str] = {}
    for owner in reversed(kind.__mro__[:-1]):
        for item, below in pairwise(ast.walk(ast.parse(getsource(owner)))):  # neighbours in the class's body
            match item, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    texts[name] = " ".join(text.split())
    for name, inner in get_type_hints(kind).items():
        if is_dataclass(inner):
            texts |= {f"{name}.{key}": text for key, text in _texts(inner).items()}
    return texts
