"""What the tests of the data room share."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Write a file of the given name and content, return its path."""

    def make(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


@pytest.fixture
def agnews() -> Path:
    """The folder of the AG News parquet files: $SUBMILLION_AGNEWS, else ../shared/data/agnews beside the repository."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data" / "agnews"
    folder = Path(os.environ.get("SUBMILLION_AGNEWS", default))
    if not (folder / "train.parquet").exists():
        pytest.skip(f"no AG News at {folder}; set SUBMILLION_AGNEWS to the folder of train.parquet and test.parquet")
    return folder
