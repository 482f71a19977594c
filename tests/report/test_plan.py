"""What `submillion plan` prints, and that it needs nothing but arithmetic for it."""

import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from submillion.cli import main


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a plan asked for the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(autouse=True)
def _wide(wide: None) -> None:
    """Every plan of this file is printed whole."""


def cells(printed: str) -> dict[str, list[str]]:
    """{first cell: the other cells} of every row of the printed tables."""
    rows = [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in printed.splitlines()]
    return {first: others for first, *others in filter(None, rows)}


def test_the_seed_s_plan_has_the_seed_s_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--recipe", "seed"]) == 0
    table = cells(capsys.readouterr().out)
    assert table["LoRA query"][0] == table["LoRA value"][0] == "36,864"
    assert (table["head dense"][0], table["head out_proj"][0]) == ("590,592", "3,076")
    assert table["trainable"] == ["667,396", "66.7% of the budget of 1,000,000"]
    assert table["total"][0] == "124,648,708"
    assert table["total with adapters"] == ["124,722,436", "0.54% trains"]


def test_the_seed_s_plan_has_the_largest_ranks(capsys: pytest.CaptureFixture[str]) -> None:
    main(["plan", "--recipe", "seed"])
    table = cells(capsys.readouterr().out)
    assert table["head"] == ["query value", "query key value attention_output", "all-linear"]
    assert table["stock"] == ["11", "5", "2"]
    assert table["linear"] == ["27", "13", "6"]


def test_auto_is_the_largest_rank_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--recipe", "seed", "--lora.rank", "auto"]) == 0
    table = cells(capsys.readouterr().out)
    assert table["LoRA query"][1] == "rank 11" and table["trainable"][0] == "999,172"


def test_a_plan_over_the_budget_shows_what_fits_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--recipe", "seed", "--lora.rank", "64"]) == 2
    captured = capsys.readouterr()
    assert cells(captured.out)["stock"] == ["11", "5", "2"] and "trainable" not in cells(captured.out)
    assert captured.err.startswith("submillion: error: 2,952,964 trainable parameters")
    for way in ("--lora.rank 11 ", "--model.head linear --lora.rank 27 ", "--budget 2952964 "):
        assert way in captured.err


def test_every_way_to_fit_that_is_offered_fits(capsys: pytest.CaptureFixture[str]) -> None:
    over = ["plan", "--recipe", "seed", "--lora.rank", "64"]
    main(over)
    ways = re.findall(r"^  (--.*?) +\(([\d,]*)", capsys.readouterr().err, flags=re.MULTILINE)
    assert len(ways) >= 2
    for way, trainable in ways:
        assert main([*over, *way.split()]) == 0
        assert cells(capsys.readouterr().out)["trainable"][0] == (trainable or "2,952,964")


def test_a_folder_s_shape_is_read_from_its_files(tiny_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--model.base", str(tiny_base), "--labels", "3"]) == 0
    assert cells(capsys.readouterr().out)["trainable"][0] == "1,667"


def test_the_number_of_labels_is_asked_for_where_no_recipe_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan"]) == 2
    captured = capsys.readouterr()
    assert "fix: add --labels N" in captured.err and captured.out == ""


def test_a_plan_imports_neither_torch_nor_the_network_s_libraries() -> None:
    code = (
        "import sys; from submillion.cli import main; code = main(['plan', '--recipe', 'seed']);"
        "heavy = {'torch', 'transformers', 'datasets', 'huggingface_hub', 'numpy', 'tokenizers'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "667,396" in done.stdout
