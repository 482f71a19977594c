"""Whatever the calling program has set of torch and numpy: the same model, the same logits, no traceback."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from news import news_rows, run_of

from submillion.commands.train import TrainResult, train
from submillion.inference.classifier import Classifier
from submillion.sklearn import TextClassifier

TEXTS = [text for text, _ in news_rows(seed=3)][:40]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def transformers_loads() -> Iterator[None]:
    """What transformers does to the whole process while it loads a model: dtype and torch.nn.init."""
    from transformers import initialization

    with initialization.no_init_weights(), default_dtype(torch.bfloat16):
        yield


SETTINGS: dict[str, Callable[[], AbstractContextManager]] = {
    "float16": lambda: default_dtype(torch.float16),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "no gradients": torch.no_grad,
    "inference mode": torch.inference_mode,
    "numpy raises": lambda: np.errstate(all="raise"),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "a default device": default_device,
    "transformers loads a model": transformers_loads,
}
EACH = pytest.mark.parametrize("setting", SETTINGS)


def run(base: Path, folder: Path, precision: str, **changes: object) -> TrainResult:
    rows = news_rows(40)
    data = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
    dials = {"train.precision": precision, "train.epochs": 2, "lora.rank": 2, "train.class_weights": "balanced"}
    return train(data=data, overrides=run_of(base, folder) | dials | changes)


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def plain(request: pytest.FixtureRequest, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return run(tiny_base, tmp_path_factory.mktemp("plain"), request.param)


@EACH
def test_training_is_the_same(setting: str, plain: TrainResult, tiny_base: Path, tmp_path: Path) -> None:
    with SETTINGS[setting]():
        made = run(tiny_base, tmp_path, plain.classifier.config.train.precision)
    assert made.metrics["test"] == plain.metrics["test"]
    ours, theirs = (torch.load(result.folder / "model.pt", weights_only=True) for result in (made, plain))
    assert ours["tensors"].keys() == theirs["tensors"].keys()
    assert all(torch.equal(ours["tensors"][name], theirs["tensors"][name]) for name in ours["tensors"])


@pytest.mark.parametrize("setting", ["bfloat16", "transformers loads a model", "numpy raises"])
@pytest.mark.parametrize(
    "changes", [{"model.head": "stock"}, {"model.ngram_buckets": 64, "robust.noise": True}], ids=str
)
def test_so_are_other_heads_and_n_grams(setting: str, changes: dict, tiny_base: Path, tmp_path: Path) -> None:
    expected = run(tiny_base, tmp_path / "plain", "fp32", **changes)
    with SETTINGS[setting]():
        made = run(tiny_base, tmp_path / "made", "fp32", **changes)
    ours, theirs = (torch.load(result.folder / "model.pt", weights_only=True) for result in (made, expected))
    assert all(torch.equal(ours["tensors"][name], theirs["tensors"][name]) for name in theirs["tensors"])


@EACH
def test_loading_and_predicting_are_the_same(setting: str, plain: TrainResult) -> None:
    model = Classifier.load(plain.folder)
    expected, probabilities = model.logits(TEXTS), model.predict_proba(TEXTS)
    with SETTINGS[setting]():
        assert np.array_equal(model.logits(TEXTS), expected)
        loaded = Classifier.load(plain.folder)
        assert np.array_equal(loaded.logits(TEXTS), expected)
        assert np.array_equal(loaded.predict_proba(TEXTS), probabilities)
    assert np.array_equal(loaded.logits(TEXTS), expected), "what was loaded under a setting is used after it"


@EACH
def test_the_caller_s_settings_are_as_they_were(setting: str, plain: TrainResult) -> None:
    def settings() -> list[object]:
        device = torch.get_default_device()
        modes = [torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")]
        return [torch.get_default_dtype(), device, *modes, np.geterr(), torch.get_num_threads()]

    with SETTINGS[setting]():
        before = settings()
        Classifier.load(plain.folder).predict(TEXTS)
        assert settings() == before


def test_the_estimator_is_the_same(tiny_base: Path) -> None:
    rows = news_rows(20)
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    overrides = {
        key: value for key, value in run_of(tiny_base, Path()).items() if not key.startswith(("output", "data"))
    }

    def fitted() -> np.ndarray:
        return TextClassifier("seed", epochs=1, overrides=overrides).fit(texts, labels).predict_proba(TEXTS)

    expected = fitted()
    with np.errstate(all="raise"), default_dtype(torch.float64), torch.no_grad():
        assert np.array_equal(fitted(), expected)
