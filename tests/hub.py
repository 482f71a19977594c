"""Stand-ins for the hub: a repository to download, and the cache on this machine. Neither needs a network."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


class Hub:
    """A repository in a folder, in the place of huggingface_hub's two calls."""

    def __init__(self, repository: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub

        self.repository, self.cache = repository, cache
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.snapshot)
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", self.info)

    def info(self, *_: object, **__: object) -> Any:
        files = [SimpleNamespace(rfilename=path.name) for path in self.repository.iterdir()]
        return SimpleNamespace(siblings=files)

    def snapshot(
        self, repo_id: str, local_files_only: bool = False, allow_patterns: list[str] | None = None, **_: object
    ) -> str:
        self.cache.mkdir(exist_ok=True)
        for path in self.repository.iterdir() if not local_files_only else ():
            if any(path.match(pattern) for pattern in allow_patterns or ["*"]):
                shutil.copy(path, self.cache)
        return str(self.cache)


class HubCache:
    """Stands in for HF_HOME: what is put in is found by huggingface_hub itself, and nothing else is."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import constants

        self.folder = folder / "hub"
        self.folder.mkdir(parents=True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(self.folder))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def put(self, name: str, files: Path, commit: str, *refs: str) -> Path:
        """Copies a folder's files in as one commit of the repository `name`, under these branches or tags."""
        repository = self.folder / f"models--{name.replace('/', '--')}"
        snapshot = Path(shutil.copytree(files, repository / "snapshots" / commit))
        (repository / "refs").mkdir(exist_ok=True)
        for ref in refs:
            (repository / "refs" / ref).write_text(commit)
        return snapshot


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubCache:
    return HubCache(tmp_path / "hf_home", monkeypatch)
