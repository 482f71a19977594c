"""The README and its pages say only what is true: commands parse, code compiles, links lead somewhere."""

import ast
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from submillion.cli import COMMANDS as PROGRAMS
from submillion.cli import main
from submillion.config.resolve import recipe_names
from submillion.config.short_forms import short_kinds
from submillion.config.values import flag_name, key_types

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# The log tells of flags and files that are gone.
PAGES = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "log.md")]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
OURS = re.compile(r"(?:submillion|python3? -m submillion|python3? (train|predict)\.py)(?: (.*))?$")
WORK = {
    "submillion.commands.train": ["train_resolved"],
    "submillion.commands.quickstart": ["quickstart"],
    "submillion.commands.predict": ["predict_file"],
    "submillion.commands.evaluate": ["evaluate_source"],
    "submillion.commands.plan": ["show_plan"],
    "submillion.interop.onnx": ["export_onnx"],
    "submillion.interop.exchange": ["export_model"],
    "submillion.commands.imports": ["import_peft", "merge_peft"],
}


def blocks(text: str, *languages: str) -> list[str]:
    """The contents of the fenced blocks of these languages."""
    fenced = re.findall(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", text, flags=re.MULTILINE | re.DOTALL)
    return [content for _, language, content in fenced if language in languages]


def prose(text: str) -> str:
    """The text without its fenced blocks."""
    return re.sub(r"^( *)```.*?^\1```", "", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> Iterator[str]:
    """Every single command of the shell blocks, without prompt, comment, variables before it and redirections."""
    for block in blocks(text, "bash", "sh", "shell", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars="|&;<>")
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, ";"]:
                if word[0] not in "|&;":
                    words.append(word)
                    continue
                command = shlex.join(_without_redirections(words))
                yield from [re.sub(r"^(?:[A-Z_]+=\S* +)*", "", command)] if command else []
                words = []


def _without_redirections(words: list[str]) -> list[str]:
    return [word for before, word in zip(["", *words], words, strict=False) if not {word[0], before[:1]} & {"<", ">"}]


def argv_of(command: str) -> list[str] | None:
    """What submillion's `main` gets of a command; None where the command is not ours."""
    found = OURS.match(re.sub(r"^\.venv/bin/", "", command))
    return [*filter(None, [found[1]]), *shlex.split(found[2] or "")] if found else None


COMMANDS = list(dict.fromkeys(command for text in TEXTS.values() for command in commands(text)))
OUR_COMMANDS = [command for command in COMMANDS if argv_of(command) is not None]
MAKE_COMMANDS = [command for command in COMMANDS if command.split()[0] == "make"]
PYTHON_BLOCKS = [code for text in TEXTS.values() for code in blocks(text, "python", "py")]


def local_links(text: str) -> list[str]:
    links = re.findall(r"\]\(<?([^)\s>]+)", prose(text)) + re.findall(r'(?:src|href|srcset)="([^"\s]+)', prose(text))
    return [link for link in links if not re.match(r"[a-z]+:", link)]


LOCAL_LINKS = [(page, link) for page, text in TEXTS.items() for link in local_links(text)]


def first_line(text: str) -> str:
    return text.strip().split("\n")[0]


def test_the_readme_shows_how_to_train_predict_and_use_the_package() -> None:
    assert {"train", "predict"} <= {(argv_of(command) or [""])[0] for command in commands(README)}
    assert MAKE_COMMANDS and blocks(README, "python") and local_links(README)


def test_the_readme_leads_to_every_page() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in local_links(README)}
    assert {page.resolve() for page in PAGES[1:]} <= linked


# Commands


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the functions that the commands would have called."""
    called: list[str] = []

    def recorder(name: str) -> Any:
        return lambda *args, **kwargs: called.append(name)

    for module, names in WORK.items():
        for name in names:
            monkeypatch.setattr(f"{module}.{name}", recorder(name))
    monkeypatch.chdir(ROOT)
    return called


@pytest.mark.parametrize("command", OUR_COMMANDS)
def test_a_command_is_understood(command: str, no_work: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    argv = argv_of(command) or []
    code = main(argv)
    assert (code, capsys.readouterr().err) == (0, "")
    assert len(no_work) == 1 or not argv or argv[-1] in ("--help", "-h", "--version")


def test_every_flag_that_the_text_names_exists() -> None:
    keys = {key for program in PROGRAMS.values() for key in key_types(program.flags)}
    known = {flag_name(key) for key in (*keys, *short_kinds(keys))}
    inline = " ".join(re.findall(r"`([^`]+)`", " ".join(map(prose, TEXTS.values()))))
    named = set(re.findall(r"(?<!\S)--[a-z][\w.-]*", inline)) - {"--help", "--version"}
    assert named and named <= known | {"--header", "--no-header"}  # short for --data.header yes and no


def test_every_recipe_that_is_shipped_is_named() -> None:
    assert [name for name in recipe_names() if f"`{name}`" not in README] == []


@pytest.mark.parametrize("command", MAKE_COMMANDS)
def test_a_make_target_exists(command: str) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    named = [word for word in command.split()[1:] if not word.startswith("-") and "=" not in word]
    assert set(named) <= set(targets)


@pytest.mark.parametrize("name", ["train", "predict"])
def test_the_files_at_the_root_explain_themselves_from_any_folder(name: str, tmp_path: Path) -> None:
    argv = [sys.executable, str(ROOT / f"{name}.py"), "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and f"usage: submillion {name}" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_files_it_draws_are_there() -> None:
    tree = next(block for block in blocks(README, "text") if "src/submillion/" in block)
    drawn = [re.match(r"( *)(.*?)(?:   |$)", line) for line in tree.splitlines() if line.strip()]
    inside = ROOT / "src" / "submillion"
    names = [(inside if found[1] else ROOT) / name for found in drawn if found for name in found[2].split()]
    assert len(names) > 5 and [str(path) for path in names if not path.exists()] == []


# Code


@pytest.mark.parametrize("code", PYTHON_BLOCKS, ids=first_line)
def test_what_the_code_imports_exists(code: str) -> None:
    assert [name for name, found in imported(ast.parse(code)).items() if found is None] == []


@pytest.mark.parametrize("code", PYTHON_BLOCKS, ids=first_line)
def test_what_the_code_calls_takes_these_arguments(code: str) -> None:
    tree = ast.parse(code)
    names = imported(tree)
    for call in filter(lambda node: isinstance(node, ast.Call), ast.walk(tree)):
        assert isinstance(call, ast.Call)
        name, *attributes = ast.unparse(call.func).split(".")
        if names.get(name) is None or any(isinstance(argument, ast.Starred) for argument in call.args):
            continue
        function = names[name]
        for attribute in attributes:
            function = getattr(function, attribute)
        if getattr(function, "__module__", "").startswith("submillion"):
            keywords = {keyword.arg: None for keyword in call.keywords if keyword.arg}
            inspect.signature(function).bind(*call.args, **keywords)


def imported(tree: ast.Module) -> dict[str, Any]:
    """{name in the code: what it stands for} of what comes from submillion; None for what does not exist."""
    names: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "submillion":
            module = import_module(node.module or "")
            names |= {alias.asname or alias.name: getattr(module, alias.name, None) for alias in node.names}
    return names


# Links


@pytest.mark.parametrize(("page", "link"), LOCAL_LINKS, ids=[f"{page.name} {link}" for page, link in LOCAL_LINKS])
def test_a_link_leads_to_something_that_is_kept(page: Path, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    assert target.exists() and target.is_relative_to(ROOT)
    if (ROOT / ".git").exists():  # what git ignores is on this machine alone
        assert subprocess.run(["git", "check-ignore", "--quiet", str(target)], cwd=ROOT).returncode == 1
    if anchor and target.suffix == ".md":
        assert anchor in anchors(target.read_text(encoding="utf-8"))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a text."""
    headings = re.findall(r"^#+ +(.+?) *$", prose(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# That a mistake would be seen

SAMPLE = """\
# A *first* heading, with signs!
```bash
$ pip install .  # no command of ours
HF_HUB_OFFLINE=1 python3 train.py --lora.rank 8 \\
  --data.source 'my news.csv' > log.txt   # a comment
cd x && submillion predict a.csv | head -5; make test lint
python -m submillion plan
```
[a link](docs/none.md#there) <img src="assets/x.png">
```text
submillion nothing --at-all
```
"""


def test_commands_are_found_in_blocks() -> None:
    assert list(commands(SAMPLE)) == [
        "pip install .",
        "python3 train.py --lora.rank 8 --data.source 'my news.csv'",
        "cd x",
        "submillion predict a.csv",
        "head -5",
        "make test lint",
        "python -m submillion plan",
    ]
    assert [argv for argv in map(argv_of, commands(SAMPLE)) if argv] == [
        ["train", "--lora.rank", "8", "--data.source", "my news.csv"],
        ["predict", "a.csv"],
        ["plan"],
    ]
    assert argv_of("pip install submillion") is None and argv_of("python3 training.py") is None


def test_anchors_are_github_s() -> None:
    assert anchors(SAMPLE) == {"a-first-heading-with-signs"}


def test_a_missing_name_is_seen() -> None:
    found = imported(ast.parse("from submillion import Classifier, nothing as gone"))
    assert found["gone"] is None and callable(found["Classifier"].load)
