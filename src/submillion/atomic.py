"""Files appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile, mkdtemp
from typing import IO

from submillion.errors import ConfigError


@contextmanager
def write_atomically(path: Path, mode: str = "w") -> Iterator[IO]:
    """Opens a temporary file beside `path`; flushed to disk and renamed to it on success, removed on any error.

    Makes the folder. Text is UTF-8 with newlines as written. A link stays, and what it points to is written; a device
    or a pipe is written to as it is: renamed over, /dev/null would be a file from then on.
    """
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
    if path.exists() and not path.is_file() and not path.is_dir():
        with open(path, mode, encoding=encoding, newline=newline) as device:
            yield device
        return
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
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


def write_together(contents: dict[Path, str | bytes]) -> None:
    """Writes all files or none: each to a temporary file first, then renamed in their order, so that the last is there
    only where the others are."""
    with ExitStack() as stack:
        for path, content in reversed(contents.items()):  # what was entered last ends first
            file = stack.enter_context(write_atomically(path, "wb"))
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()


@contextmanager
def write_folder_atomically(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Yields an empty folder beside `folder`, which takes its place on success and is removed on any error.

    An earlier `folder` is replaced where `check_replaceable` allows it: raises ConfigError where it does not.
    """
    folder = folder.absolute()
    check_replaceable(folder, names)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
    try:
        yield part
        for path in part.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
            path.chmod(0o666 & ~_umask())
        part.chmod(0o777 & ~_umask())
        earlier = part.with_suffix(".earlier")
        if folder.exists():
            folder.rename(earlier)
        try:
            part.rename(folder)
        except BaseException:
            if earlier.exists():
                earlier.rename(folder)
            raise
        shutil.rmtree(earlier, ignore_errors=True)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def check_replaceable(folder: Path, names: Sequence[str]) -> None:
    """Raises ConfigError where `folder` is a file, or holds anything but files of these names, or some without the
    first of them: that one tells an earlier folder of this kind from a person's own tokenizer.json or config.toml."""
    if folder.is_dir():
        found = sorted(path.name for path in folder.iterdir())
        others = [name for name in found if name not in names or (folder / name).is_dir()]
        if found and not others and names[0] not in found:
            others = found
        if others:
            shown = ", ".join(others[:5]) + (" ..." if len(others) > 5 else "")
            raise ConfigError(f"{folder}: expected a new or empty folder, found {shown} in it\nfix: name another one")
    elif folder.exists():
        raise ConfigError(f"{folder}: expected a folder, found a file\nfix: name another one")


def check_writable(folder: Path) -> None:
    """Makes the folder and writes a file in it: better to fail before an hour's work than after. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=folder):
        pass


def check_output(output: Path, kept: Mapping[str, Path]) -> None:
    """Raises ConfigError where `output` is a folder, or one of the files that must not be lost: {what it is: path}."""
    if output.is_dir():
        raise ConfigError(f"{output}: expected a file to write, found a folder\nfix: name a file in it")
    for name, path in kept.items():
        if output.exists() and path.exists() and output.samefile(path):
            raise ConfigError(f"{output} is {name}, which would be lost\nfix: another --output")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
