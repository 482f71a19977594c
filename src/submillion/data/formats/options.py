"""The settings of how a text file is read, for what the file itself leaves open."""

from collections.abc import Sequence
from dataclasses import dataclass

from submillion.config.checks import SEPARATOR_WORDS


@dataclass(frozen=True)
class ReadOptions:
    """How to read a file. Every field is "auto" unless the caller decides: header and quoting are then "yes" or "no".

    prefix: what stands before the names of these settings on the command line, for the advice of errors.
    """

    separator: str = "auto"
    encoding: str = "auto"
    header: str = "auto"
    quoting: str = "auto"
    prefix: str = "--data."

    @classmethod
    def of(cls, words: Sequence[str], prefix: str = "--data.") -> "ReadOptions":
        """Returns the options that words such as separator=tab or header=no ask for, checked by `check` already."""
        return cls(**dict(word.split("=", 1) for word in words), prefix=prefix)

    def flag(self, name: str) -> str:
        """Returns a setting as it is typed: --data.encoding."""
        return f"{self.prefix}{name}"

    @property
    def separator_character(self) -> str:
        """Returns the character that `separator` stands for; "" for auto."""
        return "" if self.separator == "auto" else SEPARATOR_WORDS.get(self.separator.lower(), self.separator)
