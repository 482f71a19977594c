"""Labelled rows of another kind than the training rows: where they come from, and how right a model is on them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from submillion.config.schema import DataConfig
from submillion.data.columns import Columns, has_text, pick_trained
from submillion.data.labelled import Rows
from submillion.data.labels import names_by_number, raw_labels, without_points
from submillion.data.short_names import short_name
from submillion.data.sources import read_source
from submillion.data.tables import Pick, checked_texts
from submillion.errors import ConfigError, DataError
from submillion.tasks.task import Task

COLUMNS_FIX = "fix: rename its columns, or give --data.text-column and --data.label-column that both sources have"


@dataclass(frozen=True)
class ShiftedRows:
    """The rows of a source whose labels the model has."""

    rows: Rows  # labels are indices into the model's label names
    left_out: int  # rows of other labels
    labels: tuple[str, ...]  # of all rows, as the source has them


def check_label_map(label_map: Sequence[str], label_names: Sequence[str]) -> dict[str, str]:
    """Returns {label of the source: label of the model} of entries THEIRS=OURS.

    Raises ConfigError with every entry that is none, or whose second label the model does not have.
    """
    pairs = [entry.rpartition("=") for entry in label_map]
    problems = [
        f"{entry!r} is not THEIRS=OURS"
        for entry, (theirs, _, ours) in zip(label_map, pairs, strict=True)
        if not theirs or not ours
    ]
    unknown = [ours for theirs, _, ours in pairs if theirs and ours and ours not in label_names]
    problems += [f"{name!r} is no label of the model (it has {', '.join(label_names)})" for name in unknown]
    if problems:
        raise ConfigError("--label-map: " + "; ".join(problems))
    return {theirs: ours for theirs, _, ours in pairs}


def read_shifted(
    sources: Sequence[str], task: Task, label_map: Mapping[str, str], named: Columns, trained: Columns
) -> dict[str, ShiftedRows]:
    """Reads labelled sources and returns their rows by the short name of each source.

    label_map: from labels of the sources to labels of the model. named: the columns that the caller names; a source
    that does not have them is read by the columns that the model was trained on, or by the columns' usual names.
    Raises DataError if a source cannot be read, if none of its rows has a label of the model, and if rows are left out
    while the map names a label that no row has, which looks like a typing error.
    """
    shifted = {source: _read(source, task, label_map, named, trained) for source in dict.fromkeys(sources)}
    labels = sorted({label for part in shifted.values() for label in part.labels})
    unknown = [theirs for theirs in label_map if theirs not in labels]
    if unknown and any(part.left_out for part in shifted.values()):
        raise DataError(
            f"{', '.join(shifted)}: rows would be left out, and --label-map has {', '.join(map(repr, unknown))}, which "
            f"no row has\nexpected before the =: one of {', '.join(labels[:20])}\nfix: leave it out, or correct it"
        )
    count = Counter(map(short_name, shifted))  # two files may have one name
    return {source if count[short_name(source)] > 1 else short_name(source): part for source, part in shifted.items()}


def measure_shift(task: Task, logits: np.ndarray, shifted: ShiftedRows) -> dict[str, Any]:
    """Returns accuracy, rows, left_out, and per_label: the share of each label's rows that are right."""
    metrics = task.metrics(logits, shifted.rows.labels)
    return {
        "accuracy": metrics["accuracy"],
        "rows": len(shifted.rows.texts),
        "left_out": shifted.left_out,
        "per_label": {label: figures["recall"] for label, figures in metrics["per_label"].items() if figures["rows"]},
    }


def _read(source: str, task: Task, label_map: Mapping[str, str], named: Columns, trained: Columns) -> ShiftedRows:
    read = read_source(DataConfig(source=source), pick=partial(_pick_columns, named, trained))
    table = read.splits.get("test") or read.splits["train"]
    text_column, label_column = table.columns
    source_labels = [
        label or "" for label in without_points(raw_labels(table, label_column), [*task.label_names, *label_map])
    ]
    same_number = names_by_number(filter(None, source_labels), task.label_names)
    labels = [label_map.get(label, same_number.get(label, label)) for label in source_labels]
    texts = checked_texts(table, text_column)
    table.problems.check()
    known_labels = set(task.label_names)
    kept = [row for row, label in enumerate(labels) if label in known_labels]
    distinct = tuple(sorted(set(source_labels)))
    if not kept:
        raise DataError(
            f"{source}: no row has a label of the model\nexpected {', '.join(task.label_names)}, "
            f"found {', '.join(distinct[:8])}\nfix: --label-map theirs=ours ..."
        )
    targets = task.targets([labels[row] for row in kept])
    return ShiftedRows(Rows([texts[row] for row in kept], targets), len(labels) - len(kept), distinct)


def _pick_columns(named: Columns, trained: Columns, where: str) -> Pick:
    """Returns what picks the text column or columns, then the label column: the named ones if the table has them."""

    def pick(columns: list[str], strings: list[str]) -> list[str]:
        text = named.text if has_text(columns, named.text) else ""
        label = named.label if named.label in columns else ""
        return pick_trained(text, label, trained, where, COLUMNS_FIX)(columns, strings)

    return pick
