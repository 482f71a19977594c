"""Text files to lines: the encoding, the line ends, and every line that does not fit the encoding."""

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from submillion.data.compression import codec_of, open_data
from submillion.data.formats.options import ReadOptions
from submillion.data.tables import Problems
from submillion.errors import DataError

BLOCK_BYTES = 1 << 17
SAMPLE_BYTES = 1 << 18  # of lines that are not UTF-8, for the detection
FEWEST_BYTES = 3  # that are not UTF-8, in files whose encoding is detected: fewer are a stray byte
CLOSEST = 0.03  # between the disorder of the two best encodings, as charset-normalizer measures it
ENCODINGS = ["cp1252", "cp1251", "gb18030", "cp1250", "cp932", "cp949", "big5", "koi8_r"]
LATIN = {"cp1252", "cp1250"}  # if these two fit alike, it is the first, which many more files have
BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark is its beginning
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
MAGIC = {
    b"PK\x03\x04": "a zip archive or an Excel workbook: .zip, .xlsx",
    b"\x1f\x8b": "a gzip file: .gz",
    b"BZh": "a bzip2 file: .bz2",
    b"\xfd7zXZ": "an xz file: .xz",
    b"\x28\xb5\x2f\xfd": "a zstd file: .zst",
    b"PAR1": "a Parquet file: .parquet",
    b"ARROW1": "an Arrow file: .arrow",
    b"%PDF-": "a PDF document, which is not read here",
    b"SQLite format 3": "an SQLite database, which is not read here",
    b"\xd0\xcf\x11\xe0": "an old Office document (.xls, .doc), which is not read here: save it as .xlsx or .csv",
}


@dataclass(frozen=True)
class TextFile:
    """A text file whose encoding and line ends are known."""

    path: Path
    encoding: str
    newline: str
    is_valid: bool  # whether every byte is known to fit the encoding
    encoding_flag: str

    def lines(self, problems: Problems) -> Iterator[str]:
        """Yields the lines with their ends. Adds a problem for each line that holds NUL or is not UTF-8.

        Raises DataError if a compressed file is damaged, or if a line does not fit another encoding than UTF-8.
        """
        errors = "surrogateescape" if self.encoding == "utf-8" else "strict"
        codec = "utf-8-sig" if self.encoding == "utf-8" else self.encoding
        number = 0
        with open_data(self.path) as file:
            try:
                text = io.TextIOWrapper(file, encoding=codec, errors=errors, newline=self.newline)
                for number, line in enumerate(text, start=1):
                    yield self._checked(line, number, problems)
            except OSError as error:
                raise cut_or_damaged(self.path, number, error, problems) from None
            except UnicodeError as error:
                raise problems.stop(
                    f"after line {number}: the bytes are not {self.encoding} ({error}); {self.encoding_flag} names "
                    "the encoding"
                ) from None

    def _checked(self, line: str, number: int, problems: Problems) -> str:
        if "\0" in line:
            place = len(line[: line.index("\0")].encode(errors="surrogateescape"))
            problems.add(f"line {number}: byte {place + 1} is NUL, which no text file holds")
            line = line.replace("\0", "?")
        if self.is_valid or line.isascii():
            return line
        raw = line.encode(errors="surrogateescape" if self.encoding == "utf-8" else "surrogatepass")
        return decoded_line(raw, number, problems) if self.encoding == "utf-8" else line


def cut_or_damaged(path: Path, number: int, error: OSError, problems: Problems) -> Exception:
    """Returns the DataError for a compressed file that cannot be unpacked; another file's error as it is."""
    if not codec_of(path):
        return error
    return problems.stop(f"after line {number}: the {codec_of(path)} file is cut or damaged ({error})")


def decoded_line(raw: bytes, number: int, problems: Problems) -> str:
    """Returns a line of UTF-8 as text; adds a problem for a byte that does not fit, and puts a mark in its place."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        byte = f"byte {error.start + 1} (0x{raw[error.start]:02x})"
        wording = f"line {number}: {byte} is not UTF-8; if the text is Windows-1252, save it as UTF-8"
        problems.add(wording, kind="not UTF-8")  # one cause, whatever the byte is
        return raw.decode(errors="replace")


def find_text_file(path: Path, options: ReadOptions, problems: Problems) -> TextFile:
    """Returns the file with its encoding and its line ends, found by its bytes unless the options name an encoding.

    Notes an encoding that is not UTF-8. Raises DataError for a binary file, and for bytes that fit no encoding well.
    """
    flag = options.flag("encoding")
    head = _head(path, problems)
    _refuse_binary(path, head)
    encoding, is_valid = options.encoding, False
    if encoding == "auto":
        encoding, is_valid = _detected(path, head, flag)
    else:
        encoding = codecs.lookup(encoding).name
        bom = next((name for mark, name in BOMS.items() if head.startswith(mark)), "")
        if bom.startswith("utf-16") and encoding.startswith("utf-16"):
            encoding = bom  # utf-16-le would keep the mark as a character
    if encoding != "utf-8" and options.encoding == "auto":
        problems.note(f"{path.name}: read as {encoding}, which its bytes look like; {flag} names another encoding")
    return TextFile(path, encoding, _line_end(head, encoding), is_valid, flag)


def _head(path: Path, problems: Problems) -> bytes:
    with open_data(path) as file:
        try:
            return file.read(65_536)
        except OSError as error:
            raise cut_or_damaged(path, 0, error, problems) from None


def _refuse_binary(path: Path, head: bytes) -> None:
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            raise DataError(
                f"{path.name}: expected text, as the name says, found the bytes of {kind}\n"
                "fix: give the file the ending that its content has"
            )


def _detected(path: Path, head: bytes, flag: str) -> tuple[str, bool]:
    """Returns the encoding, and whether the whole file is known to fit it."""
    for mark, name in BOMS.items():
        if head.startswith(mark) and name != "utf-8":
            return name, False
    if without_mark := _utf16_without_mark(head):
        return without_mark, False
    if _is_utf8(path):
        return "utf-8", True
    with open_data(path) as file:
        return likeliest_encoding(_not_utf8(file), path.name, flag), False


def _utf16_without_mark(head: bytes) -> str:
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if max(even, odd) < 0.3 * len(head) / 2 or min(even, odd) > 0.05 * len(head) / 2:
        return ""
    return "utf-16-le" if odd > even else "utf-16-be"


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open_data(path) as file:
        try:
            while block := file.read(BLOCK_BYTES):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except (UnicodeDecodeError, OSError):
            return False
    return True


def _not_utf8(file: BinaryIO) -> bytes:
    """Returns lines of a file that are not ASCII, as many as a detection needs."""
    sample, size = [], 0
    try:
        while size < SAMPLE_BYTES and (line := file.readline(65_536)):
            if not line.isascii():
                sample.append(line)
                size += len(line)
    except OSError:
        pass  # the damage is told where the lines are read
    return b"".join(sample)


def likeliest_encoding(sample: bytes, name: str, flag: str) -> str:
    """Returns the encoding of bytes that are not UTF-8, as charset-normalizer finds it.

    "utf-8" for a few stray bytes, or if more of the characters fit UTF-8 than not: then the text is damaged. Raises
    DataError if no encoding fits, or two fit alike; it calls the text `name` and advises to give `flag`.
    """
    from charset_normalizer import from_bytes

    text = sample.decode(errors="surrogateescape")
    invalid = sum("\udc80" <= character <= "\udcff" for character in text)
    if invalid < FEWEST_BYTES or sum(not character.isascii() for character in text) >= 2 * invalid:
        return "utf-8"
    matches = sorted(
        from_bytes(sample, cp_isolation=ENCODINGS, enable_fallback=False),
        key=lambda match: (match.chaos - match.coherence, ENCODINGS.index(match.encoding)),
    )
    if not matches:
        raise DataError(
            f"{name}: expected text, found bytes that are neither UTF-8 nor in an encoding that could be told\n"
            f"fix: {flag} NAME, such as cp1252, latin-1, gb18030, cp1251 or shift_jis; or save it as UTF-8"
        )
    best = matches[0]
    close = [
        match.encoding
        for match in matches[1:]
        if str(match) != str(best)
        and not {match.encoding, best.encoding} <= LATIN
        and match.chaos - best.chaos < CLOSEST
        and match.coherence >= best.coherence
    ]
    chosen = _most_usual(sample, best.encoding)
    if close:
        raise DataError(
            f"{name}: the text is not UTF-8, and its bytes fit several encodings alike: {', '.join([chosen, *close])}\n"
            f"fix: {flag} NAME, or save the file as UTF-8"
        )
    return chosen


def _most_usual(sample: bytes, encoding: str) -> str:
    """Returns the most usual encoding that reads the same text: Windows-1250 and 1252 share German's letters."""
    text = sample.decode(encoding, "replace")
    return next(name for name in ENCODINGS if name == encoding or sample.decode(name, "replace") == text)


def _line_end(head: bytes, encoding: str) -> str:
    """Returns "\\r" for a file whose lines end in CR alone, as old Macs write them, else "\\n"."""
    text = head.decode(encoding, errors="replace").replace("\r\n", "\n")
    if "\r" not in text:
        return "\n"
    unquoted = "".join(text.split('"')[::2]) if text.count('"') % 2 == 0 else text
    return "\r" if "\n" not in unquoted and "\r" in unquoted else "\n"
