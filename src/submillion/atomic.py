"""Files appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO


@contextmanager
def write_atomically(path: Path, mode: str = "w") -> Iterator[IO]:
    """Opens a temporary file beside `path`; flushed to disk and renamed to it on success, removed on any error.

    Makes the folder. Text is UTF-8 with newlines as written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
    file = NamedTemporaryFile(  # noqa: SIM115
        mode,
        encoding=encoding,
        newline=newline,
        dir=path.parent,
        prefix=f".{path.name}.",
        suffix=".part",
        delete=False,
    )
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(file.name, 0o666 & ~_umask())  # temporary files are private, results are not
        os.replace(file.name, path)
    except BaseException:
        Path(file.name).unlink(missing_ok=True)
        raise


def check_writable(folder: Path) -> None:
    """Makes the folder and writes a file in it: better to fail before an hour's work than after. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=folder):
        pass


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
