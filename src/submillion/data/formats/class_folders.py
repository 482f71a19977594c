"""A folder for each label, a file for each text: LABEL/*.txt, or train/LABEL/*.txt and test/LABEL/*.txt."""

from pathlib import Path

from submillion.data.formats.options import ReadOptions
from submillion.data.formats.text import BOMS, likeliest_encoding
from submillion.data.tables import Problems, Table

TEXT_ENDINGS = ("", ".txt", ".text")
UNLABELLED = ("unsup", "unsupervised", "unlabelled", "unlabeled")


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """Returns the text files below each folder of a label, both sorted; {} if there are none.

    A file whose ending is a number, or that has none, is a text too, as those of 20 Newsgroups are.
    """
    labels = {path.name: _texts(path) for path in sorted(folder.iterdir()) if path.is_dir() and _is_seen(path)}
    return {label: files for label, files in labels.items() if files}


def _texts(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_file() and _is_seen(path) and _is_text(path)]


def _is_seen(path: Path) -> bool:
    return not path.name.startswith(".")


def _is_text(path: Path) -> bool:
    return path.suffix.lower() in TEXT_ENDINGS or path.suffix[1:].isdecimal()


def read_class_folders(folder: Path, problems: Problems, options: ReadOptions) -> Table:
    """Returns columns "text" and "label" of a folder that has a folder for each label. A row is named by its file.

    A folder called unsup, as IMDB's, holds texts without labels: it is left out, which is noted. Raises DataError
    if the encoding of the texts cannot be told.
    """
    labelled = class_folders(folder)
    left_out = [label for label in labelled if label.lower() in UNLABELLED]
    for label in left_out:
        count = len(labelled.pop(label))
        problems.note(f"{folder.name}: {count:,} texts below {label} are left out, for they have no label")
    problems.note(f"{folder.name}: read as a folder for each label: {', '.join(labelled)}")
    paths = [(label, path) for label, files in labelled.items() for path in files]
    names = [f"{label}/{path.name}" for label, path in paths]
    texts = _decoded([path.read_bytes() for _, path in paths], names, problems, options)
    columns = {"text": texts, "label": [label for label, _ in paths]}
    return Table(columns, problems, range(1, len(texts) + 1), files=names)


def _decoded(contents: list[bytes], names: list[str], problems: Problems, options: ReadOptions) -> list[str]:
    """Returns the contents as texts. The encoding of those that are not UTF-8 is found from all of these together."""
    encoding = options.encoding
    if encoding == "auto":
        odd = [raw for raw in contents if not raw.startswith(tuple(BOMS)) and not _is_utf8(raw)]
        encoding = likeliest_encoding(b"\n".join(odd), problems.where, options.flag("encoding"))
        if encoding != "utf-8":
            problems.note(f"{problems.where}: {len(odd):,} files are read as {encoding}, which their bytes look like")
    return [_text(raw, name, encoding, problems, options) for raw, name in zip(contents, names, strict=True)]


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _text(raw: bytes, name: str, encoding: str, problems: Problems, options: ReadOptions) -> str:
    """Returns a file's text. Bytes that do not fit the encoding, and NUL, are a problem of the folder."""
    if options.encoding == "auto":
        mark = next((mark for mark in BOMS if raw.startswith(mark)), None)
        encoding = BOMS[mark] if mark else "utf-8" if _is_utf8(raw) else encoding
    try:
        text = raw.decode(encoding).removeprefix("\ufeff")
    except UnicodeError as error:
        problems.add(f"{name}: the bytes are not {encoding} ({error})")
        return "?"
    if "\0" in text:
        problems.add(f"{name}: holds NUL, which no text file holds")
        return "?"
    return text.strip()
