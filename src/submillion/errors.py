"""The errors a user can cause. Each says what was expected, what was found and the likely fix; the commands print the
text alone, without a traceback, and exit with code 2."""

import re

# C0, DEL and C1, the marks that turn the direction of a line, line and paragraph separators, halves of surrogate pairs.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escaped(text: str) -> str:
    r"""Returns the text with each control character as its escape, such as \x1b: a terminal acts on none of it."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def escaped_lines(text: str) -> str:
    """Returns the text with each line `escaped`: line breaks stay."""
    return "\n".join(map(escaped, text.split("\n")))


class SubmillionError(Exception):
    """Base of every error whose cause lies in the input, not in this package.

    Its text may quote names, labels and texts of any file: control characters in these are shown escaped.
    """

    def __str__(self) -> str:
        return escaped_lines(super().__str__())


class ConfigError(SubmillionError):
    """An unknown key or flag, or a value outside its range."""


class BudgetError(SubmillionError):
    """The trainable parameters exceed the budget."""


class DataError(SubmillionError):
    """A file, column, row or label that cannot be used; names every problem of the input at once."""


class BaseModelError(SubmillionError):
    """A pretrained encoder that is missing, unsupported or not the one expected."""


class ArtefactError(SubmillionError):
    """A saved model that is cut, altered, hostile or does not fit its base model."""


class ExportError(SubmillionError):
    """A model that another format cannot hold, or that came out of it with other answers."""


class TrainingError(SubmillionError):
    """Training cannot go on, for example because the loss is not finite."""


class SavingError(SubmillionError):
    """A trained model cannot be saved in the requested folder; the error names the folder that holds it instead."""


class DistributedError(SubmillionError):
    """The processes of a run that torchrun started cannot go on together, for example because one has ended."""


def encodable(text: str) -> bool:
    """Returns False if the text holds half of a surrogate pair, which no tokenizer and no file written here can hold.

    Such halves come from JSON's escapes, and from file names that are not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def did_you_mean(name: str, known: list[str]) -> str:
    """Returns '; did you mean X?' with the nearest known name, or '' if none is near."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""
