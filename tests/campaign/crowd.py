"""One process, many threads: some predict, others load models, train, fork, and change torch's settings meanwhile.

`PYTHONPATH=tests python tests/campaign/crowd.py BASE FOLDER SECONDS` exits with 0 if every logit and trained tensor
had the bits that it has when nothing else runs, and prints how often each job was done. BASE: a pretrained encoder's
folder. FOLDER: a place for models.
"""

import os
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from news import news_rows, run_of
from tiny import tiny_shape, transformers_classifier

from submillion.commands.train import TrainResult, train
from submillion.inference.classifier import Classifier
from submillion.runtime.progress import quiet

ROWS = news_rows(30)
TEXTS = [text for text, _ in news_rows(40, seed=7)]
CHILD_SECONDS = 60  # a forked child that has not answered by then has been waiting for a lock


class Crowd:
    """What runs beside what, until the time is over or something differs."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.compared: Counter[str] = Counter()
        self.failures: list[str] = []

    def run(self, jobs: dict[str, Callable[[], None]]) -> None:
        threads = [threading.Thread(target=self._repeat, args=job, name=job[0]) for job in jobs.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _repeat(self, name: str, job: Callable[[], None]) -> None:
        with quiet():
            while time.monotonic() < self.end and not self.failures:
                try:
                    job()
                    self.compared[name] += 1
                except BaseException:
                    self.failures.append(f"{name}: {traceback.format_exc()}")


def check(found: np.ndarray, expected: np.ndarray, what: str) -> None:
    if found.dtype != expected.dtype or not np.array_equal(found, expected):
        raise AssertionError(f"{what}: other bits, {np.abs(found - expected).max():.3g} away")


def trained(base: Path, folder: Path, precision: str) -> TrainResult:
    data = {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}
    more = {"train.precision": precision, "train.epochs": 1, "lora.rank": 2, "model.head": "stock"}
    return train(data=data, overrides=run_of(base, folder) | more)


def tensors(result: TrainResult) -> dict[str, np.ndarray]:
    state = torch.load(result.folder / "model.pt", weights_only=True)["tensors"]
    return {name: tensor.numpy() for name, tensor in state.items()}


def main(base: Path, folder: Path, seconds: float) -> int:
    from transformers import AutoModelForSequenceClassification

    with quiet():
        results = {precision: trained(base, folder / precision, precision) for precision in ("fp32", "bf16")}
    models = {name: Classifier.load(result.folder) for name, result in results.items()}
    sizes = (1, 2, 7, len(TEXTS))
    expected = {(name, size): model.logits(TEXTS[:size]) for name, model in models.items() for size in sizes}
    weights = {name: tensors(result) for name, result in results.items()}
    transformers_classifier(tiny_shape("bert", vocab_size=300)).save_pretrained(folder / "theirs")
    crowd = Crowd(seconds)

    def predicts() -> None:
        for (name, size), logits in expected.items():
            check(models[name].logits(TEXTS[:size]), logits, f"{name}, {size} texts")

    def loads() -> None:
        for name, result in results.items():
            check(Classifier.load(result.folder).logits(TEXTS[:7]), expected[name, 7], f"{name}, loaded")

    def trains(precision: str) -> None:
        made = tensors(trained(base, folder / f"again-{precision}", precision))
        for name, tensor in weights[precision].items():
            check(made[name], tensor, f"{precision}, {name}")

    def transformers_loads() -> None:  # which sets the default dtype and torch.nn.init of the whole process
        AutoModelForSequenceClassification.from_pretrained(folder / "theirs", dtype=torch.bfloat16)

    def settings_change() -> None:
        for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.float32):
            torch.set_default_dtype(dtype)
            torch.set_grad_enabled(dtype == torch.float32)
            np.seterr(all="raise")
            time.sleep(0.001)

    def forks() -> None:
        child = os.fork()
        if not child:
            code = 1
            try:
                predicts()
                code = 0
            finally:
                os._exit(code)
        end = time.monotonic() + CHILD_SECONDS
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() > end:
                os.kill(child, 9)
                os.waitpid(child, 0)
                raise AssertionError("a forked child waits for ever")
            time.sleep(0.01)
        if ended[1]:
            raise AssertionError(f"a forked child ended with {ended[1]}")

    crowd.run(
        {
            "predicts": predicts,
            "predicts too": predicts,
            "loads": loads,
            "trains in fp32": lambda: trains("fp32"),
            "trains in bf16": lambda: trains("bf16"),
            "transformers loads": transformers_loads,
            "settings change": settings_change,
            **({"forks": forks} if hasattr(os, "fork") else {}),
        }
    )
    torch.set_default_dtype(torch.float32)
    print(", ".join(f"{name} {count:,}" for name, count in sorted(crowd.compared.items())))
    print("\n".join(crowd.failures[:3]), file=sys.stderr)
    return 1 if crowd.failures else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])))
