"""Markdown from names and figures that may hold anything: it shows them as they are, and none of them ends a cell."""

import re
from collections.abc import Iterable, Sequence

_MARKUP = re.compile(r"[\\`*\[\]<>|#~$!&]|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word is none


def text(name: str) -> str:
    """Returns the name as Markdown that shows it literally, in a sentence or a cell."""
    return _MARKUP.sub(r"\\\g<0>", line(name))


def line(name: str) -> str:
    """Returns the name on one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())


def listed(items: Sequence[str]) -> str:
    """Returns "a, b and c"."""
    return " and ".join(filter(None, (", ".join(items[:-1]), items[-1])))


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = (), most: int = 0) -> str:
    """Returns a table of plain texts. right: the columns set to the right. most: rows to show, 0 for all."""
    right, rows = set(right), list(rows)
    rule = ["---:" if column in right else "---" for column in range(len(header))]
    lines = [list(header), rule, *(list(map(text, row)) for row in rows[: most or None])]
    if most and len(rows) > most:
        lines.append([f"and {len(rows) - most:,} more", *("" for _ in header[1:])])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
