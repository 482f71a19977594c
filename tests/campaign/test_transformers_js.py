"""transformers.js opens an ONNX export with the options of docs/onnx.md, and gives our logits."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from saved import saved_checkpoints, saved_model
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
VARIABLE = "SUBMILLION_TRANSFORMERS_JS"


@pytest.fixture(scope="module")
def packages() -> Path:
    """The folder in which npm installed @huggingface/transformers."""
    folder = os.environ.get(VARIABLE)
    if not folder or shutil.which("node") is None:
        pytest.skip(
            f"{VARIABLE} does not name a folder with transformers.js, or there is no node: "
            "npm install --ignore-scripts @huggingface/transformers@4.3.2"
        )
    return Path(folder)


@pytest.fixture(scope="module")
def checkpoints(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return saved_checkpoints(tiny_base, tmp_path_factory)


@pytest.mark.parametrize(
    ("model_type", "model"),
    [(name, {}) for name in MODEL_TYPES]
    + [("bert", {"normalise": ("clean",)}), ("bert", {"ngram_buckets": 41, "head": "linear"}), ("bert", {"window": 9})],
    ids=str,
)
def test_transformers_js_gives_our_logits(
    model_type: str, model: dict[str, object], packages: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    saved, folder = saved_model(checkpoints[model_type], tmp_path, **model), tmp_path / "onnx"
    assert main(["export", str(saved), "--to", "onnx", str(folder)]) == 0
    expected = Classifier.load(saved).logits(TEXTS)
    assert np.ptp(expected, axis=0).max() > 0.1  # logits that differ from text to text
    (script,) = re.findall(r"```js\n(.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.DOTALL)
    values = {"parent": f"{tmp_path}/", "name": folder.name, "texts": TEXTS}
    constants = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
    use = tmp_path / "use.mjs"
    use.write_text(f"{constants}{script}console.log(JSON.stringify(logits.tolist()));\n", encoding="utf-8")
    (tmp_path / "node_modules").symlink_to(packages / "node_modules")
    done = subprocess.run(["node", str(use)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout.splitlines()[-1]), expected, atol=1e-4, rtol=0)
