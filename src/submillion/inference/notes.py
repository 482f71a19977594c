"""Prints how files were understood."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def print_notes(console: "Console", notes: Iterable[str]) -> None:
    """Prints a line for each note, without the control characters that a file's own words may hold."""
    for note in notes:
        shown = "".join(character if character.isprintable() else "\ufffd" for character in note)
        console.print(f"read as    {shown}", soft_wrap=True, highlight=False, markup=False)
