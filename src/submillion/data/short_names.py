"""Names to print: of a source or of a base."""

from pathlib import Path


def short_name(name: str) -> str:
    """Returns the name of a source or a base without its folders.

    The folders say more about a machine than about a model.
    """
    path = Path(name).expanduser()
    if path.exists() or name.startswith((".", "/", "~")):
        return path.resolve().name or name
    return name.removeprefix("package:")
