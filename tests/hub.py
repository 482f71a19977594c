"""The hub's cache on this machine, with made-up repositories and no network."""

import shutil
from pathlib import Path

import pytest


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
