"""`submillion predict` in a pipe: lines in, lines out, and the exit codes that a shell expects."""

import csv
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zstandard
from news import LABELS, news_rows, write_csv

from submillion.commands.evaluate import evaluate_source
from submillion.commands.predict import predict_file
from submillion.commands.train import TrainResult
from submillion.inference.artefact import Artefact

TEXTS = [text for text, _ in news_rows(10, seed=2)]
LINES = "".join(f"{text}\n" for text in TEXTS).encode()


def command(trained: TrainResult, *argv: str) -> list[str]:
    return [sys.executable, "-m", "submillion", "predict", *argv, "--model", str(trained.folder)]


def run(trained: TrainResult, *argv: str, stdin: bytes = LINES) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command(trained, *argv), input=stdin, capture_output=True, timeout=60)


def names(trained: TrainResult) -> list[str]:
    return trained.classifier.predict(TEXTS)


# Formats


def test_a_label_a_line_on_standard_output_and_the_rest_on_standard_error(trained: TrainResult) -> None:
    done = run(trained, "-")
    assert (done.returncode, done.stdout.decode().splitlines()) == (0, names(trained))
    assert b"30 rows of standard input -> standard output" in done.stderr


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_csv_and_tsv_hold_what_a_file_holds(delimiter: str, trained: TrainResult) -> None:
    done = run(trained, "-", "--scores", "--format", {",": "csv", "\t": "tsv"}[delimiter])
    header, *rows = csv.reader(io.StringIO(done.stdout.decode()), delimiter=delimiter)
    assert header == ["ID", "Label", "Name", "Blank", *(f"p_{name}" for name in LABELS)]
    assert [row[0] for row in rows] == [str(index) for index in range(30)]
    assert [row[2] for row in rows] == names(trained) == [row[1] for row in rows]
    found = np.array([row[4:] for row in rows], dtype=float)
    assert np.allclose(found, trained.classifier.predict_proba(TEXTS), atol=1e-6)


def test_jsonl_has_an_object_a_row(trained: TrainResult) -> None:
    rows = [json.loads(line) for line in run(trained, "-", "--format", "jsonl", "--scores").stdout.splitlines()]
    assert [row["name"] for row in rows] == names(trained) and rows[3]["id"] == 3
    assert (
        rows[0]["label"] == rows[0]["name"]
        and rows[0]["blank"] is False
        and set(rows[0]["probabilities"]) == set(LABELS)
    )
    assert "probabilities" not in json.loads(run(trained, "-", "--format", "jsonl").stdout.splitlines()[0])


def test_a_file_to_standard_output_and_standard_input_to_a_file(trained: TrainResult, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_bytes(LINES)
    piped = run(trained, str(tmp_path / "texts.txt"), "--output", "-", "--format", "csv", stdin=b"")
    filed = run(trained, "-", "--output", str(tmp_path / "out.csv"))
    assert (piped.returncode, filed.returncode) == (0, 0) and filed.stdout.startswith(b"30 rows of standard input")
    assert (tmp_path / "out.csv").read_bytes() == piped.stdout
    run(trained, "-", "--output", str(tmp_path / "out.jsonl"))
    assert json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])["name"] == names(trained)[0]


def test_labels_have_no_place_for_scores(trained: TrainResult) -> None:
    done = run(trained, "-", "--format", "labels", "--scores")
    assert (done.returncode, done.stdout) == (2, b"") and b"--format labels has no place for --scores" in done.stderr
    assert run(trained, "-", "--scores").stdout.startswith(b"ID,Label,Name,")


def test_lines_have_no_columns(trained: TrainResult) -> None:
    done = run(trained, "-", "--text-column", "title")
    assert (done.returncode, done.stdout) == (2, b"") and b"a text a line, without columns" in done.stderr


def test_nothing_in_is_nothing_out(trained: TrainResult) -> None:
    done = run(trained, "-", stdin=b"")
    assert (done.returncode, done.stdout) == (0, b"")


def test_the_last_line_needs_no_end_and_windows_ends_are_taken_off(trained: TrainResult) -> None:
    done = run(trained, "-", stdin="\r\n".join(TEXTS).encode())
    assert done.stdout.decode().splitlines() == names(trained)


# Compressed


@pytest.mark.parametrize(("codec", "compress"), [("gz", gzip.compress), ("zst", zstandard.ZstdCompressor().compress)])
def test_compressed_rows_are_predicted_and_measured(
    codec: str, compress: type, trained: TrainResult, tmp_path: Path
) -> None:
    rows = "text,label\n" + "".join(f"{text},{label}\n" for text, label in news_rows(10, seed=2))
    plain, packed = tmp_path / "rows.csv", tmp_path / f"packed.csv.{codec}"
    plain.write_text(rows)
    packed.write_bytes(compress(rows.encode()))
    for path in (plain, packed):
        predict_file(path, trained.folder, tmp_path / f"{path.name}.out")
    assert (tmp_path / f"{packed.name}.out").read_bytes() == (tmp_path / "rows.csv.out").read_bytes()
    found = [evaluate_source(trained.folder, str(path))["accuracy"] for path in (plain, packed)]
    assert found[0] == found[1]
    packed.write_bytes(packed.read_bytes()[:-3])
    done = run(trained, str(packed), "--output", str(tmp_path / "cut.csv"))
    assert done.returncode == 2 and b"file is cut or damaged" in done.stderr and b"Traceback" not in done.stderr
    assert not (tmp_path / "cut.csv").exists()


# As a shell expects


def test_each_line_is_answered_before_the_next_is_written(trained: TrainResult) -> None:
    process = subprocess.Popen(command(trained, "-"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert process.stdin and process.stdout
    for text, name in zip(TEXTS[:3], names(trained)[:3], strict=True):
        process.stdin.write(text.encode() + b"\n")
        assert process.stdout.readline().decode() == f"{name}\n"
    process.stdin.close()
    assert process.wait(60) == 0
    process.stdout.close()


def test_a_reader_that_has_enough_ends_it_quietly(trained: TrainResult) -> None:
    process = subprocess.Popen(
        command(trained, "-"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
    assert process.stdin and process.stdout and process.stderr
    process.stdin.write(LINES)
    assert process.stdout.readline().decode() == f"{names(trained)[0]}\n"
    process.stdout.close()
    process.stdin.write(LINES)
    process.stdin.close()
    assert process.wait(60) == 141 and process.stderr.read() == b""
    process.stderr.close()


def test_head_ends_the_pipe_without_a_word(trained: TrainResult, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_bytes(LINES * 300)
    pipe = f"{' '.join(command(trained, '-'))} < texts.txt | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, cwd=tmp_path, timeout=100)
    assert (done.stdout.splitlines(), done.stderr) == ([names(trained)[0], "141"], "")


def test_control_c_ends_with_130_and_a_line(trained: TrainResult) -> None:
    process = subprocess.Popen(
        command(trained, "-"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        # A shell that starts the tests in the background has them ignore Ctrl-C, and all that they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdin and process.stdout
    process.stdin.write(TEXTS[0].encode() + b"\n")
    process.stdout.readline()  # by now it waits for the next line
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"submillion: interrupted\n")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"caf\xe9 prices", "line 31: byte 4 (0xe9) is not UTF-8"),
        (b"nu\0l", "line 31: byte 3 is NUL"),
    ],
)
def test_a_bad_line_is_named_after_the_answers_to_those_before_it(
    line: bytes, problem: str, trained: TrainResult
) -> None:
    done = run(trained, "-", stdin=LINES + line + b"\n" + LINES)
    assert (done.returncode, done.stdout.decode().splitlines()) == (2, names(trained))
    assert f"standard input: 1 problem\n  {problem}" in done.stderr.decode() and b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "blank", [b"", b"   ", b"\t", b"\r", "\u00a0\u2003".encode(), "\u200b".encode(), b"\xef\xbb\xbf"]
)
def test_a_blank_line_has_the_answer_of_the_empty_text(blank: bytes, trained: TrainResult) -> None:
    done = run(trained, "-", stdin=LINES + blank + b"\n" + LINES)
    [empty] = trained.classifier.predict([""])
    assert (done.returncode, done.stdout.decode().splitlines()) == (0, [*names(trained), empty, *names(trained)])
    assert b"1 row has no text and got the label of an empty text" in done.stderr
    done = run(trained, "-", "--scores", "--format", "csv", stdin=blank + b"\n" + LINES + b"\n")
    assert [row[3] for row in csv.reader(io.StringIO(done.stdout.decode()))] == [
        "Blank",
        "true",
        *["false"] * 30,
        "true",
    ]
    assert b"2 rows have no text and got the label of an empty text" in done.stderr


def test_a_full_disk_is_an_error_with_code_2(trained: TrainResult) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command(trained, "-"), input=LINES, stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 2 and b"No space left" in done.stderr and b"Traceback" not in done.stderr


def test_standard_input_is_for_one_process(trained: TrainResult) -> None:
    argv = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "submillion", "predict", "-"]
    argv = [sys.executable, *argv, "--model", str(trained.folder)]
    done = subprocess.run(argv, input=LINES, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode != 0 and b"standard input can only be read by one process" in done.stderr


# Closed streams, and a console that has ASCII alone


def shell(line: str, encoding: str = "utf-8") -> subprocess.CompletedProcess[bytes]:
    """A line of bash in which $SUBMILLION is the command, with LINES as its standard input."""
    variables = {**os.environ, "SUBMILLION": f"{sys.executable} -m submillion", "PYTHONIOENCODING": encoding}
    return subprocess.run(["bash", "-c", line], input=LINES, capture_output=True, env=variables, timeout=60)


def test_closed_standard_input_is_an_error(trained: TrainResult) -> None:
    done = shell(f"$SUBMILLION predict - --model {trained.folder} <&-")
    assert (done.returncode, done.stdout) == (2, b"") and b"standard input, found it closed" in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_file_is_predicted_where_streams_are_closed(closed: str, trained: TrainResult, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_bytes(LINES)
    done = shell(f"cd {tmp_path}; $SUBMILLION predict texts.txt --model {trained.folder} --output out.jsonl {closed}")
    assert (done.returncode, done.stderr) == (0, b"")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert [row["name"] for row in rows] == names(trained)


def test_a_plan_for_nobody_is_no_error() -> None:
    done = shell("$SUBMILLION plan --recipe quickstart >&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_an_error_for_nobody_is_not_among_the_answers(trained: TrainResult, tmp_path: Path) -> None:
    done = shell(f"$SUBMILLION predict {tmp_path / 'none.csv'} --model {trained.folder} --output - 2>&-")
    assert (done.returncode, done.stdout) == (2, b"")


@pytest.fixture
def accented(trained: TrainResult, tmp_path: Path) -> Path:
    """The trained model with a label beyond ASCII, and beyond Latin-1."""
    artefact = Artefact.load(trained.folder)
    task = artefact.task | {"label_names": ["Économie: 雪", *LABELS[1:]]}
    return replace(artefact, task=task).save(tmp_path / "accented").parent


@pytest.mark.parametrize("format", ["labels", "jsonl", "csv --scores"])
def test_answers_are_utf8_whatever_the_console_has(format: str, accented: Path) -> None:
    line = f"$SUBMILLION predict - --model {accented} --format {format}"
    done, narrow = (shell(line, encoding) for encoding in ("utf-8", "ascii"))
    assert (narrow.returncode, narrow.stdout) == (0, done.stdout) and "Économie: 雪" in narrow.stdout.decode()


def test_a_table_is_escaped_where_the_console_has_ascii_alone(accented: Path, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "rows.csv", [(text, "Sports") for text in TEXTS])
    done = shell(f"$SUBMILLION evaluate --data.source {data} --model {accented}", "ascii")
    assert done.returncode == 0 and r"\xc9conomie: \u96ea" in done.stdout.decode("ascii")
