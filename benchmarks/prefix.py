"""What adapters in the last K layers alone cost and save: `python -m benchmarks.prefix [--quick]`.

Trains the recipe agnews-minilm, without noise, dropout, n-grams and corrected spelling, with adapters in the last K of
its six layers, for each K, with the cache of what the frozen layers compute and without it. No setting places adapters
so: the network is built from its parts. Prints the seconds of training (filling the cache and validations included)
beside the accuracy on held-out training rows. Writes the results file.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any
from unittest.mock import patch

from benchmarks import report
from benchmarks.rows import ENCODER_ALONE, LABELS, NoData, data_folder, read_texts
from submillion.config.resolve import resolve
from submillion.config.schema import Config
from submillion.data.corpus import Corpus, load_corpus
from submillion.model.base import find_base
from submillion.model.classifier import TextClassifier
from submillion.model.config_json import read_shape
from submillion.runtime import prefix
from submillion.runtime.batches import EVALUATION_ROWS
from submillion.runtime.device import Compute
from submillion.runtime.distributed import ALONE
from submillion.runtime.forward import compute_logits
from submillion.tasks.one_label import OneLabel
from submillion.training.loop import fit
from submillion.training.planning import specs_of
from submillion.training.rows import TokenRows
from submillion.training.setup import (
    build_network,
    encode_rows,
    settled_precision,
    shared_compute,
    tokenizer_for,
    window_of,
)

LAYERS = 6
HELD_OUT = 0.3
TASK = OneLabel(LABELS)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prefix", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="600 rows, one pass, K of 1 and 6: for a look")
    parser.add_argument("--data", default="", help="folder with train.parquet (text, label); default $AGNEWS")
    parser.add_argument("--rows", type=int, default=7_000, help=f"{HELD_OUT:.0%} of them are held out")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--last", nargs="+", type=int, default=[1, 2, 3, 4, 6], help="the numbers of layers, K")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.epochs, options.last = 600, 1, [1, 6]
    try:
        folder = data_folder(options.data)
    except NoData as error:
        print(error, file=sys.stderr)
        return 2
    runs = [
        {"last": last, "seed": seed} | measure(folder, options.rows, options.epochs, last, seed)
        for seed in options.seeds
        for last in options.last
    ]
    suffix = "-prefix-quick" if options.quick else "-prefix"
    print_table(runs)
    print(report.write_results([], {"options": vars(options), "runs": runs}, suffix=suffix))
    return 0


def measure(folder: Path, count: int, epochs: int, last: int, seed: int) -> dict[str, Any]:
    """Trains with the cache and, if layers are frozen, without it. Returns seconds, accuracy and parameters of each."""
    texts, labels = read_texts(folder, count)
    settings = {
        "seed": seed,
        "train.epochs": epochs,
        # The cache holds nothing of rows that are new in each pass, or that dropout makes new.
        "robust.noise": False,
        "model.dropout": 0.0,
        "data.validation_fraction": HELD_OUT,
        "data.test_fraction": 0,
        "data.label_names": LABELS,
    } | ENCODER_ALONE
    config = resolve(recipe="agnews-minilm", overrides=settings).config
    corpus = load_corpus(config.data, seed, {"train": {"text": texts, "label": labels.tolist()}})
    measured = {"cached": fitted(config, corpus, last)}
    if last < LAYERS:
        measured["not cached"] = without_cache(config, corpus, last)
    return measured


def without_cache(config: Config, corpus: Corpus, last: int) -> dict[str, float]:
    """Trains and returns as `fitted`, with every layer computed in every pass."""
    with patch.object(prefix, "MOST_BYTES", 0):  # so that no cache is small enough
        return fitted(config, corpus, last)


def fitted(config: Config, corpus: Corpus, last: int) -> dict[str, float]:
    """Trains adapters in the last layers. Returns seconds, accuracy on the held-out rows, and trainable parameters."""
    network, compute, train, held_out = prepared(config, corpus, last)
    start = time.perf_counter()
    fit(network, TASK, train, held_out, config.train, config.seed, compute, adapter_scale=config.robust.adapter_scale)
    seconds = time.perf_counter() - start
    logits = compute_logits(network, TASK, held_out.tokens, EVALUATION_ROWS, compute)
    return {
        "seconds": round(seconds, 2),
        "accuracy": float(TASK.is_right(logits, held_out.targets).mean()),
        "trainable": sum(parameter.numel() for parameter in network.trainable().values()),
    }


def prepared(config: Config, corpus: Corpus, last: int) -> tuple[TextClassifier, Compute, TokenRows, TokenRows]:
    """Returns the network as a run has it, but for the layers with adapters; the precision; training, held-out rows."""
    base = find_base(config.model.base)
    shape = read_shape(base.folder)
    tokenizer = tokenizer_for(config, base, shape, corpus)
    spec, adapters = specs_of(config)
    train, held_out = (encode_rows(tokenizer, rows, spec) for rows in (corpus.train, corpus.validation))
    spec = replace(spec, window=window_of(spec, tokenizer, train.tokens))
    adapters = replace(adapters, layers=tuple(range(LAYERS - last, LAYERS)))
    compute = shared_compute(config, ALONE)
    network = build_network(config, base, shape, spec, adapters, TASK.num_outputs)
    network.to_compute(compute.dtype, compute.device)
    compute, _ = settled_precision(network, train.tokens, config, compute, ALONE)
    network.use_int8(0.0 if compute.int8 else None)
    return network, compute, train, held_out


def print_table(runs: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="adapters in the last K layers: means over the seeds", title_justify="left")
    for name in ("K", "trainable", "accuracy, %", "seconds, cached", "not cached", "all layers / cached"):
        table.add_column(name, justify="right")
    whole = [run["cached"]["seconds"] for run in runs if run["last"] == LAYERS]
    for last in dict.fromkeys(run["last"] for run in runs):
        seeds = [run for run in runs if run["last"] == last]
        seconds = mean(run["cached"]["seconds"] for run in seeds)
        others = [run["not cached"]["seconds"] for run in seeds if "not cached" in run]
        table.add_row(
            str(last),
            f"{seeds[0]['cached']['trainable']:,}",
            report.mean_and_deviation([run["cached"]["accuracy"] for run in seeds]),
            f"{seconds:.0f}",
            f"{mean(others):.0f}" if others else "",
            f"{mean(whole) / seconds:.1f}x" if whole else "",
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
