"""The configuration: recipes, flags and arguments give one checked tree, and each value knows where it came from."""

import json
import shlex
import tomllib
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from submillion.config import (
    Config,
    RunFlags,
    check,
    find_recipe,
    flag_name,
    flat,
    from_mapping,
    print_config,
    read_flags,
    recipe_names,
    recipes_folder,
    resolve,
    shown,
    to_mapping,
    to_toml,
    without_effect,
)
from submillion.errors import ConfigError

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.toml"))
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
    # The recipe may spell out AG News' own label names; as a default they would refuse every other data set.
    assert seed.data.label_names in ((), ("World", "Sports", "Business", "Sci/Tech"))
    assert seed.output.labels == "integers"
    seed = replace(seed, output=replace(seed.output, labels="auto"))
    assert replace(seed, data=replace(seed.data, label_names=())) == Config()
    assert set(resolve().origins.values()) == {"default"}


@given(
    st.text(),
    st.lists(st.text(), min_size=2, unique=True),
    st.floats(min_value=1e-300, max_value=1e300),
    st.integers(0),
)
def test_any_text_and_number_survives_the_round_trip(base: str, names: list[str], alpha: float, seed: int) -> None:
    overrides = {"model.base": base, "data.label_names": names, "lora.alpha": alpha, "seed": seed}
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
        alpha = true
        rank = "x"
        targets = ["query", "valu"]
        [modle]
        base = "x"
        [train]
        epochs = 0
        learning_rate = nan
        [extra]
        """,
    )
    lines = message(recipe=path).splitlines()
    assert lines[0] == f"{path}: 9 problems"
    for expected in (
        "unknown key sed; did you mean seed?",
        "unknown key lora.rnak; did you mean lora.rank?",
        "lora.alpha: expected a number, found true",
        'lora.rank: expected a whole number or auto, found "x"',
        "unknown key modle.base; did you mean model.base?",
        "train.epochs: expected at least 1, found 0",
        "train.learning_rate: expected a finite number, found NaN",
    ):
        assert f"  {expected}" in lines
    assert "lora.targets: unknown 'valu'; did you mean value?" in "\n".join(lines)
    assert any("unknown key extra" in line for line in lines)


def test_a_single_problem_takes_a_single_line(tmp_path: Path) -> None:
    path = write(tmp_path, "[lora]\nlayers = 3")
    assert message(recipe=path) == f"{path}: lora.layers: expected all or a list of whole numbers, found 3"


# Types and ranges

WRONG = [
    ("model.base", 3),
    ("model.head", "big"),
    ("model.max_length", 2),
    ("model.window", 2),
    ("model.window", -1),
    ("model.window", "all"),
    ("model.max_length", 3.0),
    ("model.max_length", True),
    ("model.dropout", 1),
    ("model.dropout", -0.1),
    ("model.freeze_base", 1),
    ("model.train_last_k_layers", -1),
    ("lora.rank", -1),
    ("lora.rank", "most"),
    ("lora.rank", True),
    ("lora.alpha", 0),
    ("lora.alpha", float("inf")),
    ("lora.alpha", 10**400),
    ("lora.dropout", 1.0),
    ("lora.targets", []),
    ("lora.targets", "query"),
    ("lora.targets", ["query", "query"]),
    ("lora.targets", ["all-linear", "query"]),
    ("lora.targets", ["q_proj"]),
    ("lora.layers", []),
    ("lora.layers", [0, 0]),
    ("lora.layers", [-1]),
    ("lora.layers", [True]),
    ("lora.layers", "some"),
    ("data.label_names", ["one"]),
    ("data.label_template", "about it"),
    ("data.label_names", ["one", "one"]),
    ("data.label_names", [1, 2]),
    ("data.validation_fraction", 1),
    ("data.test_fraction", -0.1),
    ("train.batch_size", 0),
    ("train.eval_batch_size", 0),
    ("train.accumulation_steps", 0),
    ("train.learning_rate", 0),
    ("train.learning_rate", "1e-3"),
    ("train.epochs", 0),
    ("train.epochs", 1.5),
    ("train.weight_decay", -1),
    ("train.max_grad_norm", -1),
    ("train.warmup_fraction", 1.1),
    ("train.schedule", "step"),
    ("train.label_smoothing", 1),
    ("train.augment", 1.1),
    ("train.consistency", -0.5),
    ("train.cross_validation", 1),
    ("train.cross_validation", -2),
    ("train.adapter_scale", -0.1),
    ("train.class_weights", True),
    ("train.eval_steps", -1),
    ("train.patience", -1),
    ("train.prefix_cache_gb", -0.1),
    ("train.prefix_cache_gb", "4"),
    ("budget", 0),
    ("seed", -1),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_wrong_value_is_refused_by_its_key(key: str, value: object) -> None:
    text = message(overrides={key: value})
    assert text.startswith(f"{key}: ") and "\n" not in text


@pytest.mark.parametrize(
    ("key", "value", "held"),
    [
        ("model.max_length", 3, 3),
        ("model.window", 3, 3),
        ("model.window", "auto", "auto"),
        ("model.dropout", 0, 0.0),
        ("model.base", Path("a") / "b", str(Path("a") / "b")),
        ("lora.rank", 0, 0),
        ("lora.rank", "auto", "auto"),
        ("lora.alpha", 4, 4.0),
        ("lora.layers", [0, 11], (0, 11)),
        ("lora.layers", "all", "all"),
        ("lora.targets", ["all-linear"], ("all-linear",)),
        ("data.label_names", [], ()),
        ("train.warmup_fraction", 1, 1.0),
        ("train.max_grad_norm", 0, 0.0),
        ("train.prefix_cache_gb", 0, 0.0),
    ],
)
def test_the_edge_of_a_range_is_inside_it(key: str, value: object, held: object) -> None:
    found = flat(resolve(overrides={key: value}).config)[key]
    assert found == held and type(found) is type(held)


def test_check_names_every_value_out_of_range() -> None:
    config = replace(Config(), budget=0, seed=-1)
    with pytest.raises(ConfigError, match=r"(?s)budget: expected at least 1, found 0.*seed: expected at least 0"):
        check(config)


def test_adapters_are_not_scaled_where_encoder_layers_train_in_full(tmp_path: Path) -> None:
    opened = {"model.freeze_base": False, "train.adapter_scale": 0.5}
    text = message(overrides=opened)
    assert text.startswith("train.adapter_scale: expected 1 where encoder layers train in full") and "found 0.5" in text
    assert "fix: leave it at 1, or model.freeze_base = true" in text and "\n" not in text
    # What is refused is the whole: a later source may mend what an earlier one says.
    recipe = write(tmp_path, "train.adapter_scale = 0.5\n")
    assert resolve(["--train.adapter-scale", "1"], recipe, {"model.freeze_base": False}).config.train.adapter_scale == 1
    assert resolve(overrides=opened | {"model.train_last_k_layers": 0}).config.train.adapter_scale == 0.5
    # A model that was saved so still opens.
    assert from_mapping({"model": {"freeze_base": False}, "train": {"adapter_scale": 0.5}}).train.adapter_scale == 0.5


def test_a_saved_configuration_with_an_unknown_key_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"artefact: unknown key lora\.rnak; did you mean lora\.rank"):
        from_mapping({"lora": {"rnak": 2}}, where="artefact")


def test_label_names_of_a_recipe_go_with_its_source() -> None:
    assert resolve(["--recipe", "quickstart"]).config.data.label_names
    other = resolve(["--recipe", "quickstart", "--data.source", "mine.csv"])
    assert other.config.data.label_names == () and other.origins["data.label_names"] == "default"
    named = resolve(["--recipe", "quickstart", "--data.source", "mine.csv", "--data.label-names", "a", "b"])
    assert named.config.data.label_names == ("a", "b")


# Flags


@pytest.mark.parametrize("key", KEYS)
def test_every_setting_has_a_flag(key: str) -> None:
    value = flat(Config())[key]
    words = shlex.split(shown(value)) if isinstance(value, tuple) else [shown(value)]
    name = flag_name(key)
    forms = [[name, *words], ["--" + key, *words]]
    if not isinstance(value, tuple):
        forms.append([f"{name}={words[0]}"])
    for form in forms:
        resolved = resolve(form)
        assert resolved.config == Config()
        assert [k for k, origin in resolved.origins.items() if origin == "flag"] == [key]


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        ("--model.max-length 64", "model.max_length", 64),
        ("--model.freeze-base", "model.freeze_base", True),
        ("--model.no-freeze-base", "model.freeze_base", False),
        ("--model.no_freeze_base", "model.freeze_base", False),
        ("--model.freeze-base false", "model.freeze_base", False),
        ("--model.freeze-base=False", "model.freeze_base", False),
        ("--model.freeze-base true", "model.freeze_base", True),
        ("--lora.targets query key value", "lora.targets", ("query", "key", "value")),
        ("--lora.targets=query key", "lora.targets", ("query", "key")),
        ("--lora.layers all", "lora.layers", "all"),
        ("--lora.layers 0 1 5", "lora.layers", (0, 1, 5)),
        ("--lora.layers 7", "lora.layers", (7,)),
        ("--lora.rank auto", "lora.rank", "auto"),
        ("--lora.rank 8", "lora.rank", 8),
        ("--data.label-names", "data.label_names", ()),
        ("--data.label-names 'Middle East' Sport", "data.label_names", ("Middle East", "Sport")),
        ("--data.source=a=b.csv", "data.source", "a=b.csv"),
        ("--model.base=--odd", "model.base", "--odd"),
        ("--train.learning-rate 1e-3", "train.learning_rate", 1e-3),
        ("--train.prefix-cache-gb 0.5", "train.prefix_cache_gb", 0.5),
        ("--budget 500_000", "budget", 500_000),
        ("--seed 1 --seed 2", "seed", 2),
    ],
)
def test_flags_are_read_as_they_are_written(words: str, key: str, value: object) -> None:
    found = flat(resolve([*shlex.split(words), "--output.dir", "out"]).config)
    assert found[key] == value and found["output.dir"] == "out"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--lora.rnak 8", "unknown flag --lora.rnak; did you mean --lora.rank?"),
        ("--epochs=3", "unknown flag --epochs; did you mean --train.epochs?"),
        ("-r 3", "unknown flag -r"),
        ("--lora.rank x", "--lora.rank: expected a whole number or auto, found x"),
        ("--lora.rank --seed 1", "--lora.rank: expected a whole number or auto, found nothing"),
        ("--lora.layers 0 x", "--lora.layers: expected all or a list of whole numbers, found 0 x"),
        ("--train.precision fp16", "--train.precision: expected auto, int8, bf16 or fp32, found fp16"),
        ("--model.freeze-base maybe", "--model.freeze-base: expected true or false, found maybe"),
        ("--model.no-freeze-base=true", "--model.no-freeze-base: takes no value, found true"),
        ("--seed -1", "--seed: expected at least 0, found -1"),
        ("--seed 1 2", "unexpected '2'"),
        ("--train.batch-size 0", "--train.batch-size: expected at least 1, found 0"),
    ],
)
def test_a_wrong_flag_says_what_was_expected(words: str, text: str) -> None:
    assert message(argv=words.split()) == text


def test_a_file_without_its_flag_is_told_which_one(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    assert message(argv=[str(path)]) == f"unexpected {str(path)!r}; fix: --data.source {path}"


def test_all_problems_of_the_flags_come_in_one_error() -> None:
    lines = message(argv=["--lora.rnak", "8", "--seed", "x", "--budget"]).splitlines()
    assert lines[0] == "3 problems" and len(lines) == 4


def test_positional_words_are_told_from_the_values_of_flags() -> None:
    for words in (["a.csv", "--seed", "1"], ["--seed", "1", "a.csv"], ["--model.freeze-base", "a.csv", "--seed=1"]):
        values, stray = read_flags(RunFlags, words, positionals=1)
        assert values["seed"] == 1 and stray == ["a.csv"]


# Precedence


def test_flags_win_over_arguments_and_those_over_the_recipe(tmp_path: Path) -> None:
    path = write(tmp_path, "seed = 1\nbudget = 10\n[lora]\nrank = 1\nalpha = 1")
    resolved = resolve(["--seed", "3"], recipe=path, overrides={"seed": 2, "lora.rank": 2})
    assert (resolved.config.seed, resolved.config.lora.rank, resolved.config.budget) == (3, 2, 10)
    assert resolved.origins["seed"] == "flag"
    assert resolved.origins["lora.rank"] == "argument"
    assert resolved.origins["lora.alpha"] == f"recipe {path}"
    assert resolved.origins["lora.dropout"] == "default"


def test_a_recipe_among_the_flags_may_come_last_and_wins() -> None:
    resolved = resolve(["--lora.rank", "7", "--recipe", "quickstart"], recipe="seed")
    assert resolved.config.lora.rank == 7 and resolved.config.model.head == "linear"
    assert resolved.origins["model.head"] == "recipe quickstart"


def test_the_callers_mapping_is_left_alone() -> None:
    overrides = {"lora.targets": ["query"], "lora": {"rank": 3}}
    assert resolve(overrides=overrides).config.lora.rank == 3
    assert overrides == {"lora.targets": ["query"], "lora": {"rank": 3}}


# What has no effect, and the printout


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({}, ["model.train_last_k_layers = 2"]),
        ({"model.freeze_base": False}, []),
        ({"model.freeze_base": False, "model.train_last_k_layers": 0}, ["model.freeze_base = false"]),
        ({"model.train_last_k_layers": 0}, []),
        ({"model.train_last_k_layers": 0, "lora.rank": 0}, ["lora.alpha"]),
        (
            {"model.train_last_k_layers": 0, "lora.rank": 0, "train.adapter_scale": 0.8},
            ["lora.alpha, lora.dropout, lora.targets, lora.layers, train.adapter_scale:"],
        ),
        ({"model.train_last_k_layers": 0, "model.revision": "main"}, []),
        ({"model.train_last_k_layers": 0, "model.window": 128}, ["model.window = 128"]),
        ({"model.train_last_k_layers": 0, "model.window": 127}, []),
        ({"model.train_last_k_layers": 0, "model.window": "auto"}, []),
        ({"model.train_last_k_layers": 0, "model.revision": "main", "model.base": "package:x"}, ["model.revision"]),
        (
            {"model.train_last_k_layers": 0, "data.validation_fraction": 0, "train.patience": 2, "train.eval_steps": 5},
            ["train.patience = 2", "train.eval_steps = 5"],
        ),
        (
            {"model.train_last_k_layers": 0, "train.consistency": 1, "model.dropout": 0, "lora.dropout": 0},
            ["train.consistency = 1"],
        ),
        (
            {
                "model.train_last_k_layers": 0,
                "train.consistency": 1,
                "model.dropout": 0,
                "train.augment": 0.5,
                "lora.dropout": 0,
            },
            [],
        ),
    ],
)
def test_settings_without_effect_are_named(overrides: dict[str, object], expected: list[str]) -> None:
    config = resolve(overrides=overrides).config
    lines = without_effect(config, 0 if config.data.validation_fraction == 0 else 20)
    assert len(lines) == len(expected)
    assert all(line.startswith(start) for line, start in zip(lines, expected, strict=True))


def test_the_printout_shows_every_value_with_its_origin() -> None:
    console = Console(width=120, file=StringIO())
    print_config(resolve(["--data.label-names", "[b]", "c d"], "quickstart"), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert set(KEYS) <= set(lines)
    assert "'[b]' 'c d'" in lines["data.label_names"]
    assert lines["data.label_names"].rstrip().endswith("flag")
    assert lines["model.head"].rstrip().endswith("recipe quickstart")
