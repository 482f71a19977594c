"""Imports point one way, and what is slow to import waits until it is used."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src"
FILES = sorted((SRC / "submillion").rglob("*.py"))
# The rooms of the house, from the bottom up: a module imports from its own floor and those below it.
FLOORS = (
    ("errors", "atomic", "lfs", "seeds", "console", "process"),
    ("config",),
    ("data",),
    ("text",),
    ("model",),
    ("tasks",),
    ("runtime",),
    ("inference",),
    ("training",),
    ("evaluation",),
    ("report",),
    ("interop",),
    ("commands",),
    ("sklearn",),
)
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
OUTSIDE = ("", "cli", "__main__")  # the package itself and the commands stand in front of the house
WAITS = {
    "datasets",
    "pandas",
    "sklearn",
    "matplotlib",
    "rich",
    "tyro",
    "transformers",
    "peft",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "onnxscript",
    "tensorboard",
}
NEVER = {"transformers", "peft"}  # compared with, in tests and benchmarks alone
NEEDS_NO_TORCH = (*FLOORS[0], "config", "data", "text", "cli", "", "__main__")


def room_of(module: str) -> str:
    """The part under submillion that a module belongs to; "" for the package itself."""
    return [*module.split("."), ""][1]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere, by its full name; `from submillion import data` counts as its room."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "submillion":
            yield from (f"submillion.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def imports_at_import(tree: ast.Module) -> Iterator[str]:
    """The modules that are imported when this one is: those outside functions and TYPE_CHECKING."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from imports(node)
        else:
            waiting += ast.iter_child_nodes(node)


def upward(module: str, tree: ast.AST) -> list[str]:
    """The imports of a module that lead to a floor above its own, to the commands, or to no floor."""
    rooms = {name: room_of(name) for name in imports(tree) if name.split(".")[0] in ("submillion", "")}
    own = FLOOR_OF[room_of(module)]
    return [name for name, room in rooms.items() if FLOOR_OF.get(room, len(FLOORS)) > own]


def packages(modules: Iterator[str]) -> set[str]:
    return {module.split(".")[0] for module in modules}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_every_module_lies_on_a_floor(path: Path) -> None:
    assert room_of(module_of(path)) in (*FLOOR_OF, *OUTSIDE)


@pytest.mark.parametrize("path", [path for path in FILES if room_of(module_of(path)) in FLOOR_OF], ids=module_of)
def test_no_module_imports_from_above(path: Path) -> None:
    assert upward(module_of(path), parsed(path)) == []


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_what_is_slow_to_import_waits_until_it_is_used(path: Path) -> None:
    tree = parsed(path)
    found = packages(imports_at_import(tree))
    assert found & WAITS <= {room_of(module_of(path))}  # submillion.sklearn is for who has imported scikit-learn
    assert packages(imports(tree)) & NEVER == set()
    if room_of(module_of(path)) in NEEDS_NO_TORCH:
        assert "torch" not in found


def test_the_rooms_are_all_there() -> None:
    assert {room_of(module_of(path)) for path in FILES} >= {*FLOOR_OF, *OUTSIDE}


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("submillion.data.files", "from submillion.model.base import find_base"),
        ("submillion.model.lora", "def late():\n    import submillion.training.loop"),
        ("submillion.config.schema", "from submillion import data"),
        ("submillion.training.loop", "from submillion.cli import main"),
        ("submillion.commands.train", "from submillion.serving.app import serve"),
        ("submillion.model.base", "from .budget import count"),
        ("submillion.model.base", "from submillion import train"),
    ],
)
def test_an_import_from_above_would_be_seen(module: str, code: str) -> None:
    assert len(upward(module, ast.parse(code))) == 1


def test_only_imports_that_wait_may_be_slow() -> None:
    code = (
        "if TYPE_CHECKING:\n    import pandas\n"
        "def late():\n    import sklearn\n"
        "class Held:\n    import datasets\n"
        "try:\n    from transformers.models import bert\nexcept ImportError:\n    pass\n"
    )
    assert packages(imports_at_import(ast.parse(code))) == {"datasets", "transformers"}
