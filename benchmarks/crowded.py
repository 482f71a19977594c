"""Threads from Python, beside a busy program and under a quota: `python -m benchmarks.crowded [--pairs N]`.

Sides, in alternation, each a process that imports torch first, as scripts and notebooks do: ours; ours in one thread
(OMP_NUM_THREADS=1); and torch's own way with threads, which is as many as cores, awake for milliseconds, whatever the
work and the quota. Conditions: alone; beside a Python process that does nothing but count; in a control group whose
quota is one core (as root on Linux, else it is left out). The other programs of the machine are part of every figure:
run it where nothing else does.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.report import ROOT
from benchmarks.rows import MINILM, NoData, child_environment, data_folder, read_texts

SIDES: dict[str, dict[str, str]] = {"ours": {}, "one thread": {"OMP_NUM_THREADS": "1"}, "torch's own": {}}
SECONDS, TRAINED, FITTED = 3.0, 320, 160  # of each prediction; rows
# By where control groups are mounted: the file that takes the quota, and what one core is there.
QUOTAS = {"/sys/fs/cgroup/cpu": ("cpu.cfs_quota_us", "100000"), "/sys/fs/cgroup": ("cpu.max", "100000 100000")}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crowded", description=__doc__)
    parser.add_argument("--pairs", type=int, default=3, help="repetitions of every side and condition")
    parser.add_argument("--data", default="", help="folder with train.parquet; default $AGNEWS")
    options = parser.parse_args()
    try:
        texts, labels = read_texts(data_folder(options.data), TRAINED)
    except NoData as error:
        print(error, file=sys.stderr)
        return 2
    rates: dict[str, dict[str, dict[str, list[float]]]] = {}  # by condition, task and side
    with tempfile.TemporaryDirectory() as folder:
        job = {"texts": texts, "labels": [str(label) for label in labels], "folder": folder}
        (Path(folder) / "job.json").write_text(json.dumps(job), encoding="utf-8")
        for _ in range(options.pairs):
            for condition, group in conditions().items():
                for side in SIDES:
                    with group() as prefix:
                        measured = run_side(side, Path(folder) / "job.json", prefix)
                    for task, rate in measured.items():
                        rates.setdefault(condition, {}).setdefault(task, {}).setdefault(side, []).append(rate)
    for condition, tasks in rates.items():
        for task, sides in tasks.items():
            report.print_rates(f"{condition}: {task}", sides)
    rows = table_rows(rates)
    report.print_rows(rows)
    print(report.write_results(rows, {"rates": rates}, suffix="-crowded"))
    return 0


def table_rows(rates: dict[str, dict[str, dict[str, list[float]]]]) -> list[report.Row]:
    """Compares ours with one thread, which it should never be slower than, and with torch's own way."""
    return [
        report.Row(f"{condition}, {task}, by {side}", "x", 1.0, report.paired_ratios(sides["ours"], sides[side]))
        for condition, tasks in rates.items()
        for task, sides in tasks.items()
        for side in ("one thread", "torch's own")
    ]


def conditions() -> dict[str, Callable[[], Any]]:
    """Returns, for each condition, a context that yields the words before a command; a quota only if one can be set."""
    contexts: dict[str, Callable[[], Any]] = {"alone": lambda: nullcontext([]), "beside a busy program": busy}
    with quota() as prefix:
        return contexts | ({"a quota of one core": quota} if prefix else {})


@contextmanager
def busy() -> Iterator[list[str]]:
    """Runs a process that counts meanwhile."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield []
    finally:
        process.kill()
        process.wait()


@contextmanager
def quota() -> Iterator[list[str]]:
    """Yields the words that run a command under a quota of one core; none if no control group can be made."""
    for root, (name, content) in QUOTAS.items():
        folder = Path(root) / "submillion-benchmark"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / name).write_text(content)
        except OSError:
            folder.rmdir()
            continue
        try:
            yield ["sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh"]
        finally:
            folder.rmdir()
        return
    yield []


def run_side(side: str, job: Path, prefix: list[str]) -> dict[str, float]:
    """Returns rows/s of each task, from a process of its own. Raises RuntimeError if it fails."""
    command = [*prefix, sys.executable, "-m", "benchmarks.crowded_child", side, str(job)]
    plain = {name: value for name, value in child_environment().items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(command, cwd=ROOT, env=plain | SIDES[side], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{side} failed ({done.returncode}):\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def child(side: str, job: dict[str, Any]) -> dict[str, float]:
    """Measures one text at a time, 64 at once, training, and the scikit-learn estimator's fit, each in rows/s."""
    import torch

    from submillion.commands.train import train
    from submillion.inference.classifier import Classifier
    from submillion.runtime import forward
    from submillion.runtime.progress import quiet
    from submillion.sklearn import TextClassifier
    from submillion.training import loop

    if side == "torch's own":
        for module in (loop, forward):
            module.sized_for = lambda tokens: nullcontext()  # type: ignore[attr-defined]
    texts, labels, folder = job["texts"], job["labels"], Path(job["folder"]) / str(os.getpid())
    torch.ones(10**6).neg_()  # torch's threads are there, as in any program that has used it
    settings = {"model.base": MINILM, "train.learning_rate": 1e-3, "output.dir": str(folder)}
    settings |= {"data.test_fraction": 0.0, "data.validation_fraction": 0.0}
    with quiet():
        trained = train("seed", data={"text": texts, "label": labels}, overrides=settings)
        model = Classifier.load(folder)
        estimator = TextClassifier("seed", base=MINILM)
        start = time.perf_counter()
        estimator.fit(texts[:FITTED], labels[:FITTED])
        fitted = FITTED / (time.perf_counter() - start)
    return {
        "one text at a time": predicted(model, texts, 1),
        "64 texts at once": predicted(model, texts, 64),
        "training": trained.metrics["rows_per_second"],
        "the estimator's fit": fitted,
    }


def predicted(model: Any, texts: list[str], count: int) -> float:
    """Returns the texts/s of `predict` with `count` texts at once."""
    model.predict(texts[:count])
    done, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < SECONDS:
        first = done % (len(texts) - count)
        model.predict(texts[first : first + count])
        done += count
    return done / seconds


if __name__ == "__main__":
    sys.exit(main())
