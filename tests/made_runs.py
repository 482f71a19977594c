"""Runs and results that were never trained, for what is written of them."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from tiny import tiny_shape

from submillion.config.schema import Config, DataConfig
from submillion.data.corpus import Corpus
from submillion.data.labelled import Rows
from submillion.model.budget import count
from submillion.tasks.one_label import OneLabel
from submillion.training.planning import specs_of
from submillion.training.result import RunResult
from submillion.training.run import Run

FROM_THE_HUB = Config(data=DataConfig(source="someone/texts"))


def rows_of(labels: list[int]) -> Rows:
    return Rows([f"text {row}" for row in range(len(labels))], np.array(labels, dtype=np.int64))


def made_run(
    names: tuple[str, ...] = ("x", "y"),
    splits: tuple[str, ...] = ("validation", "test"),
    config: Config = FROM_THE_HUB,
    **corpus_fields: Any,
) -> tuple[Run, RunResult]:
    """A run with as much as reports read, whose rows are right but for the first of each split."""
    labels, task = list(range(len(names))) * 3, OneLabel(names)
    corpus = Corpus(rows_of(labels), rows_of([]), rows_of([]), names, "made up", "", "", (), "", None, [])
    corpus = replace(corpus, **{split: rows_of(labels) for split in splits}, **corpus_fields)
    spec, adapters = specs_of(config)
    plan = count(tiny_shape("bert"), spec, adapters, len(names))
    run = SimpleNamespace(
        config=config,
        spec=spec,
        adapters=adapters,
        plan=plan,
        corpus=corpus,
        task=task,
        tokenizer=SimpleNamespace(spelling=None),
    )
    logits = np.eye(len(names), dtype=np.float32)[labels]
    logits[0] = np.roll(logits[0], 1)
    metrics = task.metrics(logits, np.array(labels)) | {"ece": 0.1, "ece_uncalibrated": 0.2}
    result = RunResult(
        validation=metrics if "validation" in splits else None,
        test=metrics if "test" in splits else None,
        parameters={"trainable": plan.trainable, "total_with_adapters": plan.total_with_adapters},
        rank=adapters.rank,
        window=0,
        precision="fp32",
        best_step=3,
        steps=4,
        planned_steps=4,
        interrupted=False,
        training_seconds=12.0,
        rows_per_second=34.0,
    )
    return cast(Run, run), result
