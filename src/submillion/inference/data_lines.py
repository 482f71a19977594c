"""What a run says of its rows: before it trains, and of what was not measured at its end."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from submillion.config import Config, DataConfig
from submillion.data.corpus import Corpus, Rows
from submillion.data.skipping import FILE_NAME as SKIPPED
from submillion.errors import escaped

MOST_NAMED = 10  # labels named in a line; the rest are counted


def splits_of(corpus: Corpus) -> dict[str, Rows]:
    """Returns the rows of each split by the name that a person reads."""
    return {"training": corpus.train, "validation": corpus.validation, "test": corpus.test}


def data_lines(config: Config, corpus: Corpus) -> Iterator[str]:
    """Yields what to know of the rows before they train: how many, the labels, what was left out and joined."""
    sizes = ", ".join(f"{len(rows.texts):,} {name}" for name, rows in splits_of(corpus).items())
    yield f"data       {escaped(corpus.source)}: {sizes}"
    for note in corpus.notes:
        yield f"{note.heading:<10} {escaped(note.text)}"
    if corpus.skipped:
        first = corpus.skipped[0]
        counts = ", ".join(f"{count:,} {split}" for split, count in skipped_counts(corpus).items())
        what = f"{counts} rows that cannot be used, listed in {SKIPPED} of {config.output.dir} after training"
        yield f"skipped    {what}; the first: {first.split} {first.place}, {escaped(first.reason)}"
    if corpus.unlabelled:
        by = f" of {config.data.teacher}" if config.data.teacher else ""
        yield f"unlabelled {config.data.unlabelled}: {len(corpus.unlabelled):,} texts, to get labels{by} and train"
    for name, rows in splits_of(corpus).items():
        if rows.overlap is not None and rows.overlap.any():
            held_out = f"{rows.overlap.sum():,} of the {len(rows.texts):,} {name} rows"
            yield f"overlap    {held_out} are near duplicates of training rows: measured apart too"
    if corpus.notice:
        yield f"terms      {corpus.notice}"


def skipped_counts(corpus: Corpus) -> dict[str, int]:
    """Returns how many rows data.skip_bad_rows left out, by split: what metrics.json has as "skipped"."""
    return dict(Counter(row.split for row in corpus.skipped))


def why_none(split: str, config: DataConfig) -> str:
    """Returns why a run has no rows of a split, "test" or "validation", and how to have some."""
    fraction = config.test_fraction if split == "test" else config.validation_fraction
    if fraction == 0:
        return f"none: --data.{split}-fraction is 0, and the source brings no labelled {split} rows of its own"
    return "none: no row could be cut from the training rows, each the only one of its label or nearly equal to others"


def macro_f1_shown(metrics: Mapping[str, Any]) -> str:
    """Returns macro-F1 of what `classification_metrics` returns, with the labels that had no rows, if any."""
    if "without_rows" not in metrics:
        return f"{metrics['macro_f1']:.4f}"
    absent = [escaped(name) for name in metrics["without_rows"]["labels"]]
    more = f" and {len(absent) - MOST_NAMED:,} more" if len(absent) > MOST_NAMED else ""
    named = f"{', '.join(absent[:MOST_NAMED])}{more}"
    others = f"over the others it is {metrics['without_rows']['macro_f1_of_others']:.4f}"
    return f"{metrics['macro_f1']:.4f} (labels without rows here count as 0: {named}; {others})"
