"""gzip and zstd files: news.csv.gz and news.jsonl.zst are read as news.csv and news.jsonl are, a block at a time."""

import io
from pathlib import Path
from typing import BinaryIO, cast

from submillion.errors import DataError

CODECS = {".gz": "gzip", ".zst": "zstd"}


def codec_of(path: Path) -> str:
    """The compressor by its name, "gzip" or "zstd"; "" for a file whose name ends like neither's."""
    return CODECS.get(path.suffix.lower(), "")


def data_name(path: Path) -> Path:
    """The name without the ending of a compressor: its suffix says what the rows are, its stem which split."""
    return Path(path.stem) if codec_of(path) else Path(path.name)


def open_data(path: Path) -> BinaryIO:
    """The file's bytes, unpacked as they are read: memory does not grow with the file.

    Reading a stream that is cut or damaged raises OSError. Raises DataError where pyarrow was built without the codec,
    which PyPI's is not.
    """
    codec = codec_of(path)
    if not codec:
        return path.open("rb")
    import pyarrow as pa  # it reads both, several members in one file too, and tells a cut stream from a finished one

    if not pa.Codec.is_available(codec):
        raise DataError(
            f"{path.name}: this build of pyarrow cannot read {codec}\nfix: pip install --force-reinstall pyarrow"
        )
    return cast(BinaryIO, io.BufferedReader(pa.input_stream(path, compression=codec)))
