"""The file of the model card, and the part of it that `evaluate --robustness` writes anew."""

from collections.abc import Sequence
from pathlib import Path

from submillion.atomic import write_atomically

FILE_NAME = "README.md"
BEGIN, END = "<!-- robustness: evaluate --robustness writes what follows -->", "<!-- robustness: end -->"


def between_marks(section: str) -> str:
    """Returns the section on robustness with the marks that `refresh_card` looks for."""
    return f"{BEGIN}\n\n{section}\n\n{END}"


def refresh_card(model: Path, section: str, plots: Sequence[Path]) -> Path | None:
    """Replaces what stands between the marks of the model's card, copies the plots beside it, and returns its path.

    Returns None, and writes nothing, if the folder has no card with both marks: another program wrote it, or its owner
    wants it otherwise. Raises OSError if a file cannot be written.
    """
    path = (model if model.is_dir() else model.parent) / FILE_NAME
    try:
        card = path.read_bytes().decode()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    before, begin, rest = card.rpartition(BEGIN)  # the last: in the metadata a name may say anything
    _, end, after = rest.partition(END)
    if not (begin and end):
        return None
    for plot in plots:
        copy = path.parent / plot.name
        if plot.resolve() != copy.resolve():
            with write_atomically(copy, "wb") as file:
                file.write(plot.read_bytes())
    with write_atomically(path) as file:
        file.write(before + between_marks(section) + after)
    return path
