"""JSON files that other tools wrote."""

import json
from pathlib import Path
from typing import Any

from submillion.errors import BaseModelError


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file. Raises BaseModelError if the file holds something else."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BaseModelError(f"{path}: expected a JSON object, found {error}\nfix: copy the file again") from None
    if not isinstance(content, dict):
        raise BaseModelError(f"{path}: expected a JSON object, found {type(content).__name__}\nfix: copy it again")
    return content


def read_json_if_there(path: Path) -> dict[str, Any]:
    """Returns what `read_json` does, and {} if there is no such file."""
    return read_json(path) if path.is_file() else {}
