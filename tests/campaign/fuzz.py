"""Feeds damaged files of every format to every reader: each must give an answer or a SubmillionError.

    python -m tests.campaign.fuzz --inputs 100000 --minutes 10

Any other exception, a read of more than ten seconds, and any process, program or connection that a file starts, is a
failure: the file is kept and the run ends with exit code 1. An input depends on --seed and its number alone.
"""

import argparse
import bz2
import gzip
import io
import json
import lzma
import pickle
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from pyarrow import feather, ipc

from submillion.config.mapping import overlay
from submillion.config.schema import DataConfig
from submillion.data.corpus import load_corpus
from submillion.data.files import SUFFIXES, check_texts, iter_texts
from submillion.data.formats.options import ReadOptions
from submillion.errors import SubmillionError

SECONDS = 10  # for one file and one reader
MEMORY = 12 << 30
STARTS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect", "shutil.rmtree")
TEXTS = ["Goal, late; a cup", 'He said "no" | left', "two\nlines", "schön – 石油 🛢", "Bank\tbonus", "Loans."]
FRAME = pd.DataFrame({"id": range(6), "text": TEXTS, "label": ["x", "y", "x", "y", "x", "y"]})
TOKENS = [
    *(b'"', b'""', b"\0", b"\r", b"\n", b"\r\n", b",", b";", b"\t", b"|", b"[", b"]", b"{", b"}", b":", b"\\ud83d"),
    *(b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\xa3", b"\x80", b"null", b"NaN", b"1e999", b"-", b"__label__a "),
    *(b"9" * 5000, b"[" * 3000, b'{"a":' * 1000, b"PAR1", b"ARROW1", b"PK\x03\x04", b"\xff\xff\xff\x7f", b"\x00" * 8),
    *(b'"answer": "reject"', b'"cats": {}', b'"annotations": [', b'"fields": 3', b'"label": [', b"text", b"label"),
]


class Hostile:
    """An object whose pickle would run a command."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        import os

        return os.system, ("touch /tmp/submillion-fuzz-ran",)


class TooSlow(BaseException):
    """A read that takes too long; no reader catches it."""


def held(write: Callable[[Any], object]) -> bytes:
    """Returns the bytes that a function writes into a file object."""
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def arrow_bytes(opened: Callable[..., Any]) -> bytes:
    """Returns the frame as an Arrow stream or file."""
    table = pa.Table.from_pandas(FRAME)
    sink = io.BytesIO()
    with opened(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def zipped(content: bytes) -> bytes:
    """Returns a zip archive of one csv."""

    def write(file: io.BytesIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("news.csv", content)

    return held(write)


def annotated() -> list[Any]:
    """Returns rows of each annotation tool, two at a time."""
    return [
        [{"id": 1, "text": "a b", "label": ["x"]}, {"id": 2, "text": "c", "label": ["y"]}],
        [{"data": {"text": t}, "annotations": [{"result": [{"value": {"choices": [t]}}]}]} for t in "ab"],
        [{"text": t, "id": 1, "topic": t, "annotator": 1, "annotation_id": 1} for t in "ab"],
        [
            {"text": t, "label": t, "answer": answer}
            for t, answer in zip("abc", ("accept", "reject", "accept"), strict=True)
        ],
        [{"text": t, "accept": [t], "answer": "accept", "_task_hash": 3} for t in "ab"],
        [{"fields": {"text": t}, "responses": {"q": [{"value": t, "status": "submitted"}]}} for t in "ab"],
        [{"text": t, "q.responses": [t], "q.responses.status": ["submitted"]} for t in "ab"],
        [{"text": t, "prediction": None, "annotation": t, "status": "Validated"} for t in "ab"],
        [{"text": t, "cats": {"a": t == "a", "b": t == "b"}} for t in "ab"],
        [[t, {"cats": {"a": t == "a", "b": t == "b"}}] for t in "ab"],
        [{"id": 0, "paragraphs": [{"raw": t, "cats": [{"label": t, "value": 1.0}]}]} for t in "ab"],
    ]


def samples() -> list[tuple[str, bytes]]:
    """Returns (ending, content) of whole files in every format."""
    csv = FRAME.to_csv(index=False).encode()
    files = [(".csv", FRAME.to_csv(index=False, sep=sep).encode()) for sep in ",;|\t"]
    files += [(".csv", csv.decode().encode(encoding)) for encoding in ("utf-16", "utf-32", "gb18030")]
    files += [
        (".csv", csv.replace(b"\n", b"\r")),
        (".tsv", b'id\ttext\n1\t"a\n2\tb"\n3\tc\n'),
        (".tab", b"text\tlabel\na\tx\nb\ty\n"),
    ]
    files += [(".csv", b"Goal and coach.\nBank and bonds.\nLoans.\n"), (".txt", b"Goal\nBank\n")]
    files += [(".txt", b"__label__a Goal\n__label__b Bank\n"), (".ft", b"__label__a __label__b x\n__label__b y\n")]
    records = FRAME.to_dict("records")
    jsons = [records, {"data": records}, FRAME.to_dict("list"), FRAME.to_dict("split"), json.loads(FRAME.to_json())]
    files += [(".json", json.dumps(value).encode()) for value in [*jsons, *annotated()]]
    lines = [records, FRAME.values.tolist(), TEXTS, *annotated()]
    files += [(".jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode()) for rows in lines]
    files += [(".csv.gz", gzip.compress(csv)), (".csv.bz2", bz2.compress(csv)), (".csv.xz", lzma.compress(csv))]
    files += [
        (".jsonl.zst", zstandard.ZstdCompressor().compress(csv)),
        (".zip", zipped(csv)),
        (".csv.zip", zipped(csv)),
    ]
    table = pa.Table.from_pandas(FRAME)
    files += [(".parquet", held(partial(pq.write_table, table, compression=kind))) for kind in ("none", "snappy")]
    files += [(".arrow", arrow_bytes(ipc.new_stream)), (".arrow", arrow_bytes(ipc.new_file))]
    files += [(".feather", held(partial(feather.write_feather, table))), (".feather", b"FEA1" + bytes(60) + b"FEA1")]
    files += [(".xlsx", held(lambda file: FRAME.to_excel(file, index=False)))]
    files += [(".pkl", pickle.dumps(value)) for value in (FRAME, FRAME.to_dict("list"), records, table, [Hostile()])]
    return files


def mutated(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """Returns the content with a few changes: bytes, tokens, and pieces cut, repeated, or taken from another file."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice((1, 2, 4, 16, 100)))
        kind = rng.randrange(8)
        if kind == 0 and data:
            data[min(start, len(data) - 1)] = rng.randrange(256)
        elif kind == 1:
            del data[start:end]
        elif kind == 2:
            data[start:start] = rng.choice(TOKENS)
        elif kind == 3:
            data[start:end] = rng.choice(TOKENS)
        elif kind == 4:
            data[start:start] = data[start:end] * rng.randrange(1, 5)
        elif kind == 5:
            place = rng.randrange(len(other) + 1)
            data[start:end] = other[place : place + rng.choice((1, 8, 64, 512))]
        elif kind == 6:
            del data[start:]
        else:
            data[start:end] = bytes(rng.randrange(256) for _ in range(end - start))
    return bytes(data)


def settings_of(rng: random.Random) -> dict[str, Any]:
    """Returns settings of reading: as a rule the defaults, else a few of the others."""
    if rng.random() < 0.7:
        return {}
    choices: dict[str, tuple[str, ...]] = {
        "separator": ("auto", "tab", ";", "|", "~"),
        "encoding": ("auto", "utf-8", "cp1252", "utf-16", "gb18030", "ascii"),
        "header": ("auto", "yes", "no"),
        "quoting": ("auto", "yes", "no"),
        "text_column": ("", "", "1", "2,3", "text"),
        "label_column": ("", "", "1", "3", "label"),
    }
    return {name: rng.choice(values) for name, values in choices.items()}


def training_reads(path: Path, settings: dict[str, Any]) -> None:
    """Reads a file as train does."""
    values = {"source": str(path), "test_fraction": 0, "validation_fraction": 0} | settings
    load_corpus(overlay(DataConfig(), values), 0)


def prediction_reads(path: Path, settings: dict[str, Any]) -> None:
    """Reads a file as predict does."""
    options = ReadOptions(**{key: settings[key] for key in settings if not key.endswith("column")}, prefix="--")
    check_texts(path, settings.get("text_column", ""), options=options)
    for _ in iter_texts(path, settings.get("text_column", ""), options=options):
        pass


def outcome(read: Callable[[Path, dict[str, Any]], None], path: Path, settings: dict[str, Any]) -> str:
    """Returns "read" or "refused"; a traceback for anything else."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        read(path, settings)
        return "read"
    except SubmillionError:
        return "refused"
    except (Exception, TooSlow):
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def campaign(inputs: int, minutes: float, seed: int, keep: Path) -> tuple[Counter[str], list[str]]:
    """Runs up to so many inputs and minutes. Returns the counts of outcomes and what failed, with the kept files."""
    started: list[str] = []
    is_reading = False

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if is_reading and event in STARTS:
            started.append(f"{event} {args!r:.200}")

    def too_slow(*_: object) -> None:
        raise TooSlow

    sys.addaudithook(watch)
    before = signal.signal(signal.SIGALRM, too_slow)
    counts: Counter[str] = Counter()
    failures: list[str] = []
    files, until = samples(), time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as folder:
        for number in range(inputs):
            if time.monotonic() > until:
                break
            rng = random.Random(f"{seed} {number}")
            (ending, content), (_, other) = rng.choice(files), rng.choice(files)
            if rng.random() < 0.05:
                ending = rng.choice(SUFFIXES)
            path, settings = Path(folder, f"input{ending}"), settings_of(rng)
            path.write_bytes(mutated(rng, content, other))
            counts["inputs"] += 1
            for read in (training_reads, prediction_reads):
                is_reading = True
                result = outcome(read, path, settings)
                is_reading = False
                if started:
                    result = f"started {started.pop()}"
                counts[result if result in ("read", "refused") else "failed"] += 1
                if result not in ("read", "refused"):
                    keep.mkdir(parents=True, exist_ok=True)
                    kept = keep / f"{number}{ending}"
                    kept.write_bytes(path.read_bytes())
                    failures.append(f"{kept} {settings} {read.__name__}\n{result}")
            path.unlink()
    signal.signal(signal.SIGALRM, before)
    return counts, failures


def main() -> int:
    """Runs the campaign and prints the counts. Returns 1 where anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "submillion-fuzz")
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    counts, failures = campaign(args.inputs, args.minutes, args.seed, args.keep)
    print("\n\n".join(failures[:20]))
    print(", ".join(f"{name} {count:,}" for name, count in counts.items()))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
