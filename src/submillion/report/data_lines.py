"""What a run says of its rows: before it trains, and about splits that it does not have."""

from collections.abc import Iterator

from submillion.config.schema import Config, DataConfig
from submillion.data.corpus import Corpus
from submillion.data.skipping import FILE_NAME as SKIPPED
from submillion.errors import escaped


def data_lines(config: Config, corpus: Corpus) -> Iterator[str]:
    """Yields what to know of the rows before they train: how many, the labels, what was left out and joined."""
    sizes = ", ".join(f"{len(rows.texts):,} {name}" for name, rows in corpus.splits().items())
    yield f"data       {escaped(corpus.source)}: {sizes}"
    for note in corpus.notes:
        yield f"{note.heading:<10} {escaped(note.text)}"
    if corpus.skipped:
        first = corpus.skipped[0]
        counts = ", ".join(f"{count:,} {split}" for split, count in corpus.skipped_counts().items())
        listed = f"listed in {SKIPPED} of {config.output.dir} after training"
        reason = f"{first.split} {first.place}, {escaped(first.reason)}"
        yield f"skipped    {counts} rows that cannot be used, {listed}; the first: {reason}"
    if corpus.unlabelled:
        yield f"unlabelled {config.data.unlabelled}: {len(corpus.unlabelled):,} texts, to get labels and train"
    for name, rows in corpus.splits().items():
        if rows.overlap is not None and rows.overlap.any():
            held_out = f"{rows.overlap.sum():,} of the {len(rows.texts):,} {name} rows"
            yield f"overlap    {held_out} are near duplicates of training rows: measured apart too"
    if corpus.notice:
        yield f"terms      {corpus.notice}"


def why_none(split: str, config: DataConfig) -> str:
    """Returns why a run has no rows of a split, "test" or "validation", and how to have some."""
    fraction = config.test_fraction if split == "test" else config.validation_fraction
    if fraction == 0:
        return f"none: --data.{split}-fraction is 0, and the source brings no labelled {split} rows of its own"
    return "none: no row could be cut from the training rows, each the only one of its label or nearly equal to others"
