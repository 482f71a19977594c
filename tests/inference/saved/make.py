"""Saves a model as this version does, for every later version to open: `python tests/inference/saved/make.py v3`.

Run it once for each new schema of the artefact. A folder that is there stays as it is: its files are what people have.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

SAVED = Path(__file__).resolve().parent
sys.path.insert(0, str(SAVED.parents[1]))  # the tests' own modules

from news import news_rows  # noqa: E402
from tiny_base import write_tiny_base  # noqa: E402

from submillion.commands.train import train  # noqa: E402
from submillion.inference.artefact import Artefact  # noqa: E402

SETTINGS = {  # as many parts of a model as one file can have
    "model.base": "base",
    "model.head": "linear",
    "model.max_length": 60,
    "model.ngram_buckets": 64,
    "model.unfreeze_layers": 1,
    "lora.targets": ["all-linear"],
    "robust.normalise": ["clean", "spelling"],
    "data.validation_fraction": 0.25,
    "train.epochs": 2,
    "train.learning_rate": 1e-2,
    "train.batch_size": 16,
    "train.precision": "fp32",
}
TEXTS = [
    "Oil prices climb as the market meets",
    "the coach of the team wins the final",
    "",
    "<b>presidnt</b> &amp; minister",
    "war in the country, and the vote of the president " * 5,
]


def main(version: str) -> None:
    """Writes the folder of a version: the base, model.pt, and expected.json with its logits and its tensors' hashes."""
    folder = SAVED / version
    folder.mkdir()
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)  # so that the model's configuration names no path of this machine
        Path("base").mkdir()
        write_tiny_base(Path("base"))
        classifier = train(data=news_rows(100), overrides=SETTINGS).classifier
        shutil.copytree("base", folder / "base")
        shutil.copy("best_model/model.pt", folder)
    tensors = Artefact.load(folder).tensors
    expected = {
        "texts": TEXTS,
        "logits": classifier.logits(TEXTS).tolist(),
        "labels": classifier.predict(TEXTS),
        "temperature": classifier.temperature,
        "tensors": {name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in tensors.items()},
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
