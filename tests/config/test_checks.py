"""The range of every setting, settings that do not go together, and settings that change nothing."""

from dataclasses import replace
from pathlib import Path

import pytest

from submillion.config.checks import check, without_effect
from submillion.config.mapping import from_mapping
from submillion.config.resolve import resolve
from submillion.config.schema import Config
from submillion.config.values import flat
from submillion.errors import ConfigError

WRONG = [
    ("model.base", 3),
    ("model.head", "big"),
    ("model.max_length", 2),
    ("model.max_length", 3.0),
    ("model.max_length", True),
    ("model.dropout", 1),
    ("model.dropout", -0.1),
    ("model.dropout", float("nan")),
    ("model.ngram_buckets", -1),
    ("model.unfreeze_layers", -1),
    ("model.unfreeze_layers", True),
    ("lora.rank", -1),
    ("lora.rank", "most"),
    ("lora.rank", True),
    ("lora.targets", []),
    ("lora.targets", "query"),
    ("lora.targets", ["query", "query"]),
    ("lora.targets", ["all-linear", "query"]),
    ("lora.targets", ["q_proj"]),
    ("data.source", 3),
    ("data.label_names", ["one"]),
    ("data.label_names", ["one", "one"]),
    ("data.label_names", [1, 2]),
    ("data.validation_fraction", 1),
    ("data.test_fraction", -0.1),
    ("data.reading", "separator=tab"),
    ("data.reading", ["separator=ab"]),
    ("data.repair", ["merge"]),
    ("train.batch_size", 0),
    ("train.learning_rate", 0),
    ("train.learning_rate", "1e-3"),
    ("train.learning_rate", float("inf")),
    ("train.learning_rate", 10**400),
    ("train.epochs", 0),
    ("train.epochs", 1.5),
    ("train.class_weights", True),
    ("train.few_labels", 1),
    ("train.precision", "fp16"),
    ("robust.noise", 0.5),
    ("robust.normalise", ["cleaning"]),
    ("robust.adapter_scale", -0.1),
    ("robust.adapter_scale", 1.1),
    ("output.dir", "half \ud800 pair"),
    ("budget", 0),
    ("seed", -1),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_wrong_value_is_refused_by_its_key(key: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(overrides={key: value})
    text = str(caught.value)
    assert text.startswith(f"{key}: ") and "\n" not in text


@pytest.mark.parametrize(
    ("key", "value", "held"),
    [
        ("model.max_length", 3, 3),
        ("model.dropout", 0, 0.0),
        ("model.base", Path("a") / "b", str(Path("a") / "b")),
        ("model.base", "owner/name@v1.0", "owner/name@v1.0"),
        ("lora.rank", 0, 0),
        ("lora.rank", "auto", "auto"),
        ("lora.targets", ["all-linear"], ("all-linear",)),
        ("data.label_names", [], ()),
        ("data.validation_fraction", 0, 0.0),
        ("train.learning_rate", 1, 1.0),
        ("robust.normalise", [], ()),
        ("robust.adapter_scale", 0, 0.0),
        ("robust.adapter_scale", 1, 1.0),
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
    with pytest.raises(ConfigError) as caught:
        resolve(overrides={"model.unfreeze_layers": 2, "robust.adapter_scale": 0.5})
    text = str(caught.value)
    assert text.startswith("robust.adapter_scale: expected 1 for a model whose last layers train in full")
    assert "found 0.5" in text and "fix: leave it at 1, or model.unfreeze_layers = 0" in text and "\n" not in text
    # What is refused is the whole: a later source may mend what an earlier one says.
    recipe = tmp_path / "run.toml"
    recipe.write_text("robust.adapter_scale = 0.5\n", encoding="utf-8")
    mended = resolve(["--robust.adapter-scale", "1"], recipe, {"model.unfreeze_layers": 2}).config
    assert mended.robust.adapter_scale == 1
    # A model that was saved so still opens.
    saved = from_mapping({"model": {"unfreeze_layers": 2}, "robust": {"adapter_scale": 0.5}})
    assert saved.robust.adapter_scale == 0.5


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({}, []),
        ({"lora.targets": ["all-linear"], "robust.adapter_scale": 0.8}, []),
        ({"lora.rank": 0}, []),
        ({"lora.rank": 0, "lora.targets": ["query"]}, ["lora.targets = query: lora.rank is 0"]),
        ({"lora.rank": 0, "robust.adapter_scale": 0.8}, ["robust.adapter_scale = 0.8: lora.rank is 0"]),
        (
            {"lora.rank": 0, "lora.targets": ["all-linear"], "robust.adapter_scale": 0.8},
            ["lora.targets = all-linear:", "robust.adapter_scale = 0.8:"],
        ),
    ],
)
def test_settings_without_effect_are_named(overrides: dict[str, object], expected: list[str]) -> None:
    lines = without_effect(resolve(overrides=overrides).config)
    assert len(lines) == len(expected)
    assert all(line.startswith(start) for line, start in zip(lines, expected, strict=True))
