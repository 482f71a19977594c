"""What a run says of its rows before it trains."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Note(NamedTuple):
    """One line: a heading of one or two words, and a sentence. They may quote a file's own names."""

    heading: str
    text: str


def unlabelled_note(split: str, file: str, why: str) -> Note:
    """Returns the note on a split without labels: it is not measured, and how to get its answers.

    file: the path that holds it, empty if it is no file.
    """
    what = f"{file or f'the {split} split'} ({split} rows): {why}, so nothing is measured on it"
    return Note("not used", f"{what}; for its answers: submillion predict {file or 'FILE'}")


def reading_notes(lines: Iterable[str]) -> list[Note]:
    """Returns a note for each line on how a file was understood."""
    return [Note("read as", line) for line in lines]


def place_notes(names: Sequence[str], first: int | None) -> list[Note]:
    """Returns a note on labels that are integers and stand for names.

    first: the integer that stands for the first name; None, and there is no note, if integers stand for none.
    """
    if first is None:
        return []
    shown = ", ".join(f"{place} = {name}" for place, name in enumerate(names[:5], start=first))
    return [Note("labels", f"integers stand for places among the names: {shown}{' ...' if len(names) > 5 else ''}")]
