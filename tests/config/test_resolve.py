"""Recipes, flags and arguments give one checked configuration, and each value knows where it came from."""

import json
import tomllib
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from submillion.config.checks import check
from submillion.config.mapping import from_mapping, to_mapping, to_toml
from submillion.config.resolve import find_recipe, print_config, recipe_names, recipes_folder, resolve
from submillion.config.schema import Config
from submillion.config.values import flat
from submillion.errors import ConfigError

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
KEYS = list(flat(Config()))


def write(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def message(**arguments: object) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve(**arguments)  # type: ignore[arg-type]
    return str(caught.value)


# Recipes


def test_there_are_recipes() -> None:
    assert RECIPES and recipe_names() == sorted(path.stem for path in RECIPES)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_valid_and_survives_a_round_trip(path: Path, tmp_path: Path) -> None:
    resolved = resolve(recipe=path.stem)
    config = resolved.config
    check(config)
    assert resolve(recipe=path).config == config
    assert resolve(recipe=write(tmp_path, to_toml(config))).config == config
    assert from_mapping(tomllib.loads(to_toml(config))) == config
    assert from_mapping(json.loads(json.dumps(to_mapping(config)))) == config
    assert set(resolved.origins) == set(KEYS)
    assert set(resolved.origins.values()) <= {"default", f"recipe {path.stem}"}


def test_the_defaults_are_the_seed_recipe() -> None:
    seed = resolve(recipe="seed").config
    # The recipe's rows and their names are its own: as defaults they would be somebody else's.
    assert (seed.data.source, len(seed.data.label_names)) == ("fancyzhx/ag_news", 4)
    assert replace(seed, data=replace(seed.data, source="", label_names=())) == Config()
    assert set(resolve().origins.values()) == {"default"}


@given(
    st.text(),
    st.lists(st.text(), min_size=2, unique=True),
    st.floats(min_value=1e-300, max_value=1e300),
    st.integers(0),
)
def test_any_text_and_number_survives_the_round_trip(base: str, names: list[str], rate: float, seed: int) -> None:
    overrides = {"model.base": base, "data.label_names": names, "train.learning_rate": rate, "seed": seed}
    config = resolve(overrides=overrides).config
    assert from_mapping(tomllib.loads(to_toml(config))) == config


def test_recipes_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    assert find_recipe("seed") == recipes_folder() / "seed.toml"
    path = write(tmp_path, "seed = 3")
    assert find_recipe(path) == find_recipe(str(path)) == path


@pytest.mark.parametrize("name", ["sed", "nowhere/sed.toml"])
def test_an_unknown_recipe_is_answered_with_those_there_are(name: str) -> None:
    text = message(recipe=name)
    assert repr(name) in text and "did you mean seed?" in text and "quickstart" in text


def test_a_recipe_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "notepad.toml"
    path.write_bytes(b"\xef\xbb\xbf" + b"seed = 7\r\n[lora]\r\nrank = 3\r\n")
    resolved = resolve(recipe=path)
    assert (resolved.config.seed, resolved.config.lora.rank) == (7, 3)
    assert resolved.origins["lora.rank"] == f"recipe {path}"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[lora\nrank = 2", "not a readable TOML file: "),
        (b'[model]\nbase = "\xff"', "expected a TOML file in UTF-8, found 'utf-8' codec can't decode byte 0xff"),
        ("seed = 7".encode("utf-16"), "expected a TOML file in UTF-8, found UTF-16\nfix: save it as UTF-8"),
        (b"seed = 7\n\xef\xbb\xbf[lora]", "not a readable TOML file: "),  # the mark stands at the beginning alone
    ],
    ids=["syntax", "encoding", "UTF-16", "mark inside"],
)
def test_a_recipe_that_is_no_toml_is_named(content: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    assert f"{path}: {problem}" in message(recipe=path)


def test_all_problems_of_a_recipe_come_in_one_error(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        sed = 1
        [lora]
        rnak = 2
        rank = "x"
        targets = ["query", "valu"]
        [modle]
        base = "x"
        [train]
        epochs = 0
        few_labels = 1
        learning_rate = nan
        [extra]
        """,
    )
    lines = message(recipe=path).splitlines()
    assert lines[0] == f"{path}: 9 problems"
    for expected in (
        "unknown key sed; did you mean seed?",
        "unknown key lora.rnak; did you mean lora.rank?",
        "train.few_labels: expected true or false, found 1",
        'lora.rank: expected a whole number or auto, found "x"',
        "unknown key modle.base; did you mean model.base?",
        "train.epochs: expected at least 1, found 0",
        "train.learning_rate: expected a finite number, found NaN",
    ):
        assert f"  {expected}" in lines
    assert "lora.targets: unknown 'valu'; did you mean value?" in "\n".join(lines)
    assert any("unknown key extra" in line for line in lines)


def test_a_single_problem_takes_a_single_line(tmp_path: Path) -> None:
    path = write(tmp_path, "[lora]\nrank = 3.5")
    assert message(recipe=path) == f"{path}: lora.rank: expected a whole number or auto, found 3.5"


def test_a_saved_configuration_with_an_unknown_key_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"artefact: unknown key lora\.rnak; did you mean lora\.rank"):
        from_mapping({"lora": {"rnak": 2}}, where="artefact")


def test_label_names_of_a_recipe_go_with_its_source() -> None:
    assert resolve(["--recipe", "quickstart"]).config.data.label_names
    other = resolve(["--recipe", "quickstart", "--data.source", "mine.csv"])
    assert other.config.data.label_names == () and other.origins["data.label_names"] == "default"
    named = resolve(["--recipe", "quickstart", "--data.source", "mine.csv", "--data.label-names", "a", "b"])
    assert named.config.data.label_names == ("a", "b")


# Precedence


def test_flags_win_over_arguments_and_those_over_the_recipe(tmp_path: Path) -> None:
    path = write(tmp_path, "seed = 1\nbudget = 10\n[lora]\nrank = 1\ntargets = ['key']")
    resolved = resolve(["--seed", "3"], recipe=path, overrides={"seed": 2, "lora.rank": 2})
    assert (resolved.config.seed, resolved.config.lora.rank, resolved.config.budget) == (3, 2, 10)
    assert resolved.origins["seed"] == "flag"
    assert resolved.origins["lora.rank"] == "argument"
    assert resolved.origins["lora.targets"] == f"recipe {path}"
    assert resolved.origins["model.dropout"] == "default"


def test_a_recipe_among_the_flags_may_come_last_and_wins() -> None:
    resolved = resolve(["--lora.rank", "7", "--recipe", "quickstart"], recipe="seed")
    assert resolved.config.lora.rank == 7 and resolved.config.model.head == "linear"
    assert resolved.origins["model.head"] == "recipe quickstart"


def test_the_callers_mapping_is_left_alone() -> None:
    overrides = {"lora.targets": ["query"], "lora": {"rank": 3}}
    assert resolve(overrides=overrides).config.lora.rank == 3
    assert overrides == {"lora.targets": ["query"], "lora": {"rank": 3}}


# The printout


def test_the_printout_shows_every_value_with_its_origin() -> None:
    console = Console(width=120, file=StringIO())
    print_config(resolve(["--data.label-names", "[b]", "c d"], "quickstart"), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert set(KEYS) <= set(lines)
    assert "'[b]' 'c d'" in lines["data.label_names"]
    assert lines["data.label_names"].rstrip().endswith("flag")
    assert lines["model.head"].rstrip().endswith("recipe quickstart")
