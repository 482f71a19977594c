"""The command train: from a configuration to a saved model, measured."""

import csv
import json
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from submillion.atomic import check_writable, write_atomically, write_together
from submillion.config import IN_MEMORY, Config, Resolved, print_config, resolve, to_mapping, to_toml, without_effect
from submillion.data.corpus import Corpus, Rows, load_corpus
from submillion.data.spelling import Spelling
from submillion.data.tokenizer import Tokenizer, Tokens
from submillion.errors import BaseModelError, ConfigError
from submillion.inference.calibration import LEAST_ROWS, calibration_metrics, fit_temperature
from submillion.inference.card import FILE_NAME as CARD
from submillion.inference.card import render_card, scaled, short_name, stopped_early
from submillion.inference.classifier import Classifier
from submillion.inference.plan import base_shape, parts_table, planned
from submillion.inference.plots import plot_history
from submillion.inference.predict import predict_file
from submillion.model import kernels
from submillion.model.base import Base, find_base
from submillion.model.budget import Plan
from submillion.model.checkpoint import read_checkpoint
from submillion.model.classifier import TextClassifier
from submillion.model.shape import EncoderShape, read_shape
from submillion.robustness.augment import augment
from submillion.seeds import numpy_generator, torch_generator
from submillion.training.artefact import FILE_NAME as MODEL
from submillion.training.artefact import Artefact, base_record
from submillion.training.device import Compute, choose_compute
from submillion.training.distributed import World, join
from submillion.training.int8 import MOST_CHANGE, features_change, try_int8
from submillion.training.loop import FitResult, TokenRows, compute_logits, compute_ngrams, compute_pooled, fit
from submillion.training.metrics import classification_metrics
from submillion.training.ngram_fit import fit_ngrams, ngram_weight
from submillion.training.progress import is_quiet, progress
from submillion.training.selftraining import agreement, self_label, surest
from submillion.training.tensorboard import Record, check_tensorboard, event_writer

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
    start = time.perf_counter()
    with event_writer(output.tensorboard if world.is_first else "") as on_record:
        result, learned, metrics = _learned(run, console, on_record)
    seconds = time.perf_counter() - start
    metrics |= _measured(run, learned)
    metrics |= {name: getattr(result, name) for name in ("best_step", "steps", "planned_steps", "interrupted")}
    metrics["parameters"] = _parameter_counts(run.network, run.plan)
    metrics["rows_per_second"] = round(result.rows_per_second, 2)
    metrics["training_seconds"] = round(seconds, 2)  # self-training and the validations in it included
    if world.is_first:
        _save(run, metrics, result)
    world.wait()
    compute = replace(run.compute, int8="int8" in metrics)
    label_names, temperature = run.corpus.label_names, metrics["temperature"]
    classifier = Classifier(
        run.network, run.tokenizer, label_names, run.config, compute, temperature, _trained_rows(run.corpus)
    )
    trained = TrainResult(classifier, metrics, result.history, Path(output.dir), Path(output.assets))
    if summary and world.is_first:
        print_summary(trained, console)
    return trained


@dataclass(frozen=True)
class _Run:
    """All that training needs, loaded: what each step below reads, and the network that it changes."""

    config: Config  # rank, label names and precision resolved
    plan: Plan
    base: Base
    corpus: Corpus
    tokenizer: Tokenizer
    network: TextClassifier
    compute: Compute
    world: World
    texts: list[str]  # of the training rows
    train: TokenRows
    validation: TokenRows
    test: TokenRows
    unlabelled: Tokens
    names: int = 0  # the last so many of the training rows are label names in a sentence, not rows of the corpus

    def computed(self, title: str, compute_rows: Callable[..., np.ndarray], tokens: Tokens) -> np.ndarray:
        """`compute_logits` or `compute_pooled` of these rows, under a bar with this title."""
        batch_size = self.config.train.eval_batch_size
        with progress(title, len(tokens), self.world.is_first) as advance:
            return compute_rows(self.network, tokens, batch_size, self.compute, advance, self.world)

    def fit(self, texts: Sequence[str], rows: TokenRows, on_record: Record | None = None) -> FitResult:
        """Trains the adapters and the head on these rows, from the parameters that there are."""
        config, spelling = self.config, self.tokenizer.spelling
        plain = Tokenizer(self.tokenizer.backend, self.tokenizer.fingerprint)  # augment corrects the spelling already

        def views(epoch: int) -> Tokens:
            noisy = augment(texts, config.train.augment, config.seed, epoch, spelling, torch.get_num_threads())
            return plain.encode(noisy, config.model.max_length)  # no n-gram learns from noise

        self.network.use_int8(0.0 if self.compute.int8 else None)
        noisy = views if config.train.augment else None
        return fit(
            self.network, rows, self.validation, config.train, config.seed, self.compute, self.world, on_record, noisy
        )


def _prepared(config: Config, data: object, world: World, console: "Console") -> _Run:
    """Reads the base and the rows, builds the network, and prints what is about to run."""
    base = find_base(config.model.base, config.model.revision)
    shape = _fitting_shape(config, base)
    compute = choose_compute(config.train.precision)
    compute = replace(compute, int8=world.all(compute.int8))
    corpus = load_corpus(config.data, config.seed, data)
    insists = config.train.precision != "auto"
    config, plan = planned(config, len(corpus.label_names))
    console.print(parts_table(config, plan, len(corpus.label_names)))
    _print_run(console, config, corpus, compute, world)
    tokenizer = Tokenizer.from_folder(base.folder, shape.vocab_size)
    if config.model.clean_text:
        tokenizer.clean_texts()
    if config.model.correct_spelling:
        known_texts = corpus.train.texts + corpus.unlabelled + _sentences(config, corpus.label_names)
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
    return _Run(
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


def _learned(run: _Run, console: "Console", on_record: Record | None) -> tuple[FitResult, TokenRows, dict[str, Any]]:
    """Trains all that trains, on the labelled rows and on the unlabelled texts that get a label.

    Returns how it went, the rows it learned from, and what there is to say of labels and n-grams.
    """
    metrics: dict[str, Any] = {}
    if run.config.data.label_template:
        run, metrics["label_names"] = _with_label_names(run, console)
    texts, learned, interrupted = run.texts, run.train, None
    if run.corpus.unlabelled:
        chosen, labels, right, interrupted = _self_labelled(run)
        joined = Tokens.joined([run.train.tokens, run.unlabelled.take(chosen)])
        learned = TokenRows(joined, np.concatenate([run.train.labels, labels]))
        texts = texts + [run.corpus.unlabelled[row] for row in chosen]
        metrics |= {"self_labelled": len(chosen), "self_labelling": right}
        for name, share in right.items():
            console.print(f"labels     {name}: {share:.2%} of the validation rows right", highlight=False)
    result = interrupted or run.fit(texts, learned, on_record)
    # AG News, 8 rows a class and their names: 2 points less with n-grams than without; 16 a class: 0.5 (three draws).
    if run.network.ngrams is not None and len(learned) >= LEAST_ROWS:
        metrics["ngram_weight"] = _add_ngrams(run, learned)
    elif run.network.ngrams is not None:
        console.print(f"n-grams    stay zero: {len(learned)} rows, fewer than {LEAST_ROWS}", highlight=False)
    return result, learned, metrics


def _sentences(config: Config, label_names: Sequence[str]) -> list[str]:
    """The label names in the words around them; none without data.label_template."""
    template = config.data.label_template
    return [template.replace("{}", name) for name in label_names] if template else []


def _with_label_names(run: _Run, console: "Console") -> tuple[_Run, dict[str, Any]]:
    """The run with the name of each label that has rows as one more training row, where the names tell the rows apart;
    and how many of the rows they do, for metrics.json.

    Names that differ in digits alone, such as LABEL_0 and LABEL_1, say nothing of the labels whatever the rows say.
    """
    labels = np.unique(run.train.labels)
    names = [run.corpus.label_names[label] for label in labels]
    sentences = _sentences(run.config, names)
    tokens = run.tokenizer.encode(sentences, run.config.model.max_length, content=run.network.ngrams is not None)
    features = [run.computed("label names", compute_pooled, of) for of in (run.train.tokens, tokens)]
    right, agree = agreement(features[0], run.train.labels, features[1])
    numbered = len({re.sub(r"\d+", "", name) for name in names}) < len(names)
    found = {"right": right, "read": agree and not numbered}
    said = ": each becomes a training row" if agree else ": too few, so they are not read"
    said = ", but differ in digits alone, so they are not read" if numbered else said
    told = f"names      alone they get {right:.0%} of the training rows right{said}"
    console.print(told, soft_wrap=True, highlight=False)
    if not found["read"]:
        return run, found
    train = TokenRows(Tokens.joined([run.train.tokens, tokens]), np.concatenate([run.train.labels, labels]))
    return replace(run, texts=run.texts + sentences, train=train, names=len(labels)), found


def _self_labelled(run: _Run) -> tuple[np.ndarray, np.ndarray, dict[str, float], FitResult | None]:
    """Sorted int64 indices of the unlabelled texts whose labels are surest, and the int64 label of each.

    A regression on the pretrained features gives them; or, where there are validation rows enough to tell that they are
    better at it, adapters trained on the labelled rows alone. Returns also the share of the validation rows that each
    gets right, where both were tried. The network's parameters are afterwards what they were, unless Ctrl-C ended that
    training: then it is the last thing returned, and no text gets a label.
    """
    from scipy.special import softmax

    network, held_out = run.network, run.validation.tokens
    enough = len(held_out) >= LEAST_ROWS
    if not enough:
        held_out = held_out.take(np.empty(0, dtype=np.int64))
    features = [run.computed("features", compute_pooled, of) for of in (run.train.tokens, run.unlabelled, held_out)]
    rows, labels, answers = self_label(features[0], run.train.labels, features[1], features[2], run.names)
    if not enough:
        return rows, labels, {}, None
    untrained = {name: parameter.detach().clone() for name, parameter in network.trainable().items()}
    result = run.fit(run.texts, run.train)
    if result.interrupted:
        return rows[:0], labels[:0], {}, result
    given = {"regression": answers, "adapters": run.computed("validation", compute_logits, held_out).argmax(axis=1)}
    right = {name: float((found == run.validation.labels).mean()) for name, found in given.items()}
    if right["adapters"] > right["regression"]:
        counted = run.corpus.train.labels
        logits = run.computed("labels", compute_logits, run.unlabelled)[:, np.unique(counted)]
        rows, labels = surest(softmax(logits.astype(np.float64), axis=1), counted)
    network.load_state_dict(untrained, strict=False)
    return rows, labels, right, None


def _add_ngrams(run: _Run, learned: TokenRows) -> float:
    """Fits the n-grams to these rows, and returns how much they weigh beside the trained encoder's logits.

    The first process does, and the others take over what it finds: unlike machines may round unlike.
    """
    network, validation = run.network, run.validation
    assert network.ngrams is not None
    weight = torch.ones(1, dtype=torch.float64)
    enough = len(validation) >= LEAST_ROWS
    if enough:
        logits = run.computed("validation", compute_logits, validation.tokens)  # the table is zero still
    if run.world.is_first:
        fit_ngrams(network.ngrams, learned, run.config.train)
        if enough:
            added = compute_ngrams(network, validation.tokens)
            weight.fill_(ngram_weight(logits, added, validation.labels))
        network.ngrams.scale(weight.item())
    run.world.from_first(network.ngrams.weight.data)
    return run.world.from_first(weight).item()


def _measured(run: _Run, learned: TokenRows) -> dict[str, Any]:
    """What metrics.json says of the validation and the test rows, of the temperature, and of int8, tried on the former:
    where they are few on the rows it learned from too."""
    from scipy.special import softmax

    tried = run.validation.tokens
    if len(tried) < LEAST_ROWS:
        tried = Tokens.joined([tried, learned.tokens])
    int8 = try_int8(run.network, tried, run.config.train.eval_batch_size, run.compute, run.world)
    metrics: dict[str, Any] = {"int8": int8} if int8 else {}
    temperature = 1.0
    for name, rows in (("validation", run.validation), ("test", run.test)):
        if not len(rows):
            continue
        logits = run.computed(name, compute_logits, rows.tokens)
        metrics[name] = classification_metrics(logits, rows.labels, run.corpus.label_names)
        if name == "validation":
            temperature = fit_temperature(logits, rows.labels)
        for key, divisor in (("ece_uncalibrated", 1.0), ("ece", temperature)):
            probabilities = softmax(logits.astype(np.float64) / divisor, axis=1)
            metrics[name][key] = calibration_metrics(probabilities, rows.labels)["ece"]
    return metrics | {"temperature": temperature}


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
        lines.append(f"unlabelled {config.data.unlabelled}: {len(corpus.unlabelled):,} texts, the surest trained on")
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


def _save(run: _Run, metrics: dict[str, Any], result: FitResult) -> None:
    """Everything a run leaves. model.pt comes last: that it is there means the rest is."""
    config, corpus, tokenizer = run.config, run.corpus, run.tokenizer
    folder = Path(config.output.dir)
    artefact = Artefact(
        tensors=dict(run.network.trainable()),
        label_names=list(corpus.label_names),
        base=base_record(run.base, run.network.encoder.shape),
        tokenizer=tokenizer.to_str(),
        tokenizer_sha256=tokenizer.fingerprint,
        words=list(tokenizer.spelling.words) if tokenizer.spelling else [],
        rows=_trained_rows(corpus),
        config=to_mapping(config),
        parameters=metrics["parameters"],
        metrics={name: metrics[name] for name in ("validation", "test", "best_step", "steps") if name in metrics},
        calibration={"temperature": metrics["temperature"]}
        | ({"int8_margin": metrics["int8"]["margin"]} if "int8" in metrics else {}),
    )
    trainable = metrics["parameters"]["trainable"]
    title = f"{short_name(config.model.base)} on {short_name(config.data.source)}\n{trainable:,} trainable parameters"
    plots = plot_history(result.history, result.best_step, Path(config.output.assets), title)
    card = render_card(config, artefact.base, corpus, run.plan, metrics, [plot.name for plot in plots])
    write_together(
        {
            **{folder / plot.name: plot.read_bytes() for plot in plots},
            folder / "history.jsonl": "".join(json.dumps(record) + "\n" for record in result.history),
            folder / "metrics.json": json.dumps(metrics, indent=2) + "\n",
            folder / "config.toml": to_toml(config),
            folder / CARD: card,
            folder / MODEL: artefact.content(),
        }
    )


def _trained_rows(corpus: Corpus) -> dict[str, Any]:
    """By which `evaluate` will know these rows again: `Artefact.rows`."""
    return {"sha256": corpus.sha256, "test_cut": "test" in corpus.cut, "first_label": corpus.first_label}


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
    if metrics.get("label_names", {}).get("read"):
        yield "label names", "trained it too, as texts"
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
