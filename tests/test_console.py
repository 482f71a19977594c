"""What a file holds never reaches a terminal as a command to it."""

from pathlib import Path

import pytest
from rich.table import Table

from submillion.cli import main
from submillion.console import terminal
from submillion.errors import DataError, escaped, escaped_lines

HOSTILE = {
    "\x1b[2J": r"\x1b[2J",  # clears the screen
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "\x9b31m": r"\x9b31m",  # a C1 control sequence
    "back\b\b": r"back\x08\x08",
    "over\rwritten": r"over\rwritten",
    "\u202edesrever": r"\u202edesrever",  # turns the direction of the line
    "\u2066isolated\u2069": r"\u2066isolated\u2069",
    "line\u2028break": r"line\u2028break",
    "half \ud83d": r"half \ud83d",
    "\x00nul": r"\x00nul",
    "del\x7f": r"del\x7f",
}
HARMLESS = ["plain", "schön – 石油 🛢", "👩‍👧", "می‌خواهم", "a b", "שלום", "back\\slash"]


@pytest.mark.parametrize("text", HOSTILE)
def test_control_characters_are_escaped(text: str) -> None:
    assert escaped(text) == HOSTILE[text]


@pytest.mark.parametrize("text", HARMLESS)
def test_text_of_any_language_stays(text: str) -> None:
    assert escaped(text) == escaped_lines(text) == text


def test_line_breaks_stay_where_lines_are_meant() -> None:
    assert escaped("two\nlines\t") == r"two\nlines\t"
    assert escaped_lines("two\nlines\t") == "two\nlines\\t"


@pytest.mark.parametrize("text", HOSTILE)
def test_an_error_shows_what_a_file_holds_escaped(text: str) -> None:
    assert str(DataError(f"a.csv: no column {text}\nfix: another")) == f"a.csv: no column {HOSTILE[text]}\nfix: another"


@pytest.mark.parametrize("text", HOSTILE)
def test_the_terminal_shows_what_a_file_holds_escaped(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table()
    table.add_column("label")
    table.add_row(text)
    console = terminal()
    console.print(f"label {text}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"styled {text}", style="bold", markup=False, soft_wrap=True)
    console.print(table)
    output = capsys.readouterr().out
    assert output == escaped_lines(output) and "label" in output


def test_the_terminal_shows_escapes_in_their_place(capsys: pytest.CaptureFixture[str]) -> None:
    terminal().print("[a]", "\x1b[2Jred", "half \ud83d", markup=False, soft_wrap=True)
    assert capsys.readouterr().out == "[a] \\x1b[2Jred half \\ud83d\n"


def test_what_a_console_is_asked_for_stays(capsys: pytest.CaptureFixture[str]) -> None:
    terminal(stderr=True).print("two\nlines", markup=False)
    terminal(quiet=True).print("nothing")
    assert capsys.readouterr() == ("", "two\nlines\n")


@pytest.mark.parametrize("name", ["bad\x1b[2Jcolumn", "bell\x07"])
def test_a_files_columns_are_shown_escaped_by_the_commands(
    name: str, tiny_base: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / f"{name}.csv"
    path.write_text(f"{name},other\nx,y\n", encoding="utf-8")
    base = ["--model.base", str(tiny_base), "--model.max-length", "32", "--output.dir", str(tmp_path / "model")]
    assert main(["train", "--data.source", str(path), *base]) == 2
    error = capsys.readouterr().err
    assert escaped(name) in error and "\x1b" not in error and "\x07" not in error
