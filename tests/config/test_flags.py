"""Flags are read into the settings that they name, and the help lists them all."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from submillion.config.flags import print_help, read_flags
from submillion.config.resolve import RunFlags, resolve
from submillion.config.schema import Config
from submillion.config.values import flag_name, flat, shown
from submillion.errors import ConfigError

KEYS = list(flat(Config()))


def message(argv: list[str]) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve(argv)
    return str(caught.value)


@dataclass(frozen=True)
class Inner:
    share: float = 0.5
    """What is kept,
    in %."""
    tags: tuple[str, ...] = ("a", "b c")
    """Names; all of them are read."""
    quick: bool = True
    """Leave out what takes long."""


@dataclass(frozen=True)
class Base:
    rank: int | Literal["auto"] = 0
    """The text of a base class."""


@dataclass(frozen=True)
class Tree(Base):
    inner: Inner = field(default_factory=Inner)
    form: Literal["csv", "json"] = "csv"
    """How it is written."""
    source_name: str = ""
    """Where it is read, with a name so long that it does not fit into a line of eighty
    characters."""


HELP = """\
usage: submillion try [FILE] [FLAGS]

Try it.

In two paragraphs.

options:
  -h, --help            show this help message and exit
  --rank N|auto         The text of a base class. (default: 0)
  --form csv|json       How it is written. (default: csv)
  --source-name TEXT    Where it is read, with a name so long that it does not
                        fit into a line of eighty characters. (default: none)

inner:
  --inner.share X       What is kept, in %. (default: 0.5)
  --inner.tags TEXT ...
                        Names; all of them are read. (default: a 'b c')
  --inner.quick, --inner.no-quick
                        Leave out what takes long. (default: true)
"""


def test_the_help_has_every_flag_by_section_with_its_text_and_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_help("try [FILE]", "Try it.\n\nIn two paragraphs.", Tree())
    assert capsys.readouterr().out == HELP


def test_the_help_escapes_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_help("try", "Try it.", Tree(source_name="\x1b[31m"))
    assert "(default: \\x1b[31m)" in " ".join(capsys.readouterr().out.split())


def test_the_help_breaks_no_flag_in_two(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    print_help("train", "Train.", RunFlags())
    assert not [line for line in capsys.readouterr().out.splitlines() if line.endswith("-")]


def test_any_tree_is_read() -> None:
    words = ["a", "--inner.tags", "x", "y", "--inner.no-quick", "b", "--rank=auto", "-", "--inner.share", "-.5", "c"]
    expected = {"inner.tags": ("x", "y"), "inner.quick": False, "rank": "auto", "inner.share": -0.5}
    assert read_flags(Tree, words, positionals=4) == (expected, ["a", "b", "-", "c"])


# The flags of a run


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
        ("--train.few-labels", "train.few_labels", True),
        ("--train.no-few-labels", "train.few_labels", False),
        ("--train.no_few_labels", "train.few_labels", False),
        ("--train.few-labels false", "train.few_labels", False),
        ("--train.few-labels=False", "train.few_labels", False),
        ("--train.few-labels true", "train.few_labels", True),
        ("--lora.targets query key value", "lora.targets", ("query", "key", "value")),
        ("--lora.targets=query key", "lora.targets", ("query", "key")),
        ("--robust.normalise clean spelling", "robust.normalise", ("clean", "spelling")),
        ("--robust.normalise", "robust.normalise", ()),
        ("--lora.rank auto", "lora.rank", "auto"),
        ("--lora.rank 8", "lora.rank", 8),
        ("--data.label-names", "data.label_names", ()),
        ("--data.label-names 'Middle East' Sport", "data.label_names", ("Middle East", "Sport")),
        ("--data.source=a=b.csv", "data.source", "a=b.csv"),
        ("--model.base=--odd", "model.base", "--odd"),
        ("--train.learning-rate 1e-3", "train.learning_rate", 1e-3),
        ("--model.dropout .5", "model.dropout", 0.5),
        ("--model.base owner/name@v1", "model.base", "owner/name@v1"),
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
        ("--robust.normalise clean x", "--robust.normalise: expected a list of clean or spelling, found clean x"),
        ("--train.precision fp16", "--train.precision: expected auto, int8, bf16 or fp32, found fp16"),
        ("--train.few-labels maybe", "--train.few-labels: expected true or false, found maybe"),
        ("--train.no-few-labels=true", "--train.no-few-labels: takes no value, found true"),
        ("--seed -1", "--seed: expected at least 0, found -1"),
        ("--seed 1 2", "unexpected '2'"),
        ("--train.batch-size 0", "--train.batch-size: expected at least 1, found 0"),
    ],
)
def test_a_wrong_flag_says_what_was_expected(words: str, text: str) -> None:
    assert message(words.split()) == text


def test_a_file_without_its_flag_is_told_which_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.touch()
    assert message([str(path)]) == f"unexpected {str(path)!r}; fix: --data.source {path}"


def test_all_problems_of_the_flags_come_in_one_error() -> None:
    lines = message(["--lora.rnak", "8", "--seed", "x", "--budget"]).splitlines()
    assert lines[0] == "3 problems" and len(lines) == 4


def test_positional_words_are_told_from_the_values_of_flags() -> None:
    for words in (["a.csv", "--seed", "1"], ["--seed", "1", "a.csv"], ["--train.few-labels", "a.csv", "--seed=1"]):
        values, stray = read_flags(RunFlags, words, positionals=1)
        assert values["seed"] == 1 and stray == ["a.csv"]
