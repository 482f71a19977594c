"""optimum opens an ONNX export and gives our logits. Its release needs an older transformers, so it runs in a child."""

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from news import write_csv
from saved import LABELS, saved_checkpoints, saved_model
from tiny import MODEL_TYPES

from submillion.cli import main
from submillion.inference.classifier import Classifier

DOCS = Path(__file__).resolve().parents[2] / "docs" / "onnx.md"
TEXTS = [
    "Oil prices climb as OPEC meets",
    "The champion won!",
    "",
    "war " * 60,
    "new software (web) 2.0",
    "Café &amp; bar",
]
KINDS = {
    "plain": {},
    "cleaning": {"normalise": ("clean",)},
    "n-grams": {"ngram_buckets": 41, "pooling": "mean", "head": "linear"},
    "windows": {"window": 9, "pooling": "mean"},
}
VARIABLE = "SUBMILLION_OPTIMUM_PYTHON"


@pytest.fixture(scope="module")
def optimum_python() -> str:
    """The Python of an environment that holds optimum-onnx."""
    python = os.environ.get(VARIABLE)
    if not python:
        pytest.skip(
            f"{VARIABLE} does not name a Python with optimum-onnx, which needs transformers below 4.58 and so an "
            "environment of its own: python -m venv V; V/bin/pip install 'optimum-onnx[onnxruntime]==0.1.0'"
        )
    return python


@pytest.fixture(scope="module")
def checkpoints(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return saved_checkpoints(tiny_base, tmp_path_factory)


def logits_of_optimum(python: str, folder: Path) -> np.ndarray:
    """Runs the script of docs/onnx.md in the other environment on one ragged batch."""
    scripts = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.DOTALL)
    (script,) = [script for script in scripts if "optimum" in script]
    code = f"import json, sys\nfolder, texts = json.load(sys.stdin)\n{script}\nprint(json.dumps(logits.tolist()))"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", code],
        input=json.dumps([str(folder), TEXTS]),
        capture_output=True,
        text=True,
        timeout=300,
        env=environment | {"HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("model_type", "kind"),
    [(name, "plain") for name in MODEL_TYPES] + [("bert", kind) for kind in KINDS if kind != "plain"],
)
def test_optimum_gives_our_logits(
    model_type: str, kind: str, optimum_python: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    model, folder = saved_model(checkpoints[model_type], tmp_path, **KINDS[kind]), tmp_path / "onnx"
    assert main(["export", str(model), "--to", "onnx", str(folder)]) == 0
    expected = Classifier.load(model).logits(TEXTS)
    assert np.ptp(expected, axis=0).max() > 0.1  # logits that differ from text to text
    np.testing.assert_allclose(logits_of_optimum(optimum_python, folder), expected, atol=1e-4, rtol=0)


def test_optimum_runs_an_int8_export_as_onnxruntime_does(
    optimum_python: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    import onnxruntime
    from tokenizers import Tokenizer

    rows = write_csv(tmp_path / "rows.csv", [(f"oil war {at}", LABELS[at % 3]) for at in range(9)])
    model, folder = saved_model(checkpoints["bert"], tmp_path), tmp_path / "onnx"
    assert main(["export", str(model), "--to", "onnx", str(folder), "--int8", "--data.source", str(rows)]) == 0
    encoded = Tokenizer.from_file(str(folder / "tokenizer.json")).encode_batch(TEXTS)
    inputs = {"input_ids": [row.ids for row in encoded], "attention_mask": [row.attention_mask for row in encoded]}
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    expected = session.run(["logits"], {name: np.array(value) for name, value in inputs.items()})[0]
    np.testing.assert_allclose(logits_of_optimum(optimum_python, folder), expected, atol=1e-4, rtol=0)
