"""The frozen-prefix cache: the same training as without it, from a file that is gone afterwards."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import CPU, FAMILIES, HELD_OUT, TASK, learnable_rows, some_of, tiny_classifier, tiny_shape
from torch import Tensor

from submillion.config.schema import TrainConfig
from submillion.errors import TrainingError
from submillion.model.bert import BertLayer
from submillion.model.classifier import TextClassifier
from submillion.model.norm import LayerNorm
from submillion.model.spec import AdapterSpec, NetworkSpec
from submillion.runtime import prefix
from submillion.runtime.batches import pad_batch
from submillion.runtime.device import Compute
from submillion.runtime.forward import compute_logits
from submillion.runtime.prefix import frozen_prefix
from submillion.text.tokenizer import Tokens
from submillion.training.loop import FitResult, fit
from submillion.training.rows import TokenRows

DATA = learnable_rows(rows=164)  # 100 for training: the last batch is short
TRAIN = some_of(DATA, range(HELD_OUT, len(DATA)))
VALIDATION = some_of(DATA, range(HELD_OUT))
NOTHING = some_of(DATA, [])
CONFIG = TrainConfig(batch_size=16, learning_rate=2e-3, epochs=3, precision="fp32")
MODEL = NetworkSpec(dropout=0.0)
LAST = AdapterSpec(rank=4, alpha=8.0, dropout=0.1, targets=("all-linear",), layers=(2,))  # of three layers
BF16 = Compute(torch.device("cpu"), torch.bfloat16, "for tests")
OFF = 0


def run(
    most_bytes: int = prefix.MOST_BYTES,
    train: TokenRows = TRAIN,
    validation: TokenRows = VALIDATION,
    family: str = "bert",
    model: NetworkSpec = MODEL,
    lora: AdapterSpec = LAST,
    compute: Compute = CPU,
    views: Callable[[int], Tokens] | None = None,
    **changes: Any,
) -> tuple[TextClassifier, FitResult]:
    network = tiny_classifier(shape=tiny_shape(family), network=model, adapters=lora).to_compute(compute.dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix, "MOST_BYTES", most_bytes)
        return network, fit(network, TASK, train, validation, replace(CONFIG, **changes), 0, compute, views=views)


def values(result: FitResult, key: str) -> list[float]:
    return [record[key] for record in result.history if key in record]


def assert_same(with_cache: tuple[TextClassifier, FitResult], without: tuple[TextClassifier, FitResult]) -> None:
    (network, result), (other, expected) = with_cache, without
    assert len(result.history) == len(expected.history)
    for key in ("train_loss", "validation_loss"):
        assert values(result, key) == pytest.approx(values(expected, key), abs=1e-6, rel=0)
    for key in ("step", "epoch", "learning_rate", "train_accuracy", "validation_accuracy"):
        assert values(result, key) == values(expected, key)
    assert result.best_step == expected.best_step and result.steps == expected.steps
    for name, tensor in other.trainable().items():
        torch.testing.assert_close(network.trainable()[name], tensor, atol=1e-5, rtol=0)


def last_norms(network: TextClassifier) -> list[LayerNorm]:
    return [layer.norms()["output_norm"] for layer in network.encoder.layer_list()]


@pytest.fixture
def layer_runs(monkeypatch: pytest.MonkeyPatch) -> list[LayerNorm]:
    """Every layer that runs, in order, by its last norm: a merged layer shares it with the layer it was merged from."""
    seen: list[LayerNorm] = []
    original = BertLayer.forward

    def forward(self: BertLayer, *arguments: Any, **named: Any) -> Tensor:
        seen.append(self.output_norm)
        return original(self, *arguments, **named)

    monkeypatch.setattr(BertLayer, "forward", forward)
    return seen


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Any]]:
    """The temporary files that are opened; none may be open, or have a name, when the test ends."""
    opened: list[Any] = []
    original = tempfile.TemporaryFile

    def record(*arguments: Any, **named: Any) -> Any:
        opened.append(original(*arguments, **named))
        return opened[-1]

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("tempfile.TemporaryFile", record)
    yield opened
    assert all(file.closed for file in opened) and list(tmp_path.glob("submillion-*")) == []


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_training_is_the_same_with_and_without(family: str, pooling: Any, files: list[Any]) -> None:
    model = replace(MODEL, pooling=pooling)
    cached = run(family=family, model=model)
    assert len(files) == 1
    plain = run(OFF, family=family, model=model)
    assert len(files) == 1
    assert_same(cached, plain)
    assert values(plain[1], "train_loss")[-1] < values(plain[1], "train_loss")[0] - 0.005  # something to train


def test_the_windows_of_validation_rows_are_kept(files: list[Any]) -> None:
    model = replace(MODEL, pooling="mean", window=7)
    cached = run(model=model)
    assert len(files) == 1
    assert_same(cached, run(OFF, model=model))
    whole = run(OFF, model=replace(model, window=0))[1]
    assert values(cached[1], "train_loss") == pytest.approx(values(whole, "train_loss"), abs=1e-6)
    assert values(cached[1], "validation_loss") != pytest.approx(values(whole, "validation_loss"), abs=1e-3)


def test_training_rows_under_noise_are_computed_in_each_pass(capsys: pytest.CaptureFixture[str]) -> None:
    noisy = some_of(TRAIN, np.roll(range(len(TRAIN)), 1).tolist()).tokens
    cached = run(views=lambda _: noisy)
    shown = f"{VALIDATION.tokens.lengths.sum() * 32 * 4 / 1e6:,.1f} MB"
    assert f"prefix cache: {shown} of temporary file" in capsys.readouterr().err, "the validation rows alone"
    assert_same(cached, run(OFF, views=lambda _: noisy))


@pytest.mark.parametrize(
    ("model", "lora", "frozen"),
    [
        (MODEL, replace(LAST, layers=(1,)), 1),
        (MODEL, AdapterSpec(rank=0), 3),
        (replace(MODEL, pooling="mean"), AdapterSpec(rank=0), 3),
        (replace(MODEL, unfreeze_layers=1), AdapterSpec(rank=0), 2),
        (replace(MODEL, unfreeze_layers=2), LAST, 1),
    ],
    ids=[
        "a middle layer",
        "head alone",
        "head alone, mean",
        "an unfrozen layer",
        "an unfrozen layer below the adapters",
    ],
)
def test_every_way_to_leave_the_lowest_layers_frozen(
    model: NetworkSpec, lora: AdapterSpec, frozen: int, capsys: pytest.CaptureFixture[str]
) -> None:
    # An unfrozen layer's key biases get no gradient but rounding, which Adam blows up to full steps.
    rate = 1e-6 if model.unfreeze_layers else 2e-3
    cached = run(model=model, lora=lora, learning_rate=rate)
    assert f"frozen layers at the bottom: {frozen}" in capsys.readouterr().err
    assert_same(cached, run(OFF, model=model, lora=lora, learning_rate=rate))


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_the_final_norm_of_modernbert_is_part_of_what_is_kept(pooling: Any) -> None:
    arguments: dict[str, Any] = {"family": "modernbert", "model": replace(MODEL, pooling=pooling)}
    assert_same(run(lora=AdapterSpec(rank=0), **arguments), run(OFF, lora=AdapterSpec(rank=0), **arguments))


def test_class_weights_and_a_head_that_is_fitted_first_are_the_same() -> None:
    changes: dict[str, Any] = {"class_weights": "balanced", "few_labels": True, "epochs": 4}
    assert_same(run(**changes), run(OFF, **changes))


def test_bf16_is_the_same_to_its_rounding(files: list[Any]) -> None:
    cached, plain = run(compute=BF16)[1], run(OFF, compute=BF16)[1]
    assert len(files) == 1
    for key in ("train_loss", "validation_loss"):
        assert values(cached, key) == pytest.approx(values(plain, key), abs=0.02)


@pytest.mark.parametrize("compute", [CPU, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_states_of_a_row_are_those_that_enter_the_trained_layer(family: str, compute: Compute) -> None:
    network = tiny_classifier(shape=tiny_shape(family), network=MODEL, adapters=LAST).to_compute(compute.dtype)
    encoder, rows = network.encoder, np.array([40, 3, 17])
    with frozen_prefix(network, [(TRAIN.tokens, 2), (VALIDATION.tokens, 9)], compute) as caches:
        for cache, data in zip(caches, (TRAIN, VALIDATION), strict=True):
            input_ids, mask = pad_batch(data.tokens, rows, encoder.shape.pad_id, encoder.shape.max_tokens)
            expected = encoder.run(encoder.embed(input_ids), mask, range(2))
            assert cache is not None and cache.first_layer == 2
            found = cache.batch(rows, mask.shape[1])
            assert found.dtype == expected.dtype == compute.dtype and found.shape == expected.shape
            tolerance = 1e-5 if compute is CPU else 0.05
            torch.testing.assert_close(found[mask == 1], expected[mask == 1], atol=tolerance, rtol=0)
            assert not found[mask == 0].any()


def test_frozen_layers_run_once_a_row(layer_runs: list[LayerNorm], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix, "EVALUATION_ROWS", len(DATA))
    network, result = run()
    runs = [layer_runs.count(norm) for norm in last_norms(network)]
    evaluations = len(values(result, "validation_loss"))
    assert runs == [2, 2, result.steps + evaluations]  # one batch of each split


def test_a_split_that_passes_once_is_computed_then(layer_runs: list[LayerNorm]) -> None:
    network, result = run(epochs=1)
    runs = [layer_runs.count(norm) for norm in last_norms(network)]
    evaluations = len(values(result, "validation_loss"))
    assert evaluations == 4 and runs == [result.steps + 1] * 2 + [result.steps + evaluations]


def test_no_split_passes_twice(files: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    run(epochs=1, validation=NOTHING)
    assert files == [] and "off, no row is computed twice" in capsys.readouterr().err


def test_without_validation_rows() -> None:
    assert_same(run(validation=NOTHING), run(OFF, validation=NOTHING))


def test_the_size_is_printed_and_the_limit_holds(files: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    needed = int(TRAIN.tokens.lengths.sum() + VALIDATION.tokens.lengths.sum()) * 32 * 4
    run(needed)
    shown = f"{needed / 1e6:,.1f} MB"
    assert f"prefix cache: {shown} of temporary file" in capsys.readouterr().err
    run(needed - 1)
    assert f"prefix cache: off, {shown} are needed, more than " in capsys.readouterr().err
    assert len(files) == 1


def test_a_disk_without_room_turns_it_off(
    files: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("usage", (), {"free": 2000}))
    run()
    assert files == [] and "has 0.0 free" in capsys.readouterr().err


def test_dropout_turns_it_off_and_changes_nothing(files: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    model = replace(MODEL, dropout=0.1)
    network, result = run(model=model)
    assert "prefix cache: off, model.dropout is 0.1" in capsys.readouterr().err
    other, expected = run(OFF, model=model)
    assert files == [] and values(result, "train_loss") == values(expected, "train_loss")
    assert all(torch.equal(p, other.trainable()[name]) for name, p in network.trainable().items())


@pytest.mark.parametrize("layers", ["all", (0, 2), (0,)])
def test_adapters_in_the_lowest_layer_leave_nothing_to_keep(
    layers: Any, files: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run(lora=replace(LAST, layers=layers))
    assert files == [] and "prefix cache" not in capsys.readouterr().err


def test_the_file_is_gone_after_an_error(files: list[Any]) -> None:
    with pytest.raises(TrainingError, match="not finite"):
        run(learning_rate=1e38)
    assert len(files) == 1


def test_a_file_that_cannot_be_written_is_an_error_with_its_fix(files: list[Any], monkeypatch: Any) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("submillion.runtime.prefix.evaluation_batches", full)
    with pytest.raises(TrainingError, match=r"(?s)No space left.*set TMPDIR to a folder"):
        run()
    assert len(files) == 1


def test_other_rows_are_computed_from_their_tokens(layer_runs: list[LayerNorm]) -> None:
    network, _ = run()
    layer_runs.clear()
    found = compute_logits(network, TASK, DATA.tokens, len(DATA), CPU)
    assert layer_runs == last_norms(network)
    np.testing.assert_allclose(found, compute_logits(run(OFF)[0], TASK, DATA.tokens, 32, CPU), atol=1e-4)
