"""When a trained model predicts in int8, and that no label changes by it."""

import numpy as np
import pytest
import torch
from tiny import learnable_rows, some_of, tiny_classifier

from submillion.config import LoraConfig
from submillion.model import kernels
from submillion.training import int8
from submillion.training.device import Compute
from submillion.training.int8 import try_int8
from submillion.training.loop import compute_logits

BF16 = Compute(torch.device("cpu"), torch.bfloat16, "for tests")
ROWS = learnable_rows()
MEASURED, OTHERS = some_of(ROWS, range(64)).tokens, some_of(ROWS, range(64, len(ROWS))).tokens


@pytest.fixture(autouse=True)
def _faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """On every processor: where the kernel is not to be had, torch's operations compute the same."""
    monkeypatch.setattr(Compute, "has_int8", True)
    monkeypatch.setattr(int8, "MOST_AGAIN", 1.0)  # the logits of random weights are close together


def test_the_margin_is_the_largest_change_and_the_labels_hold() -> None:
    network = tiny_classifier(lora=LoraConfig(rank=4)).to_compute(torch.bfloat16)
    exact = compute_logits(network, MEASURED, 16, BF16)
    found = try_int8(network, MEASURED, 16, BF16)
    assert network.int8_margin == found["margin"] > 0 and 0 < found["again"] < 1
    network.use_int8(0.0)
    change = compute_logits(network, MEASURED, 16, BF16) - exact
    assert found["margin"] == pytest.approx(max(row.max() - row.min() for row in change))
    network.use_int8(found["margin"])
    assert np.array_equal(compute_logits(network, MEASURED, 16, BF16).argmax(1), exact.argmax(1))
    in_int8 = compute_logits(network, OTHERS, 16, BF16)
    network.use_int8(None)
    in_bf16 = compute_logits(network, OTHERS, 16, BF16)
    assert not np.array_equal(in_int8, in_bf16) and np.mean(in_int8.argmax(1) == in_bf16.argmax(1)) > 0.99


def test_it_stays_off_where_too_many_rows_would_be_computed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "MOST_AGAIN", -1.0)
    network = tiny_classifier().to_compute(torch.bfloat16)
    assert try_int8(network, MEASURED, 16, BF16) == {} and network.int8_margin is None


def test_it_stays_off_where_nothing_is_gained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Compute, "has_int8", False)
    network = tiny_classifier().to_compute(torch.bfloat16)
    assert try_int8(network, MEASURED, 16, BF16) == {} and network.int8_margin is None


def test_many_rows_are_measured_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "ROWS", 5)
    some = MEASURED.take(np.array([0, 16, 32, 47, 63]))
    margins = [
        try_int8(tiny_classifier().to_compute(torch.bfloat16), tokens, 16, BF16).get("margin")
        for tokens in (MEASURED, some)
    ]
    assert margins[0] == margins[1] is not None


def test_it_is_for_bf16_on_a_cpu_with_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert Compute(torch.device("cpu"), torch.float32, "").has_int8 is False
    assert Compute(torch.device("cuda"), torch.bfloat16, "").has_int8 is False
    assert BF16.has_int8 == kernels.multiplies_int8()
    monkeypatch.setattr(kernels, "built", lambda: kernels.Built({}, "none"))
    assert BF16.has_int8 is False
