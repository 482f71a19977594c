"""gzip and zstd files, written by the tools people use, are read like the plain ones; cut ones are refused."""

import gzip
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pytest
import zstandard

from submillion.config.schema import DataConfig
from submillion.data.files import check_texts, find_input, iter_texts
from submillion.data.sources import read_source
from submillion.errors import DataError

ROWS = pd.DataFrame({"text": [f"Öl number {i} climbs" for i in range(500)], "label": ["Business", "World"] * 250})
Compress = Callable[[bytes], bytes]


def _gzip_tool(content: bytes) -> bytes:
    return subprocess.run(["gzip", "-c"], input=content, capture_output=True, check=True).stdout


COMPRESSORS: dict[str, Compress] = {".gz": _gzip_tool, ".zst": zstandard.ZstdCompressor().compress}


def contents() -> dict[str, bytes]:
    jsonl = ROWS.to_json(orient="records", lines=True)
    return {
        ".csv": ROWS.to_csv(index=False).encode(),
        ".tsv": ROWS.to_csv(index=False, sep="\t").encode(),
        ".jsonl": jsonl.encode(),
        ".json": ROWS.to_json(orient="records").encode(),
        ".txt": "".join(f"{text}\n" for text in ROWS["text"]).encode(),
    }


@pytest.mark.parametrize("codec", COMPRESSORS)
@pytest.mark.parametrize("suffix", contents())
def test_a_compressed_file_holds_the_texts_of_the_plain_one(suffix: str, codec: str, tmp_path: Path) -> None:
    path = tmp_path / f"news{suffix}{codec}"
    path.write_bytes(COMPRESSORS[codec](contents()[suffix]))
    assert check_texts(path) == len(ROWS)
    assert [text for chunk in iter_texts(path, chunk_rows=99) for text in chunk] == ROWS["text"].tolist()


@pytest.mark.parametrize("codec", COMPRESSORS)
def test_several_members_in_one_file_are_read_one_after_the_other(codec: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.txt{codec}"
    path.write_bytes(COMPRESSORS[codec](b"first\n") + COMPRESSORS[codec](b"second\n"))
    assert list(iter_texts(path)) == [["first", "second"]]


@pytest.mark.parametrize("codec", COMPRESSORS)
def test_compressed_files_are_sources_of_training(codec: str, tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv{codec}").write_bytes(COMPRESSORS[codec](contents()[".csv"]))
    for source in (tmp_path, tmp_path / f"train.csv{codec}"):
        splits = read_source(DataConfig(source=str(source))).splits
        assert splits["train"].columns == {name: ROWS[name].tolist() for name in ("text", "label")}
    assert list(read_source(DataConfig(source=str(tmp_path))).splits) == ["train", "test"]


def test_pandas_writes_what_is_read(tmp_path: Path) -> None:
    for name in ("a.csv.gz", "a.csv.zst"):
        ROWS.to_csv(tmp_path / name, index=False)
        assert check_texts(tmp_path / name) == len(ROWS)


@pytest.mark.parametrize("suffix", [".csv", ".json"])
@pytest.mark.parametrize("codec", COMPRESSORS)
@pytest.mark.parametrize("cut", [1, 9, 200])
def test_a_cut_file_is_refused(suffix: str, codec: str, cut: int, tmp_path: Path) -> None:
    path = tmp_path / f"news{suffix}{codec}"
    path.write_bytes(COMPRESSORS[codec](contents()[suffix])[:-cut])
    name = {".gz": "gzip", ".zst": "zstd"}[codec]
    with pytest.raises(DataError, match=f"news{suffix}{codec}: .*(\n.*)*the {name} file is cut or damaged"):
        check_texts(path)


@pytest.mark.parametrize("codec", COMPRESSORS)
def test_a_file_that_is_not_compressed_at_all_is_refused(codec: str, tmp_path: Path) -> None:
    path = tmp_path / f"news.csv{codec}"
    path.write_bytes(contents()[".csv"])
    with pytest.raises(DataError, match=r"after line 0: the .* file is cut or damaged"):
        check_texts(path)


def test_only_text_is_read_compressed(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet.gz"
    path.write_bytes(gzip.compress(b"PAR1"))
    with pytest.raises(DataError, match=r"expected compressed text, .*\.csv\.gz.*; unpack it first"):
        check_texts(path)
    with pytest.raises(DataError, match="expected compressed text"):
        read_source(DataConfig(source=str(path)))


def test_without_the_codec_the_error_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt.zst"
    path.write_bytes(COMPRESSORS[".zst"](b"first\n"))
    monkeypatch.setattr(pa, "Codec", SimpleNamespace(is_available=lambda codec: codec != "zstd"))
    with pytest.raises(DataError, match="cannot read zstd\nfix: pip install --force-reinstall pyarrow"):
        check_texts(path)


@pytest.mark.parametrize("codec", COMPRESSORS)
def test_memory_does_not_grow_with_the_file(codec: str, tmp_path: Path) -> None:
    path = tmp_path / f"long.txt{codec}"
    path.write_bytes(COMPRESSORS[codec](b"the same line again and again\n" * 300_000))
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    count = sum(len(chunk) for chunk in iter_texts(path, chunk_rows=500))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 300_000 and peak < 3_000_000 and pa.total_allocated_bytes() - before < 3_000_000


def test_the_model_s_folder_may_hold_a_compressed_input(tmp_path: Path) -> None:
    path = tmp_path / "news.csv.gz"
    path.write_bytes(gzip.compress(contents()[".csv"]))
    assert find_input(tmp_path) == path
