"""Predictions as lines of text: label names, csv, tsv, jsonl."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from submillion.data.compression import CODECS
from submillion.data.labels import is_decimal
from submillion.errors import ConfigError

UNWRITTEN = (".json", ".parquet", ".pkl", ".pickle", *CODECS)  # kinds of data that are read alone


def answer_format(asked: str, output: Path, scores: bool) -> str:
    """One of "labels", "csv", "tsv" and "jsonl": the one asked for; for "auto" what suits the output.

    Raises ConfigError for scores in a line that holds the label's name alone, and for "auto" where the output is named
    as a kind of data that is not written here.
    """
    if asked == "labels" and scores:
        raise ConfigError("--format labels has no place for --scores\nfix: --format csv, tsv or jsonl")
    if asked != "auto":
        return asked
    if output.suffix.lower() in UNWRITTEN:
        raise ConfigError(
            f"--output {output}: expected a name for csv, tsv or jsonl, uncompressed, found {output.suffix}\n"
            "fix: another name, or say with --format what it is to hold"
        )
    if output == Path("-"):
        return "csv" if scores else "labels"
    return {".tsv": "tsv", ".jsonl": "jsonl"}.get(output.suffix.lower(), "csv")


def header_line(format: str, label_names: Sequence[str], scores: bool) -> str:
    """The first line of a csv or tsv; "" for the other formats."""
    if format not in ("csv", "tsv"):
        return ""
    return _separated([["ID", "Label"] + (["Name", *(f"p_{name}" for name in label_names)] if scores else [])], format)


def answer_lines(
    format: str, label_names: Sequence[str], first_id: int, labels: np.ndarray, probabilities: np.ndarray | None
) -> str:
    """One line a row, each ended: labels int64 [rows], probabilities float32 [rows, labels] where they are wanted.

    labels: the label's name, line breaks in it as spaces. csv, tsv: the ID, counted from first_id, the label as an
    integer; with probabilities the name and a probability a label. jsonl: the same with names, {"id": 0, "label": 2,
    "name": "World"}, and "probabilities" by name. The integer is the label's place among the names, or, where all names
    are integers, the name: the labels come back as they were given.
    """
    names = [label_names[label] for label in labels]
    if format == "labels":
        return "".join(f"{' '.join(name.splitlines())}\n" for name in names)
    integers = names if all(map(is_decimal, label_names)) else labels
    numbered = enumerate(zip(integers, names, strict=True), first_id)
    rows: list[dict] = [{"id": number, "label": int(label), "name": name} for number, (label, name) in numbered]
    if probabilities is not None:
        for row, found in zip(rows, probabilities.tolist(), strict=True):
            row["probabilities"] = {name: round(p, 6) for name, p in zip(label_names, found, strict=True)}
    if format == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return _separated([_flat(row) for row in rows], format)


def _flat(row: dict) -> list:
    scores = [row["name"], *(f"{p:.6f}" for p in row["probabilities"].values())] if "probabilities" in row else []
    return [row["id"], row["label"], *scores]


def _separated(rows: Sequence[Sequence[object]], format: str) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter="\t" if format == "tsv" else ",", lineterminator="\n").writerows(rows)
    return text.getvalue()
