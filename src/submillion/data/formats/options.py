"""The settings that say how a file is read, where the file itself leaves it open."""

from dataclasses import dataclass
from typing import Literal

from submillion.config import SEPARATOR_WORDS


@dataclass(frozen=True)
class ReadOptions:
    """How to read a file. Every field is "auto" where the file decides.

    prefix: what stands before the names of these settings on the command line, for the advice of errors.
    """

    separator: str = "auto"
    encoding: str = "auto"
    header: Literal["auto", "yes", "no"] = "auto"
    quoting: Literal["auto", "yes", "no"] = "auto"
    prefix: str = "--data."

    def flag(self, name: str) -> str:
        """Returns a setting as it is typed: --data.encoding."""
        return f"{self.prefix}{name}"

    @property
    def separator_character(self) -> str:
        """Returns the character that `separator` stands for; "" for auto."""
        return "" if self.separator == "auto" else SEPARATOR_WORDS.get(self.separator.lower(), self.separator)
