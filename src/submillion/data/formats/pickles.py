"""Reads pickles as data: no function or class that a pickle names is ever imported or called.

A pickle is a program; unpickling it the usual way runs whatever it names. Here every admitted name stands for a `Node`,
an inert record of what the pickle would have passed to it, and any other name is refused.
"""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

from submillion.data.formats.pickle_nodes import ADMITTED, Node
from submillion.data.formats.pickle_values import plain
from submillion.errors import DataError

FIX = "fix: where the file was made, write it as csv, jsonl or parquet instead"


class _Reader(pickle.Unpickler):
    """Builds nodes. A pickle reaches a name by `find_class` alone, whatever the opcode."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.kinds: dict[str, type[Node]] = {}  # of this pickle alone, so that nothing it does to them outlives it

    def find_class(self, module: str, name: str) -> type[Node]:
        full = f"{module}.{name}"
        kind = ADMITTED.get(full)
        if kind is None:
            raise DataError(
                f"refused: the pickle wants {full}; only tables of datasets, pandas, numpy and pyarrow are admitted, "
                "and plain dicts and lists; nothing in it was run"
            )
        if full not in self.kinds:
            self.kinds[full] = type("Node", (Node,), {"kind": kind, "name": full})
        return self.kinds[full]


def read_pickle(path: Path) -> Any:
    """Returns a pyarrow.Table for a Dataset, a dict of columns for a DataFrame or Series; dicts and lists as they are.

    Raises DataError for a name that is not admitted, a file cut short, a memory-mapped dataset (its rows are in another
    file) and records that do not fit together.
    """
    try:
        raw = path.read_bytes()
        _check_opcodes(raw)
        return plain(_Reader(io.BytesIO(raw)).load())
    except DataError as error:
        raise DataError(f"{path.name}: {error}\n{FIX}") from None
    except EOFError:
        raise DataError(f"{path.name}: the pickle is cut short\n{FIX}, or copy it again") from None
    except Exception as error:  # what a damaged pickle does to any step below cannot be listed
        what = "cut short" if "truncated" in str(error) else "damaged, or no pickle of a table"
        raise DataError(f"{path.name}: the pickle is {what} ({type(error).__name__}: {error})\n{FIX}") from None


def _check_opcodes(raw: bytes) -> None:
    """Raises EOFError for a pickle that is cut short, ValueError for one that would take more memory than it can fill.

    The unpickler makes room for what a length or a number says before it looks whether the file holds as much.
    """
    try:
        for opcode, argument, _ in pickletools.genops(raw):
            if opcode.name in ("PUT", "LONG_BINPUT") and argument is not None and argument > len(raw):
                raise ValueError(f"object number {argument:,} in a file of {len(raw):,} bytes")
    except ValueError as error:
        if raw.startswith(b"\x80") and any(
            words in str(error) for words in ("remain", "exhausted", "not enough data", "no newline")
        ):
            raise EOFError(str(error)) from None
        raise
