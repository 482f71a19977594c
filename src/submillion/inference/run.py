"""The commands' work as functions: train, predict a file, evaluate a source."""

import csv
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch

from submillion.atomic import check_writable, write_atomically
from submillion.config import Config, Resolved, print_config, resolve, to_mapping, to_toml, without_effect
from submillion.data.corpus import Corpus, Rows, load_corpus, load_rows
from submillion.data.files import check_texts, find_input, iter_texts, stream_texts
from submillion.data.spelling import Spelling
from submillion.data.tokenizer import Tokenizer, Tokens
from submillion.errors import BaseModelError, ConfigError, DataError
from submillion.inference.answers import answer_format, answer_lines, header_line
from submillion.inference.calibration import LEAST_ROWS, calibration_metrics, fit_temperature
from submillion.inference.card import FILE_NAME as CARD
from submillion.inference.card import (
    refresh_card,
    render_card,
    render_robustness,
    scaled,
    short_name,
    stopped_early,
    write_card,
)
from submillion.inference.classifier import Classifier, is_checkpoint, open_classifier
from submillion.inference.plan import base_shape, parts_table, planned
from submillion.inference.plots import plot_history
from submillion.inference.robust import (
    RobustnessOptions,
    check_options,
    measure_robustness,
    plot_robustness,
    print_robustness,
)
from submillion.model import kernels
from submillion.model.base import Base, find_base
from submillion.model.budget import Plan
from submillion.model.checkpoint import read_checkpoint
from submillion.model.classifier import TextClassifier
from submillion.model.shape import EncoderShape, read_shape
from submillion.robustness.augment import augment
from submillion.seeds import numpy_generator, torch_generator
from submillion.training.artefact import Artefact, base_record, find_artefact
from submillion.training.device import Compute, choose_compute
from submillion.training.distributed import World, join
from submillion.training.int8 import MOST_CHANGE, features_change, try_int8
from submillion.training.loop import FitResult, TokenRows, compute_logits, compute_ngrams, compute_pooled, fit
from submillion.training.metrics import classification_metrics
from submillion.training.ngram_fit import fit_ngrams, ngram_weight
from submillion.training.progress import progress
from submillion.training.selftraining import self_label, surest
from submillion.training.tensorboard import Record, check_tensorboard, event_writer

if TYPE_CHECKING:
    from rich.console import Console


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
        overrides["data.source"] = "data in memory"  # what config.toml then says, instead of a source that was not read
    return train_resolved(resolve(recipe=recipe, overrides=overrides), data)


def train_resolved(resolved: Resolved, data: object = None, summary: bool = True) -> TrainResult:
    """Trains, measures, saves, and prints what a person wants to know of it; shared out under torchrun."""
    with join() as world:
        return _train(resolved, data, summary, world)


def _train(resolved: Resolved, data: object, summary: bool, world: World) -> TrainResult:
    from rich.console import Console
    from scipy.special import softmax

    console = Console(quiet=not world.is_first)
    config = resolved.config
    print_config(resolved, console)
    if config.output.tensorboard:
        check_tensorboard()
    # What cannot fit is refused before anything is loaded; two labels are the least there can be.
    planned(config, len(config.data.label_names) or 2)
    if world.is_first:
        for folder in filter(None, (config.output.dir, config.output.assets, config.output.tensorboard)):
            check_writable(Path(folder))
    base = find_base(config.model.base, config.model.revision)
    shape = _fitting_shape(config, base)
    compute = choose_compute(config.train.precision)
    compute = replace(compute, int8=world.all(compute.int8))
    corpus = load_corpus(config.data, config.seed, data)
    config, plan = planned(config, len(corpus.label_names))
    config = replace(config, train=replace(config.train, precision=compute.precision))
    console.print(parts_table(config, plan, len(corpus.label_names)))
    _print_run(console, config, corpus, compute, world)

    tokenizer = Tokenizer.from_folder(base.folder)
    if config.model.clean_text:
        tokenizer.clean_texts()
    if config.model.correct_spelling:
        tokenizer.spelling = Spelling.learned(corpus.train.texts + corpus.unlabelled)
        console.print(f"spelling   of {len(tokenizer.spelling.words):,} words of the training texts", highlight=False)
    network = TextClassifier(
        shape, config.model, config.lora, len(corpus.label_names), torch_generator(config.seed, "init")
    )
    network.encoder.load(read_checkpoint(base.folder))
    network.to_compute(compute.dtype, compute.device)

    def encoded(texts: Sequence[str]) -> Tokens:
        return tokenizer.encode(texts, config.model.max_length, content=config.model.ngram_buckets > 0)

    def computed(title: str, compute_rows: Callable[..., np.ndarray], tokens: Tokens) -> np.ndarray:
        with progress(title, len(tokens), world.is_first) as advance:
            return compute_rows(network, tokens, config.train.eval_batch_size, compute, advance, world)

    train_rows, validation_rows, test_rows = (
        TokenRows(encoded(split.texts), split.labels) for split in (corpus.train, corpus.validation, corpus.test)
    )
    unlabelled = encoded(corpus.unlabelled)
    _print_example(console, tokenizer, train_rows, corpus, config.seed)
    if compute.int8 and resolved.config.train.precision == "auto":
        known = Tokens.joined([train_rows.tokens, unlabelled])
        change = features_change(network, known, config.train.eval_batch_size, compute, world)
        if not change <= MOST_CHANGE:  # or is no number
            compute = replace(compute, int8=False)
            config = replace(config, train=replace(config.train, precision=compute.precision))
            console.print(f"precision  bf16 after all: int8 moves this encoder's features by {change:.0%}")
    metrics: dict[str, Any] = {}

    plain = Tokenizer(tokenizer.backend, tokenizer.fingerprint)  # for texts whose spelling is corrected already

    def learn(texts: Sequence[str], rows: TokenRows, on_record: Record | None = None) -> FitResult:
        """Trains on these rows, from the parameters that there are."""

        def views(epoch: int) -> Tokens:
            noisy = augment(
                texts, config.train.augment, config.seed, epoch, tokenizer.spelling, torch.get_num_threads()
            )
            return plain.encode(noisy, config.model.max_length)  # no n-gram learns from noise

        network.use_int8(0.0 if compute.int8 else None)
        noisy = views if config.train.augment else None
        return fit(network, rows, validation_rows, config.train, config.seed, compute, world, on_record, noisy)

    with event_writer(config.output.tensorboard if world.is_first else "") as on_record:
        start, texts, learned, interrupted = time.perf_counter(), corpus.train.texts, train_rows, None
        if corpus.unlabelled:
            chosen, labels, right, interrupted = _self_labelled(
                network, train_rows, unlabelled, validation_rows, computed, partial(learn, texts, train_rows)
            )
            joined = Tokens.joined([train_rows.tokens, unlabelled.take(chosen)])
            learned = TokenRows(joined, np.concatenate([train_rows.labels, labels]))
            texts = texts + [corpus.unlabelled[row] for row in chosen]
            metrics |= {"self_labelled": len(chosen), "self_labelling": right}
            for name, share in right.items():
                console.print(f"labels     {name}: {share:.2%} of the validation rows right", highlight=False)
        result = interrupted or learn(texts, learned, on_record)
        if network.ngrams is not None:
            metrics["ngram_weight"] = _add_ngrams(network, learned, validation_rows, config, computed, world)
        seconds = time.perf_counter() - start

    measured = validation_rows if len(validation_rows) else learned
    int8 = try_int8(network, measured.tokens, config.train.eval_batch_size, compute, world)
    metrics |= {"int8": int8} if int8 else {}
    temperature = 1.0
    for name, rows in (("validation", validation_rows), ("test", test_rows)):
        if len(rows):
            logits = computed(name, compute_logits, rows.tokens)
            metrics[name] = classification_metrics(logits, rows.labels, corpus.label_names)
            if name == "validation":
                temperature = fit_temperature(logits, rows.labels)
            for key, divisor in (("ece_uncalibrated", 1.0), ("ece", temperature)):
                probabilities = softmax(logits.astype(np.float64) / divisor, axis=1)
                metrics[name][key] = calibration_metrics(probabilities, rows.labels)["ece"]
    metrics["temperature"] = temperature
    metrics["best_step"], metrics["steps"] = result.best_step, result.steps
    metrics["planned_steps"], metrics["interrupted"] = result.planned_steps, result.interrupted
    metrics["parameters"] = _parameter_counts(network, plan)
    metrics["rows_per_second"] = round(result.rows_per_second, 2)
    metrics["training_seconds"] = round(seconds, 2)  # self-training and the validations in it included
    if world.is_first:
        _save(config, base, shape, tokenizer, corpus, network, plan, metrics, result)
    world.wait()
    compute = replace(compute, int8=bool(int8))
    classifier = Classifier(network, tokenizer, corpus.label_names, config, compute, temperature)
    trained = TrainResult(classifier, metrics, result.history, Path(config.output.dir), Path(config.output.assets))
    if summary and world.is_first:
        print_summary(trained, console)
    return trained


def _self_labelled(
    network: TextClassifier,
    train: TokenRows,
    unlabelled: Tokens,
    validation: TokenRows,
    computed: Callable[[str, Callable[..., np.ndarray], Tokens], np.ndarray],
    learn: Callable[[], FitResult],
) -> tuple[np.ndarray, np.ndarray, dict[str, float], FitResult | None]:
    """Sorted int64 indices of the unlabelled texts whose labels are surest, and the int64 label of each.

    A regression on the pretrained features gives them; or, where there are validation rows enough to tell that they are
    better at it, the adapters that `learn` trains on the labelled rows alone. Returns also the share of the validation
    rows that each gets right, where both were tried. The network's parameters are afterwards what they were, unless
    Ctrl-C ended that training: then it is the last thing returned, and no text gets a label.
    """
    from scipy.special import softmax

    enough = len(validation) >= LEAST_ROWS
    held_out = validation.tokens if enough else validation.tokens.take(np.empty(0, dtype=np.int64))
    features = [computed("features", compute_pooled, tokens) for tokens in (train.tokens, unlabelled, held_out)]
    rows, labels, answers = self_label(features[0], train.labels, *features[1:])
    if not enough:
        return rows, labels, {}, None
    untrained = {name: parameter.detach().clone() for name, parameter in network.trainable().items()}
    result = learn()
    if result.interrupted:
        return rows[:0], labels[:0], {}, result
    given = {"regression": answers, "adapters": computed("validation", compute_logits, held_out).argmax(axis=1)}
    right = {name: float((found == validation.labels).mean()) for name, found in given.items()}
    if right["adapters"] > right["regression"]:
        logits = computed("labels", compute_logits, unlabelled)[:, np.unique(train.labels)]
        rows, labels = surest(softmax(logits.astype(np.float64), axis=1), train.labels)
    network.load_state_dict(untrained, strict=False)
    return rows, labels, right, None


def _add_ngrams(
    network: TextClassifier,
    train: TokenRows,
    validation: TokenRows,
    config: Config,
    computed: Callable[[str, Callable[..., np.ndarray], Tokens], np.ndarray],
    world: World,
) -> float:
    """Fits the n-grams to the training rows, and returns how much they weigh beside the trained encoder's logits.

    The first process does, and the others take over what it finds: unlike machines may round unlike.
    """
    assert network.ngrams is not None
    weight = torch.ones(1, dtype=torch.float64)
    enough = len(validation) >= LEAST_ROWS
    if enough:
        logits = computed("validation", compute_logits, validation.tokens)  # the table is zero still
    if world.is_first:
        fit_ngrams(network.ngrams, train, config.train)
        if enough:
            added = compute_ngrams(network, validation.tokens)
            weight.fill_(ngram_weight(logits, added, validation.labels))
        network.ngrams.scale(weight.item())
    world.from_first(network.ngrams.weight.data)
    return world.from_first(weight).item()


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
    if metrics["temperature"] != 1.0:
        split = "test" if "test" in metrics else "validation"
        before, after = metrics[split]["ece_uncalibrated"], metrics[split]["ece"]
        yield (
            "calibration error",
            f"{after:.2%} ({split}; {before:.2%} before temperature {metrics['temperature']:.2f})",
        )
    yield "trainable", f"{parameters['trainable']:,} of {parameters['total_with_adapters']:,} parameters"
    yield "training", f"{metrics['training_seconds']:.0f} s, {metrics['rows_per_second']:.0f} rows/s"
    if "int8" in metrics:
        yield "prediction", f"in int8, and in bf16 for rows close between two labels ({metrics['int8']['again']:.1%})"
    if "self_labelled" in metrics:
        yield "self-labelled", f"{metrics['self_labelled']:,} unlabelled texts trained it too"
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
    yield "next", f"submillion predict YOUR_FILE --model {folder} --scores"


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


STANDARD = Path("-")  # standard input, standard output


def predict_file(
    input: Path | None = None,
    model: Path = Path("best_model"),
    output: Path = Path("predictions.csv"),
    scores: bool = False,
    base: str = "",
    text_column: str = "",
    batch_size: int = 0,
    precision: str = "auto",
    format: str = "auto",
    adapter_scale: float = 1.0,
) -> int:
    """Labels every text of a file, streaming: memory does not grow with the file. Returns the number of rows.

    Writes what `answer_lines` describes; as CSV, IDs 0..n-1 in file order and labels as integers. input None takes the
    one data file in the model's folder. A file is checked whole first, and the output appears whole or not at all.
    input -: a text a line from standard input, each answered as soon as it is computed. output -: standard output,
    flushed chunk by chunk; what else there is to say then goes to standard error. Under torchrun the processes share
    the rows of each chunk and the first writes the file. Raises SubmillionError.
    """
    from rich.console import Console

    format = answer_format(format, output, scores)
    with join() as world:
        console = Console(quiet=not world.is_first, stderr=output == STANDARD)
        input = input or find_input(model if is_checkpoint(model) else find_artefact(model).parent)
        if input == STANDARD and world.size > 1:
            raise ConfigError("standard input can only be read by one process\nfix: without torchrun, or give a file")
        if input == STANDARD and text_column:
            raise ConfigError("--text-column: standard input is a text a line, without columns\nfix: leave it out")
        if STANDARD not in (input, output) and output.exists() and input.exists() and output.samefile(input):
            raise ConfigError(f"{output} is the input: its rows would be lost\nfix: another --output")
        total = 0 if input == STANDARD else check_texts(input, text_column)
        classifier = open_classifier(model, base, precision, adapter_scale, world)
        chunks = stream_texts(sys.stdin.buffer) if input == STANDARD else iter_texts(input, text_column)
        counts = np.zeros(len(classifier.label_names), dtype=np.int64)
        start = time.perf_counter()
        with (
            _first_writes(output, world) as file,
            progress("predicting", total, world.is_first and total > 0) as advance,
        ):
            file.write(header_line(format, classifier.label_names, scores))
            for logits in classifier.stream_logits(chunks, batch_size, advance, world):
                labels = logits.argmax(axis=1)
                probabilities = classifier.probabilities(logits) if scores else None
                first_id = int(counts.sum())
                file.write(answer_lines(format, classifier.label_names, first_id, labels, probabilities))
                counts += np.bincount(labels, minlength=len(counts))
                if output == STANDARD:
                    file.flush()
        world.wait()
        seconds, rows = time.perf_counter() - start, int(counts.sum())
        shares = ", ".join(f"{name} {n:,}" for name, n in zip(classifier.label_names, counts, strict=True))
        console.print(
            f"{rows:,} rows of {_named(input, 'input')} -> {_named(output, 'output')}  ({rows / seconds:.0f} rows/s)"
            f"\n  {shares}",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
        return rows


def _named(path: Path, role: str) -> str:
    return f"standard {role}" if path == STANDARD else str(path)


def _first_writes(path: Path, world: World) -> AbstractContextManager[IO]:
    """Standard output or the file at `path`, whole or not at all, for the first process; for the others, one that keeps
    nothing."""
    if not world.is_first:
        return open(os.devnull, "w", encoding="utf-8")
    return nullcontext(sys.stdout) if path == STANDARD else write_atomically(path)


def evaluate_source(
    model: Path,
    source: str,
    text_column: str = "",
    label_column: str = "",
    base: str = "",
    output: Path | None = None,
    batch_size: int = 0,
    precision: str = "auto",
    robustness: RobustnessOptions | None = None,
    adapter_scale: float = 1.0,
) -> dict[str, Any]:
    """Measures a saved model on labelled rows: a source's test split, or all rows of a single file.

    Prints a table by label and returns the metrics; writes them as JSON to `output` if given. With robustness, noise,
    style, shift and attack are measured too, plotted, and written into the model's card. Raises SubmillionError.
    """
    from rich.console import Console

    with join() as world:
        classifier = open_classifier(model, base, precision, adapter_scale, world)
        if robustness:
            check_options(robustness, classifier.label_names)
            if world.is_first:
                check_writable(robustness.assets)
        rows = rows_to_measure(classifier, source, text_column, label_column)
        start = time.perf_counter()
        with progress("evaluating", len(rows.texts), world.is_first) as advance:
            logits = classifier.logits(rows.texts, batch_size, advance, world)
        metrics = classification_metrics(logits, rows.labels, classifier.label_names)
        metrics["rows_per_second"] = len(rows.texts) / (time.perf_counter() - start)
        probabilities = classifier.probabilities(logits)
        calibration = calibration_metrics(probabilities, rows.labels)
        metrics["calibration"] = {"temperature": classifier.temperature} | calibration
        if robustness:
            metrics["robustness"] = measure_robustness(classifier, rows, robustness, batch_size, world)
        if output and world.is_first:
            with write_atomically(output) as file:
                file.write(json.dumps(metrics, indent=2) + "\n")
        console = Console(quiet=not world.is_first)
        _print_evaluation(console, metrics, f"{model} on {source}")
        if robustness and world.is_first:
            plots = plot_robustness(metrics, probabilities, rows.labels, robustness.assets)
            print_robustness(console, metrics["robustness"], plots)
            section = render_robustness(metrics, source, adapter_scale, [plot.name for plot in plots])
            _refresh(console, model, section, plots)
        return metrics


def _refresh(console: "Console", model: Path, section: str, plots: list[Path]) -> None:
    """Brings the model's card up to date. A folder that is not ours to write is no error of an evaluation."""
    try:
        card = refresh_card(model, section, plots)
    except OSError as error:
        console.print(f"card: not refreshed: {error}", soft_wrap=True, highlight=False, markup=False)
        return
    if card:
        console.print(f"card: {card}", soft_wrap=True, highlight=False, markup=False)


def rows_to_measure(classifier: Classifier, source: str, text_column: str, label_column: str) -> Rows:
    """A source's test split, or all rows of a single file; where the model was trained on it, the rows held out then.

    Raises DataError where these are none, or where the source cannot be read.
    """
    own, seed = classifier.config.data, classifier.config.seed
    if source != own.source and (not Path(source).exists() or Path(source).resolve() != Path(own.source).resolve()):
        return load_rows(source, classifier.label_names, text_column, label_column)
    # Rows the model has trained on say nothing: take the same test rows as training did.
    own = replace(own, source=source, text_column=text_column or own.text_column)
    own = replace(own, label_column=label_column or own.label_column)
    rows = load_corpus(own, seed).test
    if not rows.texts:
        raise DataError(
            f"{source}: the model has trained on all of it (data.test_fraction = 0), so it cannot be measured on it"
        )
    return rows


def _print_evaluation(console: "Console", metrics: dict[str, Any], title: str) -> None:
    from rich.markup import escape
    from rich.table import Table

    console.print(title, style="bold", highlight=False, markup=False, soft_wrap=True)
    table = Table()
    table.add_column("label")
    for name in ("rows", "precision", "recall", "F1"):
        table.add_column(name, justify="right")
    for name, found in metrics["per_label"].items():
        table.add_row(
            escape(name), f"{found['rows']:,}", *(f"{found[key]:.4f}" for key in ("precision", "recall", "f1"))
        )
    console.print(table)
    console.print(
        f"accuracy [bold]{metrics['accuracy']:.2%}[/bold] of {metrics['rows']:,} rows, "
        f"macro-F1 {metrics['macro_f1']:.4f}, loss {metrics['loss']:.4f}, {metrics['rows_per_second']:.0f} rows/s",
        highlight=False,
    )
    calibration = metrics["calibration"]
    surest = ", ".join(
        f"{accuracy:.2%} of the surest {float(share):.0%}" for share, accuracy in calibration["coverage"].items()
    )
    console.print(
        f"calibration error (ECE) {calibration['ece']:.2%}, Brier {calibration['brier']:.4f}, "
        f"temperature {calibration['temperature']:.2f}\naccuracy {surest}",
        highlight=False,
        soft_wrap=True,
    )


def _fitting_shape(config: Config, base: Base) -> EncoderShape:
    """The shape of the base's own files.

    Raises ConfigError where max_length is more than its position table holds, BaseModelError where the base's name
    stands for another shape.
    """
    shape = read_shape(base.folder)
    if config.model.max_length > shape.max_tokens:
        raise ConfigError(
            f"model.max_length = {config.model.max_length}, "
            f"but {config.model.base} places at most {shape.max_tokens} tokens\n"
            f"fix: --model.max-length {shape.max_tokens}, or less"
        )
    if shape != (expected := base_shape(config)):
        # A folder or repository named like a well-known base, holding something else: the plan printed would be wrong.
        raise BaseModelError(
            f"{base.folder} does not have the shape of {config.model.base}: expected {expected}, found {shape}"
        )
    return shape


def _print_run(console: "Console", config: Config, corpus: Corpus, compute: Compute, world: World) -> None:
    sizes = ", ".join(f"{len(rows.texts):,} {name}" for name, rows in _splits(corpus).items())
    lines = [f"data       {corpus.source}: {sizes}", f"precision  {compute.precision}: {compute.reason}"]
    lines += [f"kernels    {kernels.built().reason}"] if compute.device.type == "cpu" else []
    lines += [f"processes  {world.size}, each with its share of every batch"] if world.size > 1 else []
    if corpus.unlabelled:
        lines.append(f"unlabelled {config.data.unlabelled}: {len(corpus.unlabelled):,} texts, the surest trained on")
    lines += [f"terms      {corpus.notice}"] if corpus.notice else []
    lines += [f"no effect  {line}" for line in without_effect(config)]
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


def _save(
    config: Config,
    base: Base,
    shape: EncoderShape,
    tokenizer: Tokenizer,
    corpus: Corpus,
    network: TextClassifier,
    plan: Plan,
    metrics: dict[str, Any],
    result: FitResult,
) -> None:
    """Everything a run leaves. model.pt comes last: that it is there means the rest is."""
    folder = Path(config.output.dir)
    artefact = Artefact(
        tensors=dict(network.trainable()),
        label_names=list(corpus.label_names),
        base=base_record(base, shape),
        tokenizer=tokenizer.to_str(),
        tokenizer_sha256=tokenizer.fingerprint,
        words=list(tokenizer.spelling.words) if tokenizer.spelling else [],
        config=to_mapping(config),
        parameters=metrics["parameters"],
        metrics={name: metrics[name] for name in ("validation", "test", "best_step", "steps") if name in metrics},
        calibration={"temperature": metrics["temperature"]}
        | ({"int8_margin": metrics["int8"]["margin"]} if "int8" in metrics else {}),
    )
    with write_atomically(folder / "history.jsonl") as file:
        file.writelines(json.dumps(record) + "\n" for record in result.history)
    with write_atomically(folder / "metrics.json") as file:
        file.write(json.dumps(metrics, indent=2) + "\n")
    with write_atomically(folder / "config.toml") as file:
        file.write(to_toml(config))
    trainable = metrics["parameters"]["trainable"]
    title = f"{short_name(config.model.base)} on {short_name(config.data.source)}\n{trainable:,} trainable parameters"
    plots = plot_history(result.history, result.best_step, Path(config.output.assets), title)
    card = render_card(config, artefact.base, corpus, plan, metrics, [plot.name for plot in plots])
    write_card(folder, card, plots)
    artefact.save(folder)
