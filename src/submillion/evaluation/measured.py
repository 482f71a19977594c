"""Which rows of a source a model is measured on: none that it has trained on."""

from dataclasses import dataclass, replace
from pathlib import Path

from submillion.data.columns import Columns, other_columns
from submillion.data.corpus import held_out_rows, load_rows, rows_sha256
from submillion.data.formats.options import ReadOptions
from submillion.data.labelled import Rows
from submillion.data.sources import read_options
from submillion.errors import DataError
from submillion.inference.classifier import Classifier


@dataclass(frozen=True)
class Measured:
    """The rows that a model is measured on, and which rows of the source they are."""

    rows: Rows
    part: str
    """"its test split", "all of its rows" or "the rows held out in training"."""
    notes: tuple[str, ...]
    """What was read otherwise than in training, in sentences to be printed."""

    def lines(self, source: str) -> list[str]:
        """Returns what was read of `source`, for the printout."""
        columns = self.rows.columns
        read_from = f"; texts from {columns.text!r}, labels from {columns.label!r}" if columns.text else ""
        return [f"{source}: {self.part}, {len(self.rows.texts):,}{read_from}", *self.notes]


def rows_to_measure(
    classifier: Classifier, source: str, text_column: str, label_column: str, options: ReadOptions | None = None
) -> Rows:
    """Returns the rows of `read_measured`."""
    return read_measured(classifier, source, text_column, label_column, options=options).rows


def read_measured(
    classifier: Classifier,
    source: str,
    text_column: str,
    label_column: str,
    overlap: bool = False,
    options: ReadOptions | None = None,
) -> Measured:
    """Reads a source's test split, or all rows of a file; if the model trained on the file, the rows held out then.

    text_column, label_column: what the caller names; else the columns that the model was trained on are read if the
    source has them. overlap: also look for near duplicates of training rows that the source holds (`Rows.overlap`).
    options: how files are read; None as in training, if it is the same source. Raises DataError if there are no rows
    to measure, and if the source cannot be read.
    """
    data, label_names = classifier.config.data, classifier.label_names
    same_path = source == data.source or (
        Path(source).exists() and Path(source).resolve() == Path(data.source).resolve()
    )
    trained_sha256 = classifier.trained_rows.get("sha256", "")
    rows, is_test_split = load_rows(
        source,
        label_names,
        text_column,
        label_column,
        first_label=classifier.trained_rows.get("first_label"),
        trained_on=trained_sha256 if overlap else "",
        merge_labels=data.merge_labels,
        skip_bad_rows=same_path and data.skip_bad_rows,
        trained_columns=classifier.columns,
        options=options or (read_options(data) if same_path else None),
    )
    notes = tuple(other_columns(rows.columns, classifier.columns, Columns(text_column, label_column)))
    if is_test_split:
        return Measured(rows, "its test split", notes)
    trained_on = trained_sha256 == rows_sha256(rows, label_names) if trained_sha256 else same_path
    if not trained_on and same_path:
        raise DataError(
            f"{source}: its rows are no longer those that the model was trained on, so which of them it has seen "
            "cannot be told\nfix: give the rows to measure as a file of another name"
        )
    if not trained_on:
        return Measured(rows, "all of its rows", notes)
    # A model is right on rows that it has learned by heart, so the rows are cut as training cut them.
    if not classifier.trained_rows.get("test_cut", data.test_fraction > 0):
        raise DataError(
            f"{source}: the model has trained on all of its rows, so it cannot be measured on them\n"
            "fix: give other labelled rows"
        )
    held_out = replace(held_out_rows(rows, data.test_fraction, classifier.config.seed), notes=rows.notes)
    return Measured(held_out, "the rows held out in training", notes)
