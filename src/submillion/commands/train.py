"""The command train: from a configuration to a saved model, measured."""

import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from submillion.atomic import check_writable
from submillion.config.checks import without_effect
from submillion.config.resolve import Resolved, combine, print_config, resolve
from submillion.config.schema import IN_MEMORY, Config
from submillion.console import terminal
from submillion.data.corpus import Corpus, load_corpus
from submillion.errors import ConfigError
from submillion.inference.artefact import FILE_NAME as MODEL
from submillion.inference.classifier import Classifier
from submillion.model.base import find_base
from submillion.model.cpu.build import built
from submillion.process.settings import own_settings
from submillion.report.card_file import FILE_NAME as CARD
from submillion.report.data_lines import data_lines
from submillion.report.plan import parts_table
from submillion.report.run_files import check_room, save_run, trained_rows
from submillion.report.summary import print_summary
from submillion.report.tensorboard import check_tensorboard, event_writer
from submillion.runtime.device import Compute
from submillion.runtime.distributed import World, join
from submillion.runtime.progress import is_quiet
from submillion.seeds import numpy_generator
from submillion.tasks.saved import task_of
from submillion.tasks.task import Task
from submillion.text.tokenizer import Tokenizer, Tokens
from submillion.training.few_labels.cross_validation import cross_validate
from submillion.training.learning import learn
from submillion.training.measuring import measure
from submillion.training.ngram_fit import add_ngrams
from submillion.training.planning import base_shape, fitting_shape, planned
from submillion.training.result import RunResult
from submillion.training.rows import TokenRows
from submillion.training.run import Run, Say
from submillion.training.setup import (
    build_network,
    encode,
    encode_rows,
    settled_precision,
    shared_compute,
    tokenizer_for,
    window_of,
)

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLE_TOKENS = 40  # that are shown of the example


@dataclass(frozen=True)
class TrainResult:
    """A trained model, and what its run found."""

    classifier: Classifier
    result: RunResult
    history: list[dict[str, Any]]  # the lines of history.jsonl
    folder: Path  # output.dir
    run: Run

    @property
    def metrics(self) -> dict[str, Any]:
        """Returns the content of metrics.json."""
        return self.result.to_mapping()


def train(
    recipe: str | Path | None = None, data: object = None, overrides: Mapping[str, object] | None = None
) -> TrainResult:
    """Trains as `submillion train` does.

    recipe: a recipe's name or path. data: a path, a hub id, a pandas DataFrame, a dict of columns or of splits, or a
    list of rows, in place of data.source. overrides: {"lora.rank": 8, ...}. Under torchrun every process calls this.
    Raises SubmillionError for anything wrong with these.
    """
    overrides = dict(overrides or {})
    if isinstance(data, str | Path):
        overrides["data.source"], data = str(data), None
    elif data is not None:
        overrides["data.source"] = IN_MEMORY  # what config.toml then says, instead of a source that was not read
    return train_resolved(resolve(recipe=recipe, overrides=overrides), data)


@own_settings()
def train_resolved(
    resolved: Resolved, data: object = None, summary: bool = True, assets: Path | None = None
) -> TrainResult:
    """Trains, measures, saves, and prints what a person wants to know of it; shared out under torchrun.

    assets: a second folder for the plots.
    """
    with join() as world:
        return _train(resolved, data, summary, assets, world)


def _train(resolved: Resolved, data: object, summary: bool, assets: Path | None, world: World) -> TrainResult:
    config = resolved.config
    console = terminal(quiet=not world.is_first or is_quiet())
    _check_before(config, data, assets, world)
    print_config(resolved, console)
    run = _prepared(config, data, world, console)
    if world.is_first:
        check_room(run, assets)
    say = _sayer(console)
    start = time.perf_counter()
    crossed = cross_validate(run, say)
    with event_writer(config.output.tensorboard if world.is_first else "") as on_record:
        learned = learn(run, say, on_record)
    with nullcontext() if learned.result.interrupted else _interrupts_held(world):
        weight = add_ngrams(run, learned.rows, say)
        result = measure(run, learned, crossed, weight, time.perf_counter() - start)
        if world.is_first:
            save_run(run, result, learned.result.history, assets)
        world.wait()
        trained = TrainResult(_classifier(run, result), result, learned.result.history, Path(config.output.dir), run)
        if summary and world.is_first:
            print_summary(result, run, console)
    return trained


def _classifier(run: Run, result: RunResult) -> Classifier:
    compute = replace(run.compute, int8=result.int8 is not None)
    return Classifier(
        run.network,
        run.task,
        run.tokenizer,
        run.spec,
        run.config,
        compute,
        result.temperature.value,
        trained_rows(run.corpus),
        run.corpus.columns,
    )


def _check_before(config: Config, data: object, assets: Path | None, world: World) -> None:
    """Raises SubmillionError for what is known to fail before anything is loaded: hours of reading would be lost."""
    if not config.data.source and data is None:
        raise ConfigError(
            "--data.source is required: the labelled rows to train on\n"
            "fix: --data.source news.csv, or --recipe quickstart for an example"
        )
    if config.output.tensorboard:
        check_tensorboard()
    planned(config, base_shape(config), len(config.data.label_names) or 2)  # two labels are the least there can be
    if world.is_first:
        for folder in filter(None, (config.output.dir, str(assets or ""), config.output.tensorboard)):
            check_writable(Path(folder))
        _check_is_ours(Path(config.output.dir))


def _check_is_ours(folder: Path) -> None:
    """Raises ConfigError if a folder without a model holds a file of a name that a run writes: it is not a run's."""
    names = (CARD, "config.toml", "metrics.json", "history.jsonl")
    foreign = [] if (folder / MODEL).exists() else [name for name in names if (folder / name).exists()]
    if foreign:
        raise ConfigError(
            f"--output.dir {folder}: expected a new folder or an earlier model's, found {', '.join(foreign)} without a "
            f"{MODEL}\nfix: name another one, or delete what an earlier run left"
        )


def _prepared(config: Config, data: object, world: World, console: "Console") -> Run:
    """Reads the base and the rows, builds the network, and prints what is about to run."""
    say = _sayer(console)
    base = find_base(config.model.base)
    shape = fitting_shape(config, base)
    compute = shared_compute(config, world)
    corpus = data if isinstance(data, Corpus) else load_corpus(config.data, config.seed, data)
    task = task_of(corpus.label_names)
    spec, adapters, plan = planned(config, shape, task.num_outputs)
    console.print(parts_table(config.model.base, spec, adapters, plan, task.num_outputs, config.budget))
    _print_run(console, config, corpus, compute, world)
    tokenizer = tokenizer_for(config, base, shape, corpus)
    if tokenizer.spelling:
        say("spelling", f"of {len(tokenizer.spelling.words):,} words of the training texts")
    train, validation, test = (encode_rows(tokenizer, rows, spec) for rows in corpus.splits().values())
    unlabelled = encode(tokenizer, corpus.unlabelled, spec)
    known = Tokens.joined([train.tokens, unlabelled])
    spec = replace(spec, window=window_of(spec, tokenizer, known))
    if spec.window:
        say("window", f"texts of more than {spec.window} tokens in equal windows")
    _print_example(say, tokenizer, train, task, config.seed)
    network = build_network(config, base, shape, spec, adapters, task.num_outputs)
    network.to_compute(compute.dtype, compute.device)
    settled, change = settled_precision(network, known, config, compute, world)
    if settled != compute:
        say("precision", f"bf16 after all: int8 moves this encoder's features by {change:.0%}")
    return Run(
        config=config,
        spec=spec,
        adapters=adapters,
        plan=plan,
        base=base,
        task=task,
        corpus=corpus,
        tokenizer=tokenizer,
        network=network,
        compute=settled,
        world=world,
        texts=corpus.train.texts,
        train=train,
        validation=validation,
        test=test,
        unlabelled=unlabelled,
    )


def _sayer(console: "Console") -> Say:
    """Returns a function that prints a heading and a sentence as one line."""

    def say(heading: str, text: str) -> None:
        console.print(f"{heading:<10} {text}", soft_wrap=True, highlight=False, markup=False)

    return say


def _print_run(console: "Console", config: Config, corpus: Corpus, compute: Compute, world: World) -> None:
    lines = [*data_lines(config, corpus), f"precision  {compute.precision}: {compute.reason}"]
    lines += [f"kernels    {built().reason}"] if compute.device.type == "cpu" else []
    lines += [f"processes  {world.size}, each with its share of every batch"] if world.size > 1 else []
    lines += [f"no effect  {line}" for line in without_effect(config)]
    console.print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)


def _print_example(say: Say, tokenizer: Tokenizer, rows: TokenRows, task: Task, seed: int) -> None:
    """Says one random training row as the network sees it: a wrong label or wrong tokens are better seen now."""
    index = int(numpy_generator(seed, "example").integers(len(rows)))
    pieces = tokenizer.pieces(rows.tokens.row(index))
    more = f" ... ({len(pieces)} tokens)" if len(pieces) > EXAMPLE_TOKENS else ""
    [label] = task.names(rows.targets[[index]])
    say("example", f"{label}: {' '.join(pieces[:EXAMPLE_TOKENS])}{more}")


@contextmanager
def _interrupts_held(world: World) -> Iterator[None]:
    """Has the first Ctrl-C within wait for the end: hours of training would be lost for seconds of measuring."""
    plain = signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not plain:
        yield  # a program with a way of its own with Ctrl-C keeps it
        return
    pressed = False

    def hold(*_: object) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, plain)
        if world.is_first and not is_quiet():
            notice = "training is over: the model is measured and saved first; Ctrl-C again to give up"
            print(f"\n{notice}", file=sys.stderr)

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, plain)
    if pressed:
        raise KeyboardInterrupt


def run(values: dict[str, Any], words: list[str], recipe: str | None = None, assets: Path | None = None) -> None:
    """Runs `submillion train` with these flags. recipe: unless a flag names one. assets: a second folder for plots."""
    train_resolved(combine(values.pop("recipe", "") or recipe, flags=values), assets=assets)
