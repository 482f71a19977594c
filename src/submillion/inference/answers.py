"""Predictions as lines of text: label names, csv, tsv, jsonl."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from submillion.data.compression import CODECS
from submillion.data.inputs import InputRows
from submillion.data.labels import is_decimal
from submillion.data.values import as_cell, as_json
from submillion.errors import ConfigError, DataError

UNWRITTEN = (".json", ".parquet", ".pkl", ".pickle", *CODECS)  # kinds of data that are read alone
INPUT_PREFIX = "input_"  # before the name of a copied column that is called as one of the answers' own
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)*|[.,]\d+)([eE][+-]?\d+)?%?")


def answer_format(asked: str, output: Path, scores: bool, id_column: str = "", keep: Sequence[str] = ()) -> str:
    """Returns "labels", "csv", "tsv" or "jsonl": what is asked for, or for "auto" what suits the output.

    scores, id_column, keep: what the answers are to hold beside the label. Raises ConfigError for these in a line that
    holds the label's name alone, and for "auto" if the output is named as a kind of data that is not written here.
    """
    flags = {"--scores": scores, "--id-column": id_column, "--keep": keep}
    more = [flag for flag, value in flags.items() if value]
    if asked == "labels" and more:
        raise ConfigError(f"--format labels has no place for {' and '.join(more)}\nfix: --format csv, tsv or jsonl")
    if asked != "auto":
        return asked
    if output.suffix.lower() in UNWRITTEN:
        raise ConfigError(
            f"--output {output}: expected a name for csv, tsv or jsonl, uncompressed, found {output.suffix}\n"
            "fix: another name, or say with --format what it is to hold"
        )
    if output == Path("-"):
        return "csv" if more else "labels"
    return {".tsv": "tsv", ".jsonl": "jsonl"}.get(output.suffix.lower(), "csv")


def looks_like_number(name: str) -> bool:
    """Returns whether a label's name can be taken for a number: 1, 01, -0.5, 0,5, 1e3, 50%."""
    return bool(_NUMBER.fullmatch(name.strip()))


class Answers:
    """Lines of answers in one format.

    labels: the label's name, line breaks in it as spaces.
    csv, tsv: ID and Label; with scores Name, Blank and a probability for each label, p_NAME; then the copied columns.
    jsonl: {"id": 0, "label": "World", "name": "World"}; with scores "blank" and "probabilities" by name; then the
    copied columns.

    ID is the input's own, or counted from 0. Label is the label's name, as an integer of JSON if all names are
    integers; for integers, its place among the names, but never if a name looks like a number. Name is always the
    name. Blank is true for a row without a text. A copied column that has the name of another one gets INPUT_PREFIX
    before it.
    """

    def __init__(
        self,
        format: str,
        label_names: Sequence[str],
        scores: bool = False,
        integers: bool = False,
        kept: Sequence[str] = (),
    ) -> None:
        """Chooses the columns of the answers.

        integers: labels as places among the names. kept: the columns to copy. Raises DataError if two columns of the
        answers would have one name.
        """
        self.format, self.label_names, self.scores = format, list(label_names), scores
        self.integers = integers
        self.as_places = integers and not any(map(looks_like_number, label_names))
        self.names_are_integers = all(map(is_decimal, label_names))
        if format == "jsonl":
            columns = ["id", "label", "name"] + ["blank", "probabilities"] * scores
        else:
            columns = ["ID", "Label"] + ["Name", "Blank", *(f"p_{name}" for name in label_names)] * scores
        self.columns = columns
        self.kept = _apart(kept, columns)

    def header(self) -> str:
        """Returns the first line of a csv or tsv, and "" for the other formats."""
        return self._separated([[*self.columns, *self.kept.values()]]) if self.format in ("csv", "tsv") else ""

    def notes(self) -> list[str]:
        """Returns what a reader of the answers may not expect, in sentences to be printed."""
        renamed = [
            f"the column {old!r} is called {new!r} in the answers" for old, new in self.kept.items() if old != new
        ]
        if self.integers and not self.as_places and not self.names_are_integers:
            renamed.append("labels are written by their names, which look like numbers, and not as integers")
        return renamed

    def lines(self, rows: InputRows, first_id: int, labels: np.ndarray, probabilities: np.ndarray | None) -> str:
        """Returns a line for each row, each with its end.

        first_id: the ID of the first of these rows, if the IDs are counted. labels: int64 [rows]. probabilities:
        float32 [rows, labels] with scores, else None.
        """
        names = [self.label_names[label] for label in labels]
        if self.format == "labels":
            return "".join(f"{' '.join(name.splitlines())}\n" for name in names)
        records = list(self._records(rows, first_id, labels, names, probabilities))
        if self.format == "jsonl":
            return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        return self._separated([self._cells(record) for record in records])

    def _records(
        self,
        rows: InputRows,
        first_id: int,
        labels: np.ndarray,
        names: Sequence[str],
        probabilities: np.ndarray | None,
    ) -> Iterator[dict[str, Any]]:
        """Yields the objects of jsonl, with the columns to copy under the names that they get."""
        for index, (place, name) in enumerate(zip(labels.tolist(), names, strict=True)):
            row_id = first_id + index if rows.ids is None else as_json(rows.ids[index])
            label = place if self.as_places else int(name) if self.names_are_integers else name
            record = {"id": row_id, "label": label, "name": name}
            if probabilities is not None:
                shares = zip(self.label_names, probabilities[index].tolist(), strict=True)
                record |= {"blank": not rows.texts[index]}
                record |= {"probabilities": {label_name: round(share, 6) for label_name, share in shares}}
            yield record | {name: as_json(rows.kept[column][index]) for column, name in self.kept.items()}

    def _cells(self, record: dict[str, Any]) -> list[str]:
        cells = [as_cell(record["id"]), str(record["label"])]
        if self.scores:
            shares = [f"{share:.6f}" for share in record["probabilities"].values()]
            cells += [record["name"], as_cell(record["blank"]), *shares]
        return cells + [as_cell(record[name]) for name in self.kept.values()]

    def _separated(self, rows: Sequence[Sequence[str]]) -> str:
        lines = _Lines()
        csv.writer(lines, delimiter="\t" if self.format == "tsv" else ",", lineterminator="\r\n").writerows(rows)
        return "".join(lines.kept)


def _apart(kept: Sequence[str], columns: Sequence[str]) -> dict[str, str]:
    """Returns the name in the answers of each column to copy. Raises DataError if two would have one name."""
    names = {column: INPUT_PREFIX * (column in columns) + column for column in kept}
    taken = [*columns, *names.values()]
    for column, name in names.items():
        if taken.count(name) > 1:
            raise DataError(
                f"--keep: the column {column!r} would be called {name!r} in the answers, as another one is\n"
                f"fix: give it another name in the input, or leave it out of --keep"
            )
    return names


class _Lines:
    """Keeps the rows that csv writes, each with "\\n" at its end.

    With that as its own line end, Python's csv before 3.13 writes a cell with a carriage return without quotes.
    """

    def __init__(self) -> None:
        self.kept: list[str] = []

    def write(self, row: str) -> None:
        self.kept.append(row.removesuffix("\r\n") + "\n")
