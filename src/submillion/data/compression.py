"""Compressed text files: news.csv.gz, .bz2, .xz, .zst and .zip are read as news.csv is, a block at a time."""

import io
import zipfile
from pathlib import Path
from typing import BinaryIO, cast

from submillion.errors import DataError

CODECS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2", ".xz": "xz", ".zip": "zip"}
_BY_PYARROW = ("gzip", "zstd")


def codec_of(path: Path) -> str:
    """Returns the compressor by its name, such as "gzip"; "" for a file whose name ends like none of them."""
    return CODECS.get(path.suffix.lower(), "")


def data_name(path: Path) -> Path:
    """Returns the name without the ending of a compressor: its suffix says what the rows are, its stem which split.

    A zip archive of one file has the suffix of that file, if its own name says none: news.zip is news.csv.
    """
    if codec_of(path) != "zip" or Path(path.stem).suffix:
        return Path(path.stem) if codec_of(path) else Path(path.name)
    try:
        return Path(path.stem + Path(_only_member(path)).suffix)
    except (DataError, OSError):
        return Path(path.stem)  # the fault is told where the file is opened


def open_data(path: Path) -> BinaryIO:
    """Returns the file's bytes, unpacked as they are read: memory does not grow with the file.

    Reading a stream that is cut or damaged raises OSError. Raises DataError if pyarrow was built without the codec,
    which PyPI's is not, and for a zip archive that does not hold one file.
    """
    codec = codec_of(path)
    if not codec:
        return path.open("rb")
    if codec in _BY_PYARROW:
        return _open_by_pyarrow(path, codec)
    return cast(BinaryIO, io.BufferedReader(_Unpacked(path, codec), buffer_size=65_536))


def _open_by_pyarrow(path: Path, codec: str) -> BinaryIO:
    import pyarrow as pa  # it reads several members in one file too, and tells a cut stream from a finished one

    if not pa.Codec.is_available(codec):
        raise DataError(
            f"{path.name}: this build of pyarrow cannot read {codec}\nfix: pip install --force-reinstall pyarrow"
        )
    return cast(BinaryIO, io.BufferedReader(pa.input_stream(path, compression=codec)))


class _Unpacked(io.RawIOBase):
    """The bytes of a bzip2, xz or zip file. Whatever is wrong with the stream is an OSError."""

    def __init__(self, path: Path, codec: str) -> None:
        self._archive = None
        if codec == "zip":
            member = _only_member(path)
            self._archive = zipfile.ZipFile(path)
            try:
                self._file = cast(BinaryIO, self._archive.open(member))
            except _ZIP_ERRORS as error:
                self._archive.close()
                raise DataError(f"{path.name}: the zip archive cannot be unpacked ({error})\n{_UNPACK}") from None
        elif codec == "bzip2":
            import bz2

            self._file = cast(BinaryIO, bz2.BZ2File(path))
        else:
            import lzma

            self._file = cast(BinaryIO, lzma.LZMAFile(path))  # noqa: SIM115, closed in close

    def readable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fills the buffer and returns the number of bytes. Raises OSError for a damaged stream."""
        try:
            block = self._file.read(len(buffer))
        except OSError:
            raise
        except Exception as error:  # zlib.error, LZMAError, EOFError, BadZipFile, NotImplementedError ...
            raise OSError(f"{type(error).__name__}: {error}") from None
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        """Closes the stream and the archive."""
        if not self.closed:
            self._file.close()
            if self._archive is not None:
                self._archive.close()
        super().close()


# What zipfile raises for a damaged or encrypted archive; a false offset in it is an OSError.
_ZIP_ERRORS = (zipfile.BadZipFile, RuntimeError, ValueError, KeyError, EOFError, OSError)  # NotImplementedError too
_UNPACK = "fix: unpack it, or pack the one file again"


def _only_member(path: Path) -> str:
    """Returns the name of the archive's one file. Raises DataError for none, several, and for no zip archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name and not name.endswith("/")]
    except _ZIP_ERRORS as error:
        raise DataError(f"{path.name}: the zip file is cut or damaged ({error})\n{_UNPACK}") from None
    names = [name for name in names if not name.startswith("__MACOSX/") and not Path(name).name.startswith(".")]
    if len(names) == 1:
        return names[0]
    held = f"{len(names)}: {', '.join(names[:5])}" if names else "none"
    raise DataError(f"{path.name}: expected a zip archive of one file, found {held}\n{_UNPACK}")
