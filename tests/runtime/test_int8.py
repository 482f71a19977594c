"""When a model trains and predicts in int8, that it learns by it, and that no label changes by it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import HELD_OUT, TASK, learnable_rows, some_of, tiny_classifier, tiny_shape

from submillion.config.schema import TrainConfig
from submillion.errors import ConfigError
from submillion.model.cpu import build
from submillion.model.spec import AdapterSpec, NetworkSpec
from submillion.runtime import device, int8
from submillion.runtime.device import Compute, choose_compute
from submillion.runtime.forward import compute_logits
from submillion.runtime.int8 import features_change, try_int8
from submillion.training.loop import fit

INT8 = Compute(torch.device("cpu"), torch.bfloat16, "for tests", int8=True)
BF16 = replace(INT8, int8=False)
ROWS = learnable_rows()
MEASURED, OTHERS = some_of(ROWS, range(64)).tokens, some_of(ROWS, range(64, len(ROWS))).tokens


@pytest.fixture(autouse=True)
def _close_rows_are_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "MOST_AGAIN", 1.0)  # the logits of random weights are close together


def test_the_margin_is_the_largest_change_and_the_labels_hold() -> None:
    network = tiny_classifier(adapters=AdapterSpec(rank=4)).to_compute(torch.bfloat16)
    exact = compute_logits(network, TASK, MEASURED, 16, BF16)
    trial = try_int8(network, TASK, MEASURED, 16, INT8)
    assert trial is not None
    assert network.int8_margin == trial.margin > 0 and 0 < trial.again < 1
    network.use_int8(0.0)
    change = compute_logits(network, TASK, MEASURED, 16, BF16) - exact
    assert trial.margin == pytest.approx(max(row.max() - row.min() for row in change))
    network.use_int8(trial.margin)
    assert np.array_equal(compute_logits(network, TASK, MEASURED, 16, BF16).argmax(1), exact.argmax(1))
    in_int8 = compute_logits(network, TASK, OTHERS, 16, BF16)
    network.use_int8(None)
    in_bf16 = compute_logits(network, TASK, OTHERS, 16, BF16)
    assert not np.array_equal(in_int8, in_bf16) and np.mean(in_int8.argmax(1) == in_bf16.argmax(1)) > 0.99


def test_it_stays_off_where_too_many_rows_would_be_computed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "MOST_AGAIN", -1.0)
    network = tiny_classifier().to_compute(torch.bfloat16)
    assert try_int8(network, TASK, MEASURED, 16, INT8) is None and network.int8_margin is None


def test_it_stays_off_where_training_was_without() -> None:
    network = tiny_classifier().to_compute(torch.bfloat16)
    assert try_int8(network, TASK, MEASURED, 16, BF16) is None and network.int8_margin is None


def test_many_rows_are_measured_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "ROWS", 5)
    some = MEASURED.take(np.array([0, 16, 32, 47, 63]))
    trials = [
        try_int8(tiny_classifier().to_compute(torch.bfloat16), TASK, tokens, 16, INT8) for tokens in (MEASURED, some)
    ]
    assert trials[0] == trials[1] is not None


def test_an_encoder_with_numbers_far_beyond_the_rest_is_moved_further() -> None:
    changes = []
    for outlier in (1.0, 300.0):
        network = tiny_classifier(network=NetworkSpec(pooling="mean")).to_compute(torch.bfloat16)
        for layer in network.encoder.layer_list():
            layer.norms()["attention_norm"].weight[3] *= outlier
        changes.append(features_change(network, MEASURED, 16, INT8))
        assert network.int8_margin is None
    assert 0 < changes[0] < int8.MOST_CHANGE < changes[1]


@pytest.mark.parametrize("family", ["bert", "mpnet"])
@pytest.mark.parametrize("targets", [("query", "value"), ("all-linear",)], ids=str)
def test_it_learns_in_int8_what_it_learns_in_bf16(family: str, targets: tuple[str, ...]) -> None:
    config = TrainConfig(batch_size=32, learning_rate=1e-2, epochs=5)
    train, held_out = some_of(ROWS, range(HELD_OUT, len(ROWS))), some_of(ROWS, range(HELD_OUT))
    losses = []
    for compute in (BF16, INT8):
        adapters = AdapterSpec(rank=4, alpha=8.0, dropout=0.0, targets=targets)
        network = tiny_classifier(shape=tiny_shape(family), network=NetworkSpec(dropout=0.0), adapters=adapters)
        network.to_compute(compute.dtype, compute.device, compute.int8)
        result = fit(network, TASK, train, held_out, config, 0, compute)
        labels = compute_logits(network, TASK, held_out.tokens, 32, compute).argmax(axis=1)
        assert (labels == held_out.targets).mean() > 0.9
        losses.append([record["train_loss"] for record in result.history])
    assert losses[0] != losses[1]
    np.testing.assert_allclose(losses[1][0], losses[0][0], atol=0.02)


def test_where_it_is_not_to_be_had_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_cpu_has_int8", lambda: False)
    assert choose_compute("auto").precision in ("bf16", "fp32")
    with pytest.raises(ConfigError, match="precision int8: expected"):
        choose_compute("int8")


def test_auto_takes_it_where_it_is_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_cpu_has_int8", lambda: True)
    found = {precision: choose_compute(precision) for precision in ("auto", "int8", "bf16", "fp32")}
    assert [compute.precision for compute in found.values()] == ["int8", "int8", "bf16", "fp32"]
    assert found["auto"].dtype == torch.bfloat16


def test_without_the_kernels_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "built", lambda: build.Built({}, "none"))
    assert not build.multiplies_int8()
