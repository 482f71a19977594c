"""The command train: from a configuration to a saved model, measured."""

import csv
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from submillion.atomic import check_writable, write_atomically
from submillion.config import IN_MEMORY, Config, Resolved, print_config, resolve, without_effect
from submillion.data.corpus import Corpus, Rows, load_corpus
from submillion.data.spelling import Spelling
from submillion.data.tokenizer import Tokenizer, Tokens
from submillion.defaults import own_settings
from submillion.errors import BaseModelError, ConfigError
from submillion.inference.calibration import LEAST_CROSSED, LEAST_ROWS, calibration_metrics, fit_temperature
from submillion.inference.card import FILE_NAME as CARD
from submillion.inference.card import (
    headline,
    overlapping,
    scaled,
    stopped_early,
    wilson_interval,
)
from submillion.inference.classifier import Classifier
from submillion.inference.cross_validation import CrossValidated, cross_validate
from submillion.inference.learning import LEAST_LEARNED, Learned, Run, add_ngrams, learn, name_sentences
from submillion.inference.notes import print_notes
from submillion.inference.plan import base_shape, parts_table, planned
from submillion.inference.predict import predict_file
from submillion.inference.saving import check_room, save_run, trained_rows
from submillion.model import kernels
from submillion.model.base import Base, find_base
from submillion.model.budget import Plan
from submillion.model.checkpoint import read_checkpoint
from submillion.model.classifier import TextClassifier
from submillion.model.shape import EncoderShape, read_shape
from submillion.seeds import numpy_generator, torch_generator
from submillion.training.artefact import FILE_NAME as MODEL
from submillion.training.device import Compute, choose_compute
from submillion.training.distributed import World, join
from submillion.training.int8 import MOST_CHANGE, features_change, try_int8
from submillion.training.loop import TokenRows, compute_logits
from submillion.training.metrics import classification_metrics
from submillion.training.progress import is_quiet
from submillion.training.tensorboard import check_tensorboard, event_writer

if TYPE_CHECKING:
    from rich.console import Console

WINDOW_SHARE = 0.995  # of the training rows; 0.99 costs AG News' held-out rows a twentieth of a point, for nothing


@dataclass(frozen=True)
class TrainResult:
    classifier: Classifier
    metrics: dict[str, Any]  # the content of metrics.json
    history: list[dict[str, Any]]  # the lines of history.jsonl
    folder: Path  # output.dir
    assets: Path  # output.assets


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
def train_resolved(resolved: Resolved, data: object = None, summary: bool = True) -> TrainResult:
    """Trains, measures, saves, and prints what a person wants to know of it; shared out under torchrun."""
    with join() as world:
        return _train(resolved, data, summary, world)


def _train(resolved: Resolved, data: object, summary: bool, world: World) -> TrainResult:
    from rich.console import Console

    console, output = Console(quiet=not world.is_first or is_quiet()), resolved.config.output
    print_config(resolved, console)
    if output.tensorboard:
        check_tensorboard()
    # What cannot fit is refused before anything is loaded; two labels are the least there can be.
    planned(resolved.config, len(resolved.config.data.label_names) or 2)
    if world.is_first:
        for folder in filter(None, (output.dir, output.assets, output.tensorboard)):
            check_writable(Path(folder))
        _check_own(Path(output.dir))
    run = _prepared(resolved.config, data, world, console)
    if world.is_first:
        check_room(run)
    start = time.perf_counter()
    crossed = cross_validate(run, console)
    with event_writer(output.tensorboard if world.is_first else "") as on_record:
        learned = learn(run, console, on_record)
    with nullcontext() if learned.result.interrupted else _interrupts_held(world):
        metrics = learned.metrics | add_ngrams(run, learned.rows, console)
        seconds = time.perf_counter() - start
        trained = _measured_and_saved(run, learned, crossed, metrics, seconds)
        if summary and world.is_first:
            print_summary(trained, console)
    return trained


def _measured_and_saved(
    run: Run, learned: Learned, crossed: CrossValidated | None, metrics: dict[str, Any], seconds: float
) -> TrainResult:
    """What a run leaves, in its folder and in hand. seconds: of the training; metrics: what there is to say so far."""
    output, world, result = run.config.output, run.world, learned.result
    metrics |= _measured(run, learned, crossed)
    metrics |= {name: getattr(result, name) for name in ("best_step", "steps", "planned_steps", "interrupted")}
    metrics["parameters"] = _parameter_counts(run.network, run.plan)
    metrics["rows_per_second"] = round(result.rows_per_second, 2)
    metrics["training_seconds"] = round(seconds, 2)  # cross-validation, self-training and validations included
    if world.is_first:
        save_run(run, metrics, result)
    world.wait()
    compute = replace(run.compute, int8="int8" in metrics)
    label_names, temperature = run.corpus.label_names, metrics["temperature"]
    classifier = Classifier(
        run.network, run.tokenizer, label_names, run.config, compute, temperature, trained_rows(run.corpus)
    )
    return TrainResult(classifier, metrics, result.history, Path(output.dir), Path(output.assets))


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
            told = "training is over: the model is measured and saved first; Ctrl-C again to give up"
            print(f"\n{told}", file=sys.stderr)

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, plain)
    if pressed:
        raise KeyboardInterrupt


def _prepared(config: Config, data: object, world: World, console: "Console") -> Run:
    """Reads the base and the rows, builds the network, and prints what is about to run."""
    base = find_base(config.model.base, config.model.revision)
    shape = _fitting_shape(config, base)
    compute = choose_compute(config.train.precision)
    compute = replace(compute, int8=world.all(compute.int8))
    corpus = load_corpus(config.data, config.seed, data)
    insists = config.train.precision != "auto"
    config, plan = planned(config, len(corpus.label_names))
    console.print(parts_table(config, plan, len(corpus.label_names)))
    print_notes(console, corpus.notes)
    _print_run(console, config, corpus, compute, world)
    tokenizer = Tokenizer.from_folder(base.folder, shape.vocab_size)
    if config.model.clean_text:
        tokenizer.clean_texts()
    if config.model.correct_spelling:
        known_texts = corpus.train.texts + corpus.unlabelled + name_sentences(config, corpus.label_names)
        tokenizer.spelling = Spelling.learned(known_texts)
        console.print(f"spelling   of {len(tokenizer.spelling.words):,} words of the training texts", highlight=False)

    def encoded(texts: Sequence[str]) -> Tokens:
        return tokenizer.encode(texts, config.model.max_length, content=config.model.ngram_buckets > 0)

    train, validation, test = (TokenRows(encoded(rows.texts), rows.labels) for rows in _splits(corpus).values())
    unlabelled = encoded(corpus.unlabelled)
    known = Tokens.joined([train.tokens, unlabelled])
    config = replace(config, model=replace(config.model, window=_window(config, tokenizer, known)))
    if config.model.has_windows:
        console.print(f"window     texts of more than {config.model.window} tokens in equal windows", highlight=False)
    _print_example(console, tokenizer, train, corpus, config.seed)
    network = TextClassifier(
        shape, config.model, config.lora, len(corpus.label_names), torch_generator(config.seed, "init")
    )
    network.encoder.load(read_checkpoint(base.folder))
    network.to_compute(compute.dtype, compute.device)
    if compute.int8 and not insists:
        change = features_change(network, known, config.train.eval_batch_size, compute, world)
        if not change <= MOST_CHANGE:  # or is no number
            compute = replace(compute, int8=False)
            console.print(f"precision  bf16 after all: int8 moves this encoder's features by {change:.0%}")
    config = replace(config, train=replace(config.train, precision=compute.precision))
    texts = corpus.train.texts
    return Run(
        config, plan, base, corpus, tokenizer, network, compute, world, texts, train, validation, test, unlabelled
    )


def _window(config: Config, tokenizer: Tokenizer, known: Tokens) -> int:
    """model.window; for "auto" what WINDOW_SHARE of the training rows and unlabelled texts fit in.

    Raises ConfigError where the tokenizer does not put one token before a text and one behind it: windows have these.
    """
    window = config.model.window
    if window and (added := len(tokenizer.encode([""], config.model.max_length).row(0))) != 2:
        raise ConfigError(
            f"model.window = {window}: expected a tokenizer that puts two tokens around a text, found {added}\n"
            "fix: --model.window 0"
        )
    if window == "auto":
        return max(3, int(np.quantile(known.lengths, WINDOW_SHARE, method="higher")))
    return window


def _measured(run: Run, learned: Learned, crossed: CrossValidated | None) -> dict[str, Any]:
    """What metrics.json says of the validation and the test rows, of cross-validation, of the temperature, and of int8,
    tried on the first: where they are few on the rows it learned from too."""
    from scipy.special import softmax

    tried = run.validation.tokens
    if len(tried) < LEAST_LEARNED:
        tried = Tokens.joined([tried, learned.rows.tokens])
    int8 = try_int8(run.network, tried, run.config.train.eval_batch_size, run.compute, run.world)
    metrics: dict[str, Any] = {"int8": int8} if int8 else {}
    splits = {name: rows for name, rows in (("validation", run.validation), ("test", run.test)) if len(rows)}
    logits = {name: run.computed(name, compute_logits, rows.tokens) for name, rows in splits.items()}
    metrics |= _calibrated(run, learned, crossed, logits)
    if crossed:
        found = classification_metrics(crossed.logits, crossed.labels, run.corpus.label_names)
        metrics["cross_validation"] = {"folds": crossed.folds} | found
    for name, rows in splits.items():
        overlap = _splits(run.corpus)[name].overlap
        metrics[name] = classification_metrics(logits[name], rows.labels, run.corpus.label_names, overlap)
        for key, divisor in (("ece_uncalibrated", 1.0), ("ece", metrics["temperature"])):
            probabilities = softmax(logits[name].astype(np.float64) / divisor, axis=1)
            metrics[name][key] = calibration_metrics(probabilities, rows.labels)["ece"]
    return metrics


def _calibrated(
    run: Run, learned: Learned, crossed: CrossValidated | None, logits: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """The temperature, and where it is not 1 what it was fitted to: the validation rows, or where these are few what
    is said of texts held back, or what models of other rows say of the training rows."""
    temperature, fitted_to = 1.0, "validation"
    if len(run.validation) >= LEAST_ROWS:
        temperature = fit_temperature(logits["validation"], run.validation.labels)
    elif learned.held_back:
        texts, probabilities = learned.held_back
        temperature = fit_temperature(run.computed("calibration", compute_logits, texts), probabilities)
        fitted_to = "teacher" if run.config.data.teacher else "neighbours"
    elif crossed:
        temperature, fitted_to = fit_temperature(crossed.logits, crossed.labels, LEAST_CROSSED), "folds"
    return {"temperature": temperature} | ({"temperature_fitted_to": fitted_to} if temperature != 1 else {})


def _fitting_shape(config: Config, base: Base) -> EncoderShape:
    """The shape of the base's own files.

    Raises ConfigError where max_length is more than its position table holds, BaseModelError where the base's name
    stands for another shape.
    """
    shape = read_shape(base.folder)
    shape.check_length(config.model.max_length, config.model.base, "--model.max-length")
    if shape != (expected := base_shape(config)):
        # A folder or repository named like a well-known base, holding something else: the plan printed would be wrong.
        raise BaseModelError(
            f"{base.folder} does not have the shape of {config.model.base}: expected {expected}, found {shape}"
        )
    return shape


def _check_own(folder: Path) -> None:
    """Raises ConfigError where a folder without a model holds a file of a name that a run writes: it is not a run's."""
    names = (CARD, "config.toml", "metrics.json", "history.jsonl")
    foreign = [] if (folder / MODEL).exists() else [name for name in names if (folder / name).exists()]
    if foreign:
        raise ConfigError(
            f"--output.dir {folder}: expected a new folder or an earlier model's, found {', '.join(foreign)} without a "
            f"{MODEL}\nfix: name another one, or delete what an earlier run left"
        )


def _print_run(console: "Console", config: Config, corpus: Corpus, compute: Compute, world: World) -> None:
    sizes = ", ".join(f"{len(rows.texts):,} {name}" for name, rows in _splits(corpus).items())
    lines = [f"data       {corpus.source}: {sizes}", f"precision  {compute.precision}: {compute.reason}"]
    lines += [f"kernels    {kernels.built().reason}"] if compute.device.type == "cpu" else []
    lines += [f"processes  {world.size}, each with its share of every batch"] if world.size > 1 else []
    if corpus.unlabelled:
        by = f" of {config.data.teacher}" if config.data.teacher else ""
        lines.append(
            f"unlabelled {config.data.unlabelled}: {len(corpus.unlabelled):,} texts, to get labels{by} and train"
        )
    for name, rows in _splits(corpus).items():
        if rows.overlap is not None and rows.overlap.any():
            held_out = f"{rows.overlap.sum():,} of the {len(rows.texts):,} {name} rows"
            lines.append(f"overlap    {held_out} are near duplicates of training rows: measured apart too")
    lines += [f"terms      {corpus.notice}"] if corpus.notice else []
    lines += [f"no effect  {line}" for line in without_effect(config, len(corpus.validation.texts))]
    console.print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)


def _splits(corpus: Corpus) -> dict[str, Rows]:
    return {"training": corpus.train, "validation": corpus.validation, "test": corpus.test}


def _print_example(console: "Console", tokenizer: Tokenizer, rows: TokenRows, corpus: Corpus, seed: int) -> None:
    """One random training row as the model sees it: if the label or the tokens are wrong, better to see it now."""
    index = int(numpy_generator(seed, "example").integers(len(rows)))
    pieces = tokenizer.pieces(rows.tokens.row(index))
    shown = " ".join(pieces[:40]) + (f" ... ({len(pieces)} tokens)" if len(pieces) > 40 else "")
    console.print(f"example    {corpus.label_names[rows.labels[index]]}: {shown}", highlight=False, markup=False)


def _parameter_counts(network: TextClassifier, plan: Plan) -> dict[str, int]:
    """The counts of the tensors there are, held against what was planned."""
    trainable = sum(parameter.numel() for parameter in network.trainable().values())
    if trainable != plan.trainable:
        raise AssertionError(f"planned {plan.trainable:,} trainable parameters, built {trainable:,}")
    return {"trainable": trainable, "total": plan.total, "total_with_adapters": plan.total_with_adapters}


def print_summary(trained: TrainResult, console: "Console", predictions: Path | None = None) -> None:
    """The table a run ends with: how good, how small, how fast, where things are, what to try next."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="result", title_justify="left", title_style="bold", show_header=False)
    for name, value in _summary(trained, predictions):
        table.add_row(name, Text(value, style="bold" if name == "test accuracy" else ""))
    console.print(table)


def _summary(trained: TrainResult, predictions: Path | None) -> Iterator[tuple[str, str]]:
    metrics, parameters, folder = trained.metrics, trained.metrics["parameters"], trained.folder
    for split in ("test", "validation"):
        if split in metrics:
            yield f"{split} accuracy", f"{metrics[split]['accuracy']:.2%} of {metrics[split]['rows']:,} rows"
            yield f"{split} macro-F1", f"{metrics[split]['macro_f1']:.4f}"
            for told in overlapping(split, metrics[split]):
                yield f"{split} overlap", told
    if found := metrics.get("cross_validation"):
        low, high = wilson_interval(found["accuracy"], found["rows"])
        told = f"{found['accuracy']:.1%} of {found['rows']:,} rows, by {found['folds']} models that had not learned"
        yield "cross-validation", f"{told} from them ({low:.0%} to {high:.0%} with 95 % confidence)"
    if metrics["temperature"] != 1.0:
        told = f"temperature {metrics['temperature']:.2f}"
        told += f", by {metrics['held_back']:,} texts held back" if "held_back" in metrics else ""
        told += ", by cross-validation" if metrics["temperature_fitted_to"] == "folds" else ""
        if split := headline(metrics):
            before, after = metrics[split]["ece_uncalibrated"], metrics[split]["ece"]
            yield "calibration error", f"{after:.2%} ({split}; {before:.2%} before {told})"
        else:
            yield "calibration", told
    yield "trainable", f"{parameters['trainable']:,} of {parameters['total_with_adapters']:,} parameters"
    yield "training", f"{metrics['training_seconds']:.0f} s, {metrics['rows_per_second']:.0f} rows/s"
    if "int8" in metrics:
        yield "prediction", f"in int8, and in bf16 for rows close between two labels ({metrics['int8']['again']:.1%})"
    if metrics.get("label_names", {}).get("read"):
        yield "label names", "trained it too, as texts"
    if "self_labelled" in metrics:
        yield "self-labelled", f"{metrics['self_labelled']:,} unlabelled texts trained it too"
    if "teacher_labelled" in metrics:
        told = f"{metrics['teacher_labelled']:,} unlabelled texts trained it too"
        yield "teacher", f"{trained.classifier.config.data.teacher}: {told}, with its labels"
    if "ngram_weight" in metrics:
        chosen = "chosen on the validation rows" if metrics["ngram_weight"] != 1 else "alike"
        yield "n-grams", f"weigh {metrics['ngram_weight']:.2f} beside the encoder's logits: {chosen}"
    why = "the lowest validation loss" if "validation" in metrics else "the last: there are no validation rows"
    kept = f"step {metrics['best_step']:,} of {metrics['steps']:,}, {why}{stopped_early(metrics)}"
    yield "kept", kept + scaled(trained.classifier.config)
    yield "model", f"{folder / 'model.pt'} ({(folder / 'model.pt').stat().st_size / 1e6:.1f} MB)"
    yield "numbers", "\n".join(str(folder / name) for name in ("metrics.json", "history.jsonl", "config.toml"))
    yield "card", str(folder / CARD)
    yield "plots", "\n".join(str(trained.assets / name) for name in ("loss.png", "accuracy.png"))
    if predictions:
        yield "predictions", str(predictions)
    yield "next", f"submillion predict YOUR_FILE --model {shlex.quote(str(folder))} --scores"


def quickstart(resolved: Resolved) -> None:
    """Trains, then predicts the test rows from a file with the saved model, as a newcomer would; shows the result."""
    from rich.console import Console

    corpus = load_corpus(resolved.config.data, resolved.config.seed)
    if not corpus.test.texts:
        raise ConfigError("the quickstart predicts held-out rows\nfix: leave out --data.test-fraction 0")
    with join() as world:
        trained = train_resolved(resolved, summary=False)
        unlabelled = trained.folder / "test_unlabelled.csv"
        if world.is_first:
            with write_atomically(unlabelled) as file:
                csv.writer(file).writerows([["text"], *([text] for text in corpus.test.texts)])
        world.wait()
        output = Path("predictions.csv")
        predict_file(unlabelled, trained.folder, output)
        if world.is_first:
            print_summary(trained, Console(), output)
