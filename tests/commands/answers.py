"""Files of rows to predict, and the answers read back."""

import csv
import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from news import news_rows

TEXTS = [text for text, _ in news_rows(2, seed=2)]
Rows = Sequence[dict[str, Any]]


def write_separated(path: Path, rows: Rows) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)


WRITERS: dict[str, Callable[[Path, Rows], object]] = {
    "csv": write_separated,
    "tsv": write_separated,
    "jsonl": lambda path, rows: path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8"),
    "json": lambda path, rows: path.write_text(json.dumps(rows), encoding="utf-8"),
    "parquet": lambda path, rows: pd.DataFrame(rows).to_parquet(path),
    "pkl": lambda path, rows: pd.to_pickle(pd.DataFrame(rows), path),
    "pickle": lambda path, rows: path.write_bytes(pickle.dumps(list(rows))),
}


def write(path: Path, rows: Rows) -> Path:
    WRITERS[path.suffix[1:]](path, rows)
    return path


def with_ids(ids: Sequence[Any], name: str = "ID") -> list[dict[str, Any]]:
    return [{name: value, "text": text} for value, text in zip(ids, TEXTS, strict=False)]


def answers_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of answers, by the names of their columns."""
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in file]
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
