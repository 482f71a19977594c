"""Git LFS pointers: the few lines of text that a clone made without Git LFS holds in place of a large file."""

from collections.abc import Iterable
from pathlib import Path

from submillion.errors import SubmillionError

_FIRST_BYTES = b"version https://git-lfs.github.com/spec/v1"


def check_no_pointers(paths: Iterable[Path], error: type[SubmillionError]) -> None:
    """Raises `error`, naming the files, where any of these paths is a Git LFS pointer. Skips paths that are no file."""
    pointers = [path for path in paths if path.is_file() and _is_pointer(path)]
    if pointers:
        names = ", ".join(path.name for path in pointers)
        raise error(
            f"{pointers[0].parent}: expected the files themselves, found Git LFS pointers in place of {names}\n"
            "they were cloned without Git LFS\nfix: install Git LFS and run `git lfs pull` in that folder"
        )


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_FIRST_BYTES)) == _FIRST_BYTES
