"""Tasks by their kind: how a saved model names its task."""

from collections.abc import Mapping, Sequence
from typing import Any

from submillion.tasks.one_label import OneLabel
from submillion.tasks.task import Task

KINDS = {"one label": OneLabel}


def task_record(task: Task) -> dict[str, Any]:
    """Returns what a saved model keeps of its task: strings and lists alone."""
    return {"kind": task.kind, "label_names": list(task.label_names)}


def task_from(record: Mapping[str, Any]) -> Task:
    """Returns the task of a record. Raises ValueError for a kind that this version does not know."""
    if record["kind"] not in KINDS:
        raise ValueError(f"expected a task out of {', '.join(KINDS)}, found {record['kind']!r}")
    return KINDS[record["kind"]](tuple(record["label_names"]))


def task_of(label_names: Sequence[str]) -> Task:
    """Returns the task that rows with these label names ask for."""
    return OneLabel(tuple(label_names))
