"""Every row of the tables in docs/data.md: the file that it shows is read by the command that it gives."""

import pickle
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import datasets
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather, ipc

from submillion.cli import USAGE
from submillion.config.resolve import resolve
from submillion.data.sources import read_source

DOCS = Path(__file__).resolve().parents[2] / "docs" / "data.md"
ROWS = [("Late goal.", "sport"), ("Bank bonus.", "money")]
COLUMNS = {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}


def documented() -> list[tuple[str, str, str]]:
    """Returns (layout, how it looks, command) of every row of the tables."""
    lines = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    return [(cells[0].strip(), cells[1].strip(), cells[2].strip()) for cells in rows if cells[0].strip() != "layout"]


def shown(cell: str) -> str:
    """Returns the content of a file as a cell of the table shows it."""
    return cell.removeprefix("`").removesuffix("`").replace("\\|", "|").replace("↵", "\n").replace("⇥", "\t")


def write_texts(folder: Path) -> None:
    for text, label in ROWS:
        (folder / label).mkdir(parents=True)
        (folder / label / "1.txt").write_text(text)


def write_arrow(path: Path) -> None:
    table = pa.table(COLUMNS)
    with ipc.new_stream(path, table.schema) as stream:
        stream.write_table(table)


def write_split_texts(folder: Path) -> None:
    write_texts(folder / "train")
    write_texts(folder / "test")


def write_splits(folder: Path) -> None:
    folder.mkdir()
    for name in ("train", "test"):
        pd.DataFrame(COLUMNS).to_csv(folder / f"{name}.csv", index=False)


WRITERS: dict[str, Callable[[Path], object]] = {
    "news.parquet": lambda path: pd.DataFrame(COLUMNS).to_parquet(path),
    "news.arrow": write_arrow,
    "news.feather": lambda path: feather.write_feather(pa.table(COLUMNS), str(path), version=2),
    "news.xlsx": lambda path: pd.DataFrame(COLUMNS).to_excel(path, index=False),
    "news.pkl": lambda path: path.write_bytes(pickle.dumps(COLUMNS)),
    "saved": lambda path: datasets.Dataset.from_dict(COLUMNS).save_to_disk(str(path)),
    "texts": write_texts,
    "split_texts": write_split_texts,
    "news": write_splits,
}


@pytest.mark.parametrize(("layout", "looks", "command"), documented(), ids=[row[0] for row in documented()])
def test_a_documented_layout_is_read_by_its_command(
    layout: str, looks: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program, name, *flags = shlex.split(command.strip("`"))
    assert (program, name) == ("submillion", "train")
    config = resolve(flags).config.data
    path = tmp_path / config.source
    WRITERS.get(config.source, lambda path: path.write_text(shown(looks), newline=""))(path)
    table = read_source(config).splits["train"]
    table.problems.check()
    assert sorted(zip(*table.columns.values(), strict=True)) == sorted(ROWS), layout


def test_the_tables_are_found_and_every_writer_is_used() -> None:
    commands = " ".join(command for _, _, command in documented())
    assert len(documented()) > 30 and "train" in USAGE
    assert all(f"--data.source {name}`" in commands for name in WRITERS)
