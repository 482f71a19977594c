"""Combines defaults, a recipe, arguments from Python and flags into one configuration, with each value's origin."""

import codecs
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from submillion.config.checks import check
from submillion.config.flags import read_flags
from submillion.config.mapping import dotted, overlay
from submillion.config.schema import Config
from submillion.config.short_forms import setting_of
from submillion.config.values import flag_name, flat, shown
from submillion.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Resolved:
    """A configuration, and where each of its values came from."""

    config: Config
    origins: dict[str, str]
    """{dotted key: "default", "recipe NAME", "argument" or "flag"}."""


@dataclass(frozen=True)
class RunFlags(Config):
    """The flags of a run: every setting of the configuration, and the recipe to start from."""

    recipe: str = ""
    """Start from this recipe: a name from the list above, or a .toml file. Flags override it."""


def resolve(
    argv: Sequence[str] = (), recipe: str | Path | None = None, overrides: Mapping[str, object] | None = None
) -> Resolved:
    """Returns the configuration: flags win over overrides, overrides over the recipe, and the recipe over defaults.

    argv: words such as --lora.rank 8; a `--recipe` among them wins over `recipe`. recipe: a shipped name or a .toml
    file. overrides: {"lora.rank": 8}. Raises ConfigError with every problem of one source at once.
    """
    flags, _ = read_flags(RunFlags, argv)
    chosen = flags.pop("recipe", None) or recipe
    return combine(str(chosen) if chosen else None, overrides or {}, flags)


def combine(
    recipe: str | Path | None = None,
    overrides: Mapping[str, object] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Resolved:
    """Returns what `resolve` does, from flags that `read_flags` has read, without their recipe."""
    config = Config()
    origins = dict.fromkeys(flat(config), "default")
    layers: list[tuple[str, Mapping[str, object], str, Callable[[str], str]]] = []
    if recipe:
        path = find_recipe(recipe)
        name = path.stem if path.parent == recipes_folder() else str(recipe)
        layers.append((f"recipe {name}", _read_toml(path), str(path), str))
    layers.append(("argument", overrides or {}, "", str))
    layers.append(("flag", flags or {}, "", flag_name))
    for origin, mapping, where, spell in layers:
        values = dotted(mapping)
        if "data.source" in values:
            # Label names belong to the source beside them: another source has its own, or gets them here too.
            config = replace(config, data=replace(config.data, label_names=()))
            origins["data.label_names"] = "default"
        config = overlay(config, values, where, spell)
        origins.update(dict.fromkeys(map(setting_of, values), origin))
    check(config)  # at the end: a flag may correct what the recipe says
    return Resolved(config, origins)


def recipes_folder() -> Path:
    """Returns the folder of the shipped recipes: inside the installed package, or at the root of the repository."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parents[1] / "recipes"


def recipe_names() -> list[str]:
    """Returns the names of the shipped recipes, sorted."""
    return sorted(path.stem for path in recipes_folder().glob("*.toml"))


def find_recipe(name_or_path: str | Path) -> Path:
    """Returns a recipe's file: a shipped one by name ("seed"), any other by path. Raises ConfigError for neither."""
    text = str(name_or_path)
    shipped = recipe_names()
    if text in shipped:
        return recipes_folder() / f"{text}.toml"
    path = Path(text)
    if path.suffix == ".toml" and path.is_file():
        return path
    hint = did_you_mean(path.stem, shipped)
    raise ConfigError(f"no recipe {text!r}{hint}\nexpected a .toml file or one of: {', '.join(shipped)}")


def _read_toml(path: Path) -> dict[str, Any]:
    """Returns a recipe's tables, with or without a byte-order mark. Raises ConfigError for a file that is no TOML."""
    import tomllib

    try:
        content = path.read_bytes()
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # Windows PowerShell's > writes it
            raise ConfigError(f"{path}: expected a TOML file in UTF-8, found UTF-16\nfix: save it as UTF-8")
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected a TOML file in UTF-8, found {error}\nfix: save it as UTF-8") from None
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not a readable TOML file: {error}") from error


def rows(resolved: Resolved) -> Iterator[tuple[str, str, str]]:
    """Yields (key, value as text, origin) of every setting, in tree order."""
    for key, value in flat(resolved.config).items():
        yield key, shown(value), resolved.origins[key]


def print_config(resolved: Resolved, console: "Console") -> None:
    """Prints every value with its origin, the chosen ones bright and the defaults dim."""
    from rich.table import Table
    from rich.text import Text

    table = Table("setting", "value", "from", box=None, pad_edge=False)
    for key, value, origin in rows(resolved):
        # Text, not str: a label such as "[b]" must not be read as markup.
        table.add_row(Text(key), Text(value), Text(origin), style="dim" if origin == "default" else "")
    console.print(table)
