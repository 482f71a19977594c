"""data.separator = ";" stands for a word of data.reading, in flags, in recipes and in arguments from Python."""

from pathlib import Path

import pytest

from submillion.commands.flags import EvaluateFlags, PredictFlags
from submillion.config.mapping import overlay
from submillion.config.resolve import resolve
from submillion.config.schema import DataConfig
from submillion.errors import ConfigError


def data_of(*argv: str, recipe: Path | None = None, **overrides: object) -> DataConfig:
    return resolve(argv, recipe, {f"data.{name}": value for name, value in overrides.items()}).config.data


@pytest.mark.parametrize(
    ("argv", "reading"),
    [
        (["--data.separator", ";"], ("separator=;",)),
        (["--data.separator", "tab", "--data.encoding=cp1252"], ("separator=tab", "encoding=cp1252")),
        (["--data.separator", "="], ("separator==",)),
        (["--no-header", "--data.quoting", "no"], ("header=no", "quoting=no")),
        (["--header"], ("header=yes",)),
        (["--data.header", "no", "--data.header", "yes"], ("header=yes",)),
        (["--data.reading", "separator=tab", "header=no"], ("separator=tab", "header=no")),
        (["--data.reading", "separator=tab", "header=no", "--data.separator", "|"], ("header=no", "separator=|")),
        (["--data.reading", "header=no", "--data.header", "auto"], ()),
    ],
)
def test_short_flags_are_words_of_the_reading(argv: list[str], reading: tuple[str, ...]) -> None:
    assert data_of(*argv).reading == reading


@pytest.mark.parametrize(
    ("argv", "repair"),
    [
        (["--data.merge-labels"], ("merge-labels",)),
        (["--data.skip-bad-rows", "--data.merge-labels", "true"], ("skip-bad-rows", "merge-labels")),
        (["--data.repair", "merge-labels", "skip-bad-rows", "--data.no-merge-labels"], ("skip-bad-rows",)),
        (["--data.repair", "merge-labels", "--data.merge-labels"], ("merge-labels",)),
        (["--data.merge-labels", "false"], ()),
    ],
)
def test_short_flags_are_words_of_the_repair(argv: list[str], repair: tuple[str, ...]) -> None:
    data = data_of(*argv)
    assert data.repair == repair
    assert (data.merge_labels, data.skip_bad_rows) == ("merge-labels" in repair, "skip-bad-rows" in repair)


def test_a_recipe_and_arguments_take_them_too_and_each_changes_its_own_word(tmp_path: Path) -> None:
    recipe = tmp_path / "run.toml"
    recipe.write_text('[data]\nseparator = ";"\nheader = "no"\nmerge_labels = true\n', encoding="utf-8")
    assert data_of(recipe=recipe).reading == ("separator=;", "header=no") and data_of(recipe=recipe).merge_labels
    assert data_of(recipe=recipe, separator="tab").reading == ("header=no", "separator=tab")
    assert data_of("--header", recipe=recipe, separator="auto").reading == ("header=yes",)
    assert not data_of("--data.no-merge-labels", recipe=recipe).repair
    origins = resolve(["--header"], recipe).origins
    assert (origins["data.reading"], origins["data.repair"]) == ("flag", f"recipe {recipe}")


def test_predict_and_evaluate_have_the_same_short_forms() -> None:
    assert overlay(PredictFlags(), {"separator": "tab", "header": "no"}).reading == ("separator=tab", "header=no")
    assert overlay(EvaluateFlags(), {"data.encoding": "cp1252"}).data.reading == ("encoding=cp1252",)


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (
            ["--data.separator", "ab"],
            '--data.separator: expected auto, or tab, comma, semicolon, pipe, or .*found "ab"',
        ),
        (["--data.separator", '"'], "--data.separator: expected auto, or tab"),
        (["--data.separator="], "--data.separator: expected auto, or tab"),
        (["--data.encoding", "klingon"], '--data.encoding: expected auto, or an encoding .*found "klingon"'),
        (["--data.encoding", "rot13"], "--data.encoding: expected auto, or an encoding of text"),
        (["--data.encoding", "zip"], "--data.encoding: expected auto, or an encoding of text"),
        (["--data.header", "maybe"], "--data.header: expected auto, yes or no, found maybe"),
        (["--no-header=yes"], "--no-header: takes no value, found yes"),
        (["--data.merge-labels", "maybe"], "--data.merge-labels: expected true or false, found maybe"),
        (["--data.separatr", ";"], r"unknown flag --data.separatr; did you mean --data.separator\?"),
        (["--data.reading", "separator"], "--data.reading: expected words such as separator=..., .*found .separator"),
        (["--data.reading", "encodin=utf-8"], "--data.reading: .*did you mean encoding"),
        (["--data.reading", "encoding=klingon"], '--data.reading: encoding: expected an encoding .*found "klingon"'),
        (["--data.reading", "header=auto"], '--data.reading: header: expected yes or no, found "auto"'),
        (["--data.reading", "header=no", "header=yes"], "--data.reading: expected each word once"),
        (["--data.repair", "labels"], "--data.repair: expected a list of merge-labels or skip-bad-rows, found labels"),
    ],
)
def test_a_word_that_cannot_be_read_is_refused_as_it_was_typed(argv: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=f"^{problem}"):
        resolve(argv)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("header", True, "expected auto, yes or no, found true"),
        ("separator", 3, "expected text, found 3"),
        ("merge_labels", "yes", 'expected true or false, found "yes"'),
        ("skip_bad_rows", 1, "expected true or false, found 1"),
    ],
)
def test_a_value_of_another_type_is_refused_by_the_short_key(name: str, value: object, problem: str) -> None:
    with pytest.raises(ConfigError, match=f"^data.{name}: {problem}"):
        data_of(**{name: value})
