"""One frozen dataclass tree: the configuration of a run.

Values come from, in rising order of precedence: the defaults below (the seed recipe's), a TOML recipe, arguments in
Python, command-line flags. `resolve` returns the tree together with the origin of each value.
"""

import codecs
import json
import shlex
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from math import isfinite
from os import PathLike, fspath
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from submillion.errors import ConfigError, did_you_mean, encodable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from rich.console import Console

T = TypeVar("T", bound="DataclassInstance")
IN_MEMORY = "data in memory"  # data.source of a run whose rows were given from Python


@dataclass(frozen=True)
class ModelConfig:
    base: str = "roberta-base"
    """Pretrained encoder: a local folder, package:NAME (an installed package that carries one), or a hub id."""
    revision: str = ""
    """Branch, tag or commit of a hub id; empty for its default branch."""
    head: Literal["stock", "linear"] = "stock"
    """stock: dense, tanh or what the family has there, linear (59 % of a million at size 768); linear: one layer."""
    pooling: Literal["first", "mean"] = "first"
    """What the head reads: the first token's hidden state, or the mean over all tokens."""
    max_length: int = 128
    """Tokens a row at most, special tokens included; longer rows are cut."""
    window: int | Literal["auto"] = 0
    """Tokens, special tokens included, that predictions compute together: a longer row is computed in equal windows of
    at most so many, each as a row of its own, and its logits are their mean. Pooled means of rows longer than those
    trained on drift. Training takes rows whole. auto: what 199 of 200 training rows fit in; 0: rows are whole."""
    ngram_buckets: int = 0
    """Rows of a table with a logit per label for each token and each pair of tokens, by hash; 0: none. Fitted after the
    adapters, to whole texts, also beyond max_length; how much it weighs beside the encoder is chosen on validation rows
    where there are 100 or more, else it weighs alike."""
    clean_text: bool = False
    """Read HTML's tags and escapes as they would be shown, and letters that only look Latin (a Cyrillic a, full-width
    and bold ones) as Latin where the word is. The saved tokenizer does it from then on, in every export too."""
    correct_spelling: bool = False
    """Read a word of four letters or more that the training texts do not hold as the most frequent of theirs one edit
    from it, if there is one: typos, and letters wrong on purpose. For languages that put spaces between words. The
    saved model holds the words of its training texts, data.unlabelled included."""
    dropout: float = 0.1
    """While training: on hidden states, attention weights and the head's input."""
    freeze_base: bool = True
    """True: no pretrained weight trains. False: the last train_last_k_layers encoder layers train in full."""
    train_last_k_layers: int = 2
    """Read only where freeze_base is false. Two layers of roberta-base are 14.2 M parameters."""

    @property
    def has_windows(self) -> bool:
        """Whether some rows are longer than the window, a number by now."""
        return 0 < int(self.window) < self.max_length

    @property
    def opened_layers(self) -> int:
        """How many of the last encoder layers train in full, where the encoder has so many."""
        return 0 if self.freeze_base else self.train_last_k_layers


@dataclass(frozen=True)
class LoraConfig:
    rank: int | Literal["auto"] = 2
    """Rank of every adapter; 0 trains the head alone; auto takes the largest that fits the budget."""
    alpha: float = 4.0
    """Adapters are scaled by alpha / rank."""
    dropout: float = 0.05
    """On the adapters' input while training."""
    targets: tuple[str, ...] = ("query", "value")
    """Of query, key, value, attention_output, intermediate, output; all-linear is all six."""
    layers: Literal["all"] | tuple[int, ...] = "all"
    """Encoder layers that carry adapters, counted from 0."""


@dataclass(frozen=True)
class DataConfig:
    source: str = "fancyzhx/ag_news"
    """A file (csv, tsv, jsonl, json, parquet, arrow, xlsx, pkl, fastText's txt; text also as .gz, .bz2, .xz, .zst or
    .zip), a folder with train.* and test.* or with a folder for each label, package:NAME/CORPUS, or a hub id."""
    text_column: str = ""
    """Empty: found by name (text, sentence, content ...). Several, to be joined: Title,Description.
    By number, from 1: 2 or 2,3."""
    label_column: str = ""
    """Empty: found by name (label, labels, category ...). A name, or a number from 1."""
    separator: str = "auto"
    """Separator of the columns of a text file: one character, or tab. auto: found by counting."""
    encoding: str = "auto"
    """Encoding of text files, such as cp1252 or gb18030. auto: UTF-8, else found by the bytes."""
    header: Literal["auto", "yes", "no"] = "auto"
    """Whether the first line names the columns. Short: --header, --no-header. auto: no, where it looks like the rows
    below. Without a header, columns are named by number, from 1."""
    quoting: Literal["auto", "yes", "no"] = "auto"
    """Whether quotes hold fields of a text file together. auto: no, for a tsv whose quotes do not balance."""
    label_names: tuple[str, ...] = ()
    """Names of the labels in order. Empty: the source's own. A label outside the list is an error.
    A recipe's names go with its source: with another --data.source they are empty unless given too."""
    merge_labels: bool = False
    """Read labels that look alike (sport, Sport, an invisible space) as one: the most frequent spelling."""
    skip_bad_rows: bool = False
    """Leave out rows that cannot be used, such as those without a label; skipped.csv in output.dir lists them."""
    validation_fraction: float = 0.05
    """Share of the training rows kept for choosing the best step; cut by label and by group of near-equal texts."""
    test_fraction: float = 0.2
    """Share of the rows kept for the final measurement where the source brings no test split of its own."""
    unlabelled: str = ""
    """A file of more texts, without labels: those whose labels are surest become training rows too, labelled by a
    regression on the pretrained features; or all do, labelled by adapters trained on the labelled rows alone, where 100
    validation rows or more show these to be better. They and the labelled rows then train in half of train.epochs.
    Without 50 validation rows, a tenth of 500 texts or more does not train: probabilities are calibrated on it."""
    teacher: str = ""
    """A saved model of the same labels, ours or one that transformers saved, which labels all texts of data.unlabelled
    in place of this run: a small encoder learns what a large one knows."""
    label_template: str = ""
    """A sentence with {} in a label name's place, such as "This text is about {}.": each name in it becomes a training
    row, where the pretrained encoder tells the labelled rows apart by the names alone. For a few rows, and names that
    say what the label means. Empty: names are not read."""


@dataclass(frozen=True)
class TrainConfig:
    batch_size: int = 32
    """Rows computed at once in training."""
    eval_batch_size: int = 64
    """Rows computed at once in evaluations; on a GPU, more of short rows: as many tokens as these of 512."""
    accumulation_steps: int = 1
    """Batches whose gradients are added before one optimiser step."""
    learning_rate: float = 5e-6
    """Peak of the schedule."""
    epochs: int = 1
    """Passes over the training rows."""
    weight_decay: float = 0.01
    """Decoupled (AdamW); on matrices only, not on biases."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm; 0 does not clip."""
    warmup_fraction: float = 0.0
    """Share of the steps over which the learning rate rises from 0."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Of the learning rate after the warm-up: linear and cosine fall to 0, constant stays."""
    label_smoothing: float = 0.0
    """Share of the target that is spread evenly over all labels."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: each label weighs n / (labels * n_label)."""
    eval_steps: int = 0
    """Optimiser steps between evaluations on the validation rows; 0 evaluates at the end of each epoch."""
    patience: int = 0
    """Stop after this many evaluations without a lower validation loss; 0 never stops early."""
    head_first: bool = False
    """Fit the head to the pretrained encoder's features before the first step: one more pass, without gradients."""
    augment: float = 0.0
    """Share of the training rows that each epoch shows under noise, drawn anew: typos, lost case, cut text, debris."""
    consistency: float = 0.0
    """Above 0, each step computes its rows twice, as they are and as augment shows them, each with dropout of its own,
    and this many times the divergence of the two answers is added to the loss (R-Drop). A step takes twice as long."""
    cross_validation: int = 0
    """So many models are trained before this one, each without a part of the training rows, and asked about that part:
    it tells how right this one may be on other rows, and how sure, where fewer than 50 validation rows and no texts
    held back do. Training takes about so many times as long. No more parts than a label has rows. 0: none."""
    adapter_scale: float = 1.0
    """The best step's adapters are multiplied by this at the end: below 1, the saved model lies between the pretrained
    encoder and the trained one, which holds better on texts unlike the training rows. Only 1 where encoder layers train
    in full: what they learned is in no adapter."""
    precision: Literal["auto", "int8", "bf16", "fp32"] = "auto"
    """Of the encoder's arithmetic. int8: of its products by frozen weights, and bf16 between; where adapters have
    dropout, their layers train in bf16. auto: int8 where the processor gains by it and the encoder is hardly moved by
    it, else bf16 where it computes that fast, else fp32."""
    prefix_cache_gb: float = 4.0
    """Where the lowest layers have neither adapters nor open weights: the size up to which what they compute is kept in
    a temporary file (in TMPDIR), so that they run once and not in every pass. The losses are the same to rounding.
    0 keeps nothing, and so does any model.dropout above 0: frozen layers then differ from pass to pass."""


LabelForm = Literal["auto", "names", "integers"]


@dataclass(frozen=True)
class OutputConfig:
    dir: str = "best_model"
    """model.pt, metrics.json, history.jsonl, config.toml, and README.md, the model's card, with its plots."""
    assets: str = "assets"
    """loss.png and accuracy.png."""
    tensorboard: str = ""
    """A folder for TensorBoard's event files, one a run, written as training goes; empty writes none."""
    labels: LabelForm = "auto"
    """What predict writes as the label. auto, names: its name; integers: its place among the names, counted from 0.
    Names that look like numbers are always written as they are."""


@dataclass(frozen=True)
class Config:
    model: ModelConfig = field(default_factory=ModelConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    budget: int = 1_000_000
    """Trainable parameters allowed: adapters, head, n-grams, and what freeze_base = false opens."""
    seed: int = 0
    """Covers the split, the initialisation, the order of rows, dropout and noise, each through its own generator."""


# Resolving: defaults, then a recipe, then arguments, then flags. All four pass the same checks (`overlay`).


@dataclass(frozen=True)
class Resolved:
    """A configuration together with where each value came from."""

    config: Config
    origins: dict[str, str]
    """{dotted key: "default", "recipe NAME", "argument" or "flag"}."""


@dataclass(frozen=True)
class RunFlags(Config):
    """The flags of a run: every setting of the configuration, and the recipe to start from."""

    recipe: str = ""
    """Start from this recipe: the name of one that is shipped, or a .toml file. Flags then override it."""


def resolve(
    argv: Sequence[str] = (), recipe: str | Path | None = None, overrides: Mapping[str, object] | None = None
) -> Resolved:
    """The configuration from flags, a recipe and dotted overrides such as {"lora.rank": 8}; flags win over overrides.

    A `--recipe` among the flags wins over `recipe`. Raises ConfigError with every problem of one source at once.
    """
    flags, _ = read_flags(RunFlags, argv)
    chosen = flags.pop("recipe", None) or recipe
    return combine(str(chosen) if chosen else None, overrides or {}, flags)


def combine(
    recipe: str | Path | None = None,
    overrides: Mapping[str, object] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Resolved:
    """As `resolve`, with the flags read already (`read_flags`) and without their recipe."""
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
        values = _dotted(mapping)
        if "data.source" in values:
            # The names that a recipe gives go with its source: another source brings its own, or is given some too.
            config = replace(config, data=replace(config.data, label_names=()))
            origins["data.label_names"] = "default"
        config = overlay(config, values, where, spell)
        origins.update(dict.fromkeys(values, origin))
    check(config)  # not each source alone: what one says another may mend
    return Resolved(config, origins)


def recipes_folder() -> Path:
    """Where the shipped recipes lie: inside the installed package, or at the root of the repository."""
    here = Path(__file__).resolve().parent
    inside = here / "recipes"
    return inside if inside.is_dir() else here.parents[1] / "recipes"


def recipe_names() -> list[str]:
    """Names of the shipped recipes, sorted."""
    return sorted(path.stem for path in recipes_folder().glob("*.toml"))


def find_recipe(name_or_path: str | Path) -> Path:
    """The file of a recipe: a shipped one by name ("seed"), any other by its path. Raises ConfigError for neither."""
    text = str(name_or_path)
    shipped = recipe_names()
    if text in shipped:
        return recipes_folder() / f"{text}.toml"
    path = Path(text)
    if path.suffix == ".toml" and path.is_file():
        return path
    hint = did_you_mean(path.stem, shipped)
    raise ConfigError(f"no recipe {text!r}{hint}\nexpected a .toml file or one of: {', '.join(shipped)}")


def check(config: Config) -> None:
    """Raises ConfigError with every value of the tree that lies outside its range or does not go with another."""
    problems = _range_problems(flat(config))
    if config.model.opened_layers and config.train.adapter_scale != 1:
        problems.setdefault(
            "train.adapter_scale",
            "expected 1 where encoder layers train in full (model.freeze_base = false), for it scales adapters alone, "
            f"found {config.train.adapter_scale:g}; fix: leave it at 1, or model.freeze_base = true",
        )
    _refuse([f"{key}: {problem}" for key, problem in problems.items()])


def without_effect(config: Config, validation_rows: int) -> list[str]:
    """Settings that change nothing in a run with so many validation rows, each with the reason."""
    model, lora, train = config.model, config.lora, config.train
    lines = []
    if model.freeze_base and model.train_last_k_layers:
        value = model.train_last_k_layers
        lines.append(f"model.train_last_k_layers = {value}: freeze_base is true, so no pretrained layer trains")
    if not model.freeze_base and not model.train_last_k_layers:
        lines.append("model.freeze_base = false: train_last_k_layers is 0, so no pretrained layer trains")
    if model.revision and (model.base.startswith("package:") or Path(model.base).is_dir()):
        lines.append(f"model.revision = {model.revision}: {model.base} is not a hub id")
    if model.window != "auto" and model.window >= model.max_length:
        lines.append(f"model.window = {model.window}: no row is longer than model.max_length = {model.max_length}")
    if config.data.teacher and not config.data.unlabelled:
        lines.append(f"data.teacher = {config.data.teacher}: without data.unlabelled there are no texts to label")
    if lora.rank == 0:
        keys = ["lora.alpha", "lora.dropout", "lora.targets", "lora.layers"]
        keys += ["train.adapter_scale"] * (train.adapter_scale != 1)
        lines.append(f"{', '.join(keys)}: lora.rank is 0, so there are no adapters")
    if train.consistency and not (train.augment or model.dropout or (lora.dropout and lora.rank)):
        lines.append(f"train.consistency = {train.consistency:g}: without augment and dropout there is one answer")
    if not validation_rows:
        for key, value in (("patience", train.patience), ("eval_steps", train.eval_steps)):
            if value:
                lines.append(
                    f"train.{key} = {value}: there are no validation rows, so nothing is evaluated in training"
                )
    return lines


# As text, tables and plain mappings.


def flat(tree: Any) -> dict[str, Any]:
    """{"model.base": "roberta-base", ...}: every value of a dataclass tree under its dotted key, in tree order."""
    values: dict[str, Any] = {}
    for item in fields(tree):
        value = getattr(tree, item.name)
        if is_dataclass(value):
            values.update({f"{item.name}.{key}": inner for key, inner in flat(value).items()})
        else:
            values[item.name] = value
    return values


def to_mapping(config: Config) -> dict[str, Any]:
    """The complete tree as nested plain dicts with lists for tuples: what TOML, JSON and the artefact hold."""
    mapping: dict[str, Any] = {}
    for key, value in flat(config).items():
        section, _, name = key.rpartition(".")
        table = mapping.setdefault(section, {}) if section else mapping
        table[name] = list(value) if isinstance(value, tuple) else value
    return mapping


def from_mapping(mapping: Mapping[str, object], where: str = "configuration") -> Config:
    """The configuration that `to_mapping` gave; keys that are absent keep their defaults.

    Raises ConfigError, its text beginning with `where`, with every unknown key, wrong type and value out of range.
    """
    return overlay(Config(), _dotted(mapping), where)


def to_toml(config: Config) -> str:
    """The complete tree as a recipe that reads back equal."""
    import tomli_w

    return tomli_w.dumps(to_mapping(config))


def rows(resolved: Resolved) -> Iterator[tuple[str, str, str]]:
    """(key, value as text, origin) of every setting, in tree order."""
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


# Flags. tyro draws the help from the same dataclasses, but its own errors cannot be worded, so reading them is ours.


def flag_name(key: str) -> str:
    """A dotted key as it is typed: --model.max-length for model.max_length."""
    return "--" + key.replace("_", "-")


def read_flags(kind: type, argv: Sequence[str], positionals: int = 0) -> tuple[dict[str, Any], list[str]]:
    """The flags of the dataclass tree `kind` in argv, as {dotted key: value}, and the words that belong to none.

    A flag takes one word, or, for a tuple, all up to the next flag. For `freeze_base: bool` there are --freeze-base,
    --no-freeze-base and --freeze-base true|false. Raises ConfigError with every problem, unknown flags and more than
    `positionals` stray words included.
    """
    kinds = key_types(kind)
    known = {flag_name(key): key for key in kinds} | {_negated(key): key for key in kinds if kinds[key] is bool}
    values: dict[str, Any] = {}
    stray: list[str] = []
    problems: list[str] = []
    queue = deque(_header_spelled_out(argv, kinds))
    while queue:
        word = queue.popleft()
        if not _is_flag(word):
            stray.append(word)
            continue
        typed_name, equals, attached = word.partition("=")
        name = typed_name.replace("_", "-")
        key = known.get(name)
        if key is None:
            problems.append(f"unknown flag {typed_name}{did_you_mean(name, list(known))}")
            while queue and not _is_flag(queue[0]):
                queue.popleft()
            continue
        words = [attached] if equals else []
        while queue and not _is_flag(queue[0]) and _takes(kinds[key], words, queue[0], positionals):
            words.append(queue.popleft())
        try:
            if kinds[key] is bool and not words:
                values[key] = name == flag_name(key)
            elif name == flag_name(key):
                values[key] = _from_words(words, kinds[key])
            else:
                problems.append(f"{name}: takes no value, found {shown(words)}")
        except ValueError:
            problems.append(f"{name}: expected {_described(kinds[key])}, found {shown(words) or 'nothing'}")
    for word in stray[positionals:]:
        hint = f"; fix: --data.source {word}" if "data.source" in kinds and Path(word).exists() else ""
        problems.append(f"unexpected {word!r}{hint}")
    _refuse(problems)
    return values, stray


def _header_spelled_out(argv: Sequence[str], kinds: Mapping[str, Any]) -> list[str]:
    """Returns the words with --header and --no-header as the flag of the setting that they stand for."""
    key = next((key for key in ("header", "data.header") if key in kinds), "")
    if not key:
        return list(argv)
    words = []
    for word, following in zip(argv, [*argv[1:], ""], strict=False):
        if word.lower() in ("--no-header", "--no_header"):
            word = f"{flag_name(key)}=no"
        elif word == "--header" and following not in ("auto", "yes", "no"):
            word = f"{flag_name(key)}=yes"
        elif word == "--header" or word.startswith("--header="):
            word = word.replace("--header", flag_name(key), 1)
        words.append(word)
    return words


def placeholder(kind: Any) -> str:
    """What stands for the value of a field of this type in the help: "N|auto", "TEXT ..."."""
    options = _options(kind)
    if len(options) > 1:
        return "|".join(placeholder(option) for option in options)
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    if get_origin(kind) is tuple:
        return f"{placeholder(get_args(kind)[0])} ..."
    return {int: "N", float: "X", str: "TEXT", bool: "true|false"}[kind]


def _negated(key: str) -> str:
    section, dot, name = key.rpartition(".")
    return flag_name(f"{section}{dot}no_{name}")


def _is_flag(word: str) -> bool:
    """-x and --name, but neither -5 nor -0.5: no flag begins with a digit."""
    return word.startswith("-") and word != "-" and not word[1:2].isdigit() and not word.startswith("-.")


def _takes(kind: Any, words: list[str], following: str, positionals: int) -> bool:
    """Whether a flag of this type, with these words so far, takes the following word too."""
    if any(get_origin(option) is tuple for option in _options(kind)):
        return True
    if kind is bool and positionals and following.lower() not in ("true", "false"):
        return False  # in `predict --scores FILE` the word is the file
    return not words


def _from_words(words: list[str], kind: Any) -> object:
    """The words of a flag as a value of this type. Raises ValueError."""
    options = _options(kind)
    if len(options) > 1:
        return _first_that_fits(lambda option: _from_words(words, option), options)
    if get_origin(kind) is tuple:
        return tuple(_from_words([word], get_args(kind)[0]) for word in words)
    if len(words) != 1:
        raise ValueError
    if kind is bool:
        return _converted({"true": True, "false": False}.get(words[0].lower()), bool)
    return kind(words[0]) if kind in (int, float) else _converted(words[0], kind)


# Checks, shared by recipes, arguments, flags and saved configurations.


def overlay(tree: T, values: Mapping[str, object], where: str = "", spell: Callable[[str], str] = str) -> T:
    """The dataclass tree with the values of some dotted keys replaced.

    Raises ConfigError with every unknown key, wrong type and value out of range; `spell` gives a key as it was written.
    """
    kinds = key_types(type(tree))
    problems: list[str] = []
    good: dict[str, object] = {}
    for key, value in values.items():
        if key not in kinds:
            problems.append(f"unknown key {key}{did_you_mean(key, list(kinds))}")
            continue
        try:
            good[key] = _converted(value, kinds[key])
        except (ValueError, OverflowError):  # a whole number may be too large for a float
            problems.append(f"{spell(key)}: expected {_described(kinds[key])}, found {_quoted(value)}")
    new = _replaced(tree, good)
    problems += [f"{spell(key)}: {problem}" for key, problem in _range_problems(flat(new)).items()]
    _refuse(problems, where)
    return new


SEPARATOR_WORDS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
TARGETS = ("query", "key", "value", "attention_output", "intermediate", "output")  # in the encoder's order

_AT_LEAST = {
    "model.max_length": 3,  # the two special tokens and one of the text's
    "model.ngram_buckets": 0,
    "model.train_last_k_layers": 0,
    "lora.rank": 0,
    "train.batch_size": 1,
    "train.eval_batch_size": 1,
    "train.accumulation_steps": 1,
    "train.epochs": 1,
    "train.weight_decay": 0,
    "train.max_grad_norm": 0,
    "train.eval_steps": 0,
    "train.patience": 0,
    "train.prefix_cache_gb": 0,
    "train.consistency": 0,
    "budget": 1,
    "seed": 0,
    "batch_size": 0,  # of predict and evaluate
}
_ABOVE_ZERO = ("lora.alpha", "train.learning_rate")
_BELOW_ONE = (
    "model.dropout",
    "lora.dropout",
    "data.validation_fraction",
    "data.test_fraction",
    "train.label_smoothing",
)


def _range_problems(values: Mapping[str, Any]) -> dict[str, str]:
    """{key: what is wrong} of the values, of the right type already, that lie outside their range."""
    problems: dict[str, str] = {}

    def expect(key: str, holds: bool, expected: str) -> None:
        if not holds:
            problems[key] = f"expected {expected}, found {_quoted(values[key])}"

    for key, value in values.items():
        if not all(encodable(str(part)) for part in (value if isinstance(value, tuple) else (value,))):
            expect(key, False, "text that UTF-8 can hold")
        elif isinstance(value, float) and not isfinite(value):
            expect(key, False, "a finite number")
        elif key in _AT_LEAST and value != "auto":
            expect(key, value >= _AT_LEAST[key], f"at least {_AT_LEAST[key]}")
        elif key in _ABOVE_ZERO:
            expect(key, value > 0, "more than 0")
        elif key in _BELOW_ONE:
            expect(key, 0 <= value < 1, "at least 0 and less than 1")
        elif key in ("train.warmup_fraction", "train.augment", "train.adapter_scale"):
            expect(key, 0 <= value <= 1, "0 to 1")
        elif key == "train.cross_validation":
            expect(key, value == 0 or value >= 2, "0, or at least 2 parts")
        elif key == "model.window" and value != "auto":
            expect(key, value == 0 or value >= 3, "auto, 0, or at least 3")  # two special tokens and one of the text's
        elif key == "lora.layers" and value != "all":
            expect(key, bool(value) and min(value) >= 0 and _unique(value), "all, or different layers counted from 0")
        elif key == "data.label_template" and value:
            expect(key, "{}" in value, "a sentence with {} in the label name's place")
        elif key.removeprefix("data.") == "separator":
            is_one = value == "auto" or value.lower() in SEPARATOR_WORDS or (len(value) == 1 and value not in '"\r\n')
            expect(key, is_one, "auto, tab, comma, semicolon, pipe, or one character")
        elif key.removeprefix("data.") == "encoding":
            expect(key, value == "auto" or _is_encoding(value), "auto, or an encoding of text that Python knows")
        elif key == "data.label_names" and value:
            expect(key, len(value) > 1 and _unique(value), "two or more different names, or none")
        elif key == "lora.targets" and (problem := _target_problem(value)):
            problems[key] = problem
    return problems


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
        return f"expected different targets, at least one, or all-linear alone, found {_quoted(targets)}"
    return ""


def _unique(items: Sequence[object]) -> bool:
    return len(set(items)) == len(items)


def _refuse(problems: list[str], where: str = "") -> None:
    """Raises ConfigError with all of the problems, if there are any."""
    if len(problems) == 1:
        raise ConfigError(f"{where}: {problems[0]}" if where else problems[0])
    if problems:
        heading = f"{where}: {len(problems)} problems" if where else f"{len(problems)} problems"
        raise ConfigError("\n  ".join([heading, *problems]))


def _converted(value: object, kind: Any) -> object:
    """The value as a field of this type holds it: tuples for lists, floats for whole numbers. Raises ValueError."""
    options = _options(kind)
    if len(options) > 1:
        return _first_that_fits(lambda option: _converted(value, option), options)
    if get_origin(kind) is Literal and isinstance(value, str) and value in get_args(kind):
        return value
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return tuple(_converted(item, get_args(kind)[0]) for item in value)
    if kind is float and type(value) is int:
        return float(value)
    if kind is str and isinstance(value, PathLike):
        return fspath(value)
    if type(value) is kind:  # not isinstance: True is no whole number
        return value
    raise ValueError


def _first_that_fits(read: Callable[[Any], object], options: tuple[Any, ...]) -> object:
    for option in options:
        try:
            return read(option)
        except ValueError:
            continue
    raise ValueError


def _options(kind: Any) -> tuple[Any, ...]:
    """The members of a union; of any other type, itself."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _described(kind: Any) -> str:
    options = _options(kind)
    if len(options) > 1:
        return " or ".join(_described(option) for option in options)
    if get_origin(kind) is Literal:
        return ", ".join(get_args(kind)[:-1]) + " or " * (len(get_args(kind)) > 1) + get_args(kind)[-1]
    if get_origin(kind) is tuple:
        return {str: "a list of texts", int: "a list of whole numbers"}[get_args(kind)[0]]
    return {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[kind]


def _quoted(value: object) -> str:
    """A value as a recipe would spell it."""
    return json.dumps(value, ensure_ascii=False, default=repr)


def shown(value: object) -> str:
    """A value as it is typed after its flag: "query value", "true", "5e-06"; empty text and lists as ""."""
    if isinstance(value, list | tuple):
        return shlex.join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def key_types(tree: Any) -> dict[str, Any]:
    """{dotted key: type} of a dataclass tree, in tree order."""
    kinds: dict[str, Any] = {}
    for name, inner in get_type_hints(tree).items():
        if is_dataclass(inner):
            kinds.update({f"{name}.{key}": leaf for key, leaf in key_types(inner).items()})
        else:
            kinds[name] = inner
    return kinds


def _replaced(tree: T, values: Mapping[str, object]) -> T:
    changes: dict[str, Any] = {}
    for key, value in values.items():
        section, dot, name = key.partition(".")
        if dot:
            changes[section] = replace(changes.get(section, getattr(tree, section)), **{name: value})
        else:
            changes[section] = value
    return replace(tree, **changes)


def _dotted(mapping: Mapping[str, object]) -> dict[str, object]:
    """Nested tables as dotted keys. An empty table that is no section stays, so that it is reported."""
    values: dict[str, object] = {}
    sections = {key.partition(".")[0] for key in key_types(Config) if "." in key}
    for key, value in mapping.items():
        if isinstance(value, Mapping) and (value or key in sections):
            values.update({f"{key}.{name}": inner for name, inner in _dotted(value).items()})
        else:
            values[str(key)] = value
    return values


def _read_toml(path: Path) -> dict[str, Any]:
    """Reads a recipe, with or without UTF-8's byte-order mark. Raises ConfigError for a file that is not TOML."""
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
