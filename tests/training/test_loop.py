"""The loop: it learns what can be learned and nothing else, repeats bit for bit, and keeps the best parameters."""

import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.utils.class_weight import compute_class_weight
from tiny import (
    CPU,
    HELD_OUT,
    TASK,
    as_tokens,
    difference,
    interrupt_at_step,
    learnable_rows,
    scatter,
    some_of,
    tiny_classifier,
    tiny_shape,
)
from torch import Tensor
from torch.nn import functional as F

from submillion.config.schema import TrainConfig
from submillion.errors import TrainingError
from submillion.model.classifier import TextClassifier
from submillion.model.lora import LinearAdapter, PretrainedLinear
from submillion.model.spec import AdapterSpec, NetworkSpec
from submillion.runtime import prefix
from submillion.runtime.batches import Batch, pad_batch
from submillion.runtime.device import Compute
from submillion.runtime.forward import compute_logits, compute_pooled
from submillion.runtime.progress import Advance
from submillion.text.tokenizer import Tokens
from submillion.training import loop, step
from submillion.training.dropout import Dropout
from submillion.training.loop import FitResult, fit
from submillion.training.rows import TokenRows
from submillion.training.state import WEIGHT_DECAY

DATA = learnable_rows()
TRAIN = some_of(DATA, range(HELD_OUT, len(DATA)))
VALIDATION = some_of(DATA, range(HELD_OUT))
NOTHING = some_of(DATA, [])
CONFIG = TrainConfig(batch_size=32, learning_rate=1e-2, epochs=5, precision="fp32")
MODEL = NetworkSpec(dropout=0.05)
LORA = AdapterSpec(rank=4, alpha=8.0, targets=("all-linear",))
NO_DROPOUT = {"model": NetworkSpec(dropout=0.0), "lora": replace(LORA, dropout=0.0)}
BF16 = Compute(torch.device("cpu"), torch.bfloat16, "for tests")


def run(
    train: TokenRows = TRAIN,
    validation: TokenRows = VALIDATION,
    seed: int = 0,
    compute: Compute = CPU,
    model: NetworkSpec = MODEL,
    lora: AdapterSpec = LORA,
    views: Callable[[int], Tokens] | None = None,
    adapter_scale: float = 1.0,
    **changes: Any,
) -> tuple[TextClassifier, FitResult]:
    network, config = (
        tiny_classifier(network=model, adapters=lora).to_compute(compute.dtype),
        replace(CONFIG, **changes),
    )
    result = fit(network, TASK, train, validation, config, seed, compute, views=views, adapter_scale=adapter_scale)
    return network, result


def accuracy(network: TextClassifier, rows: TokenRows) -> float:
    return float((compute_logits(network, TASK, rows.tokens, 64, CPU).argmax(axis=1) == rows.targets).mean())


def moved(network: TextClassifier) -> float:
    """How far the parameters are from where they began."""
    return difference(network, tiny_classifier(adapters=LORA))


@pytest.fixture(scope="module")
def learned() -> tuple[TextClassifier, FitResult]:
    return run()


def test_it_learns_a_task_that_can_be_learned(learned: tuple[TextClassifier, FitResult]) -> None:
    assert accuracy(learned[0], VALIDATION) > 0.95


def test_it_learns_nothing_from_shuffled_labels() -> None:
    data = learnable_rows(shuffle_labels=True)
    network, _ = run(some_of(data, range(HELD_OUT, len(data))), some_of(data, range(HELD_OUT)))
    assert accuracy(network, VALIDATION) < 0.6


@pytest.mark.parametrize(
    "model", [replace(MODEL, head="linear"), replace(MODEL, pooling="mean")], ids=["linear", "mean"]
)
def test_every_head_and_pooling_learns(model: NetworkSpec) -> None:
    assert accuracy(run(model=model)[0], VALIDATION) > 0.9


def test_opened_layers_learn_without_adapters() -> None:
    opened = replace(MODEL, unfreeze_layers=2)
    network, _ = run(model=opened, lora=AdapterSpec(rank=0))
    assert accuracy(network, VALIDATION) > 0.8
    assert any(name.endswith("output.weight") for name in network.trainable())


def test_bf16_arithmetic_learns_too() -> None:
    network, _ = run(compute=BF16)
    found = compute_logits(network, TASK, VALIDATION.tokens, 64, BF16).argmax(axis=1)
    assert (found == VALIDATION.targets).mean() > 0.9
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_the_same_seed_repeats_bit_for_bit(learned: tuple[TextClassifier, FitResult]) -> None:
    torch.manual_seed(123)  # what else draws from torch does not matter
    network, result = run()
    assert difference(network, learned[0]) == 0.0

    def untimed(history: list[dict]) -> list[dict]:
        return [{key: value for key, value in record.items() if key != "rows_per_second"} for record in history]

    assert untimed(result.history) == untimed(learned[1].history)


def test_another_seed_differs(learned: tuple[TextClassifier, FitResult]) -> None:
    assert difference(run(seed=1)[0], learned[0]) > 1e-3


def test_training_leaves_torch_s_global_generator_alone() -> None:
    network = tiny_classifier(adapters=LORA)
    before = torch.get_rng_state()
    fit(network, TASK, some_of(TRAIN, range(40)), VALIDATION, replace(CONFIG, epochs=1), 0, CPU)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("lora", [LORA, AdapterSpec(rank=0)], ids=["adapters", "head alone"])
def test_frozen_tensors_stay_bit_for_bit(lora: AdapterSpec) -> None:
    network, _ = run(lora=lora, epochs=1)
    before = dict(tiny_classifier(adapters=lora).named_buffers())
    assert before and all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())


# 316 = 9 x 32 + 28: the last step is short, and its parts are unequal.
EQUAL = TokenRows(
    as_tokens([[2, *row, 3] for row in np.random.default_rng(0).integers(10, 40, size=(316, 6)).tolist()]),
    np.random.default_rng(1).choice(3, size=316, p=[0.6, 0.3, 0.1]),
)


def in_order(lengths: np.ndarray, batch_size: int, _: object) -> list[np.ndarray]:
    return [np.arange(len(lengths))[at : at + batch_size] for at in range(0, len(lengths), batch_size)]


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_a_batch_in_parts_gives_the_step_of_the_whole_batch(
    class_weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("submillion.training.loop.training_batches", in_order)
    common: dict[str, Any] = {"epochs": 1, "learning_rate": 1e-3, "class_weights": class_weights} | NO_DROPOUT
    whole, one = run(EQUAL, NOTHING, **common)
    monkeypatch.setattr(step, "CPU_TOKENS", 11 * 8)  # eleven rows
    parts, two = run(EQUAL, NOTHING, **common)
    assert one.steps == two.steps == 10 and moved(whole) > 1e-3
    for a, b in zip(whole.trainable().values(), parts.trainable().values(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-6, rtol=0)
    losses = [[record["train_loss"] for record in result.history] for result in (one, two)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def gradients(
    train: TokenRows, monkeypatch: pytest.MonkeyPatch, limit: float = math.inf, **changes: Any
) -> tuple[TextClassifier, list[Tensor]]:
    """Returns the untrained network and the gradients of the first step, clipped to the limit."""
    seen: list[Tensor] = []

    def stop(optimizer: torch.optim.Optimizer, *_: object, **__: object) -> None:
        if not seen:
            seen.extend(p.grad.clone() for p in network.trainable().values())  # type: ignore[union-attr]

    monkeypatch.setattr(torch.optim.AdamW, "step", stop)
    monkeypatch.setattr("submillion.training.loop.training_batches", in_order)
    monkeypatch.setattr(step, "MAX_GRAD_NORM", limit)
    network = tiny_classifier(network=NO_DROPOUT["model"], adapters=NO_DROPOUT["lora"])  # type: ignore[arg-type]
    config = replace(CONFIG, epochs=1, batch_size=len(train))
    fit(network, TASK, train, NOTHING, replace(config, **changes), 0, CPU)
    return network, seen


@pytest.mark.parametrize("balanced", [False, True])
def test_the_gradient_is_that_of_the_written_out_loss(balanced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = some_of(EQUAL, range(50))
    first = 20  # rows of the first batch: their weights do not sum to their number
    class_weights = "balanced" if balanced else "none"
    network, seen = gradients(rows, monkeypatch, batch_size=first, class_weights=class_weights)
    labels = torch.from_numpy(rows.targets[:first])
    losses = F.cross_entropy(network(*pad_batch(rows.tokens, np.arange(first), 0, 48)), labels, reduction="none")
    weights = torch.ones(3)
    if balanced:
        weights = torch.from_numpy(compute_class_weight("balanced", classes=np.arange(3), y=rows.targets)).float()
    network.zero_grad()
    ((losses * weights[labels]).sum() / weights[labels].sum()).backward()
    assert not balanced or abs(weights[labels].sum() - first) > 1
    for parameter, gradient in zip(network.trainable().values(), seen, strict=True):
        torch.testing.assert_close(gradient, parameter.grad, atol=1e-6, rtol=1e-4)


def test_a_label_without_rows_has_no_weight_and_breaks_nothing() -> None:
    rows = TokenRows(EQUAL.tokens, EQUAL.targets % 2)
    _, result = run(rows, NOTHING, epochs=1, class_weights="balanced")
    assert math.isfinite(result.history[-1]["train_loss"])


@pytest.mark.parametrize(("limit", "clips"), [(0.01, True), (1e6, False)])
def test_gradients_are_clipped_to_the_norm(limit: float, clips: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    _, seen = gradients(TRAIN, monkeypatch, limit)
    norm = torch.stack([gradient.norm() for gradient in seen]).norm().item()
    assert norm == pytest.approx(0.01, rel=1e-3) if clips else norm > 0.05


def test_matrices_decay_and_biases_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[dict] = []
    original = torch.optim.AdamW.__init__

    def record(self: Any, params: Any, **kwargs: Any) -> None:
        groups.extend(params)
        original(self, params, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "__init__", record)
    network, _ = run(some_of(TRAIN, range(32)), NOTHING, epochs=1)
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert {name: decays[id(p)] for name, p in network.trainable().items()} == {
        name: 0.0 if name.endswith("bias") else WEIGHT_DECAY for name in network.trainable()
    }


def test_the_best_parameters_are_restored() -> None:
    data = learnable_rows(rows=96, shuffle_labels=True)  # noise: the validation loss rises soon
    validation = some_of(data, range(32))
    network, result = run(some_of(data, range(32, 96)), validation, epochs=12)
    losses = {record["step"]: record["validation_loss"] for record in result.history if "validation_loss" in record}
    assert losses[result.best_step] == min(losses.values()) < losses[result.steps]
    logits = torch.from_numpy(compute_logits(network, TASK, validation.tokens, 64, CPU))
    loss = F.cross_entropy(logits, torch.from_numpy(validation.targets)).item()
    assert loss == pytest.approx(min(losses.values()), abs=1e-6)


def test_the_adapters_are_scaled_at_the_end_and_nothing_else() -> None:
    plain, first = run(epochs=2)
    scaled, second = run(epochs=2, adapter_scale=0.5)
    assert second.best_step == first.best_step
    for name, parameter in scaled.trainable().items():
        assert torch.equal(parameter, plain.trainable()[name] * (0.5 if "lora_B" in name else 1.0)), name


def test_under_noise_a_step_s_loss_is_of_both_looks_and_of_how_far_they_are_apart() -> None:
    rows, noisy = some_of(TRAIN, range(24)), some_of(TRAIN, range(24, 48)).tokens
    network, _ = run(epochs=2, **NO_DROPOUT)
    targets = torch.from_numpy(rows.targets)
    p, q = (
        torch.from_numpy(compute_logits(network, TASK, tokens, 64, CPU)).log_softmax(dim=1)
        for tokens in (rows.tokens, noisy)
    )
    apart = sum(F.kl_div(a, b, reduction="batchmean", log_target=True) for a, b in ((p, q), (q, p))) / 2
    expected = (F.nll_loss(p, targets) + F.nll_loss(q, targets)) / 2 + apart
    assert apart > 0.01
    result = fit(network, TASK, rows, NOTHING, replace(CONFIG, epochs=1), 0, CPU, views=lambda epoch: noisy)
    assert result.history[0]["train_loss"] == pytest.approx(float(expected), rel=1e-5)


def test_the_head_s_time_is_not_the_training_bar_s(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    @contextmanager
    def progress(title: str, *_: Any) -> Iterator[Advance]:
        events.append(title)
        yield lambda *_: None
        events.append(f"{title} ends")

    monkeypatch.setattr(loop, "progress", progress)
    run(epochs=1, few_labels=True)
    assert events[:3] == ["head", "head ends", "training"]


def test_two_looks_are_held_in_the_memory_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    original = step.pooled_states

    def pooled(model: TextClassifier, batch: Batch, *rest: Any) -> Tensor:
        passes.append(batch.attention_mask.numel() if torch.is_grad_enabled() else 0)
        return original(model, batch, *rest)

    monkeypatch.setattr(step, "pooled_states", pooled)
    monkeypatch.setattr(step, "CPU_TOKENS", 100)
    _, whole = run(epochs=1, **NO_DROPOUT)
    one_look = list(passes)
    passes.clear()
    _, parts = run(epochs=1, views=lambda _: TRAIN.tokens, **NO_DROPOUT)
    assert 50 < max(one_look) < 120 and max(passes) < 120, "and not 200"
    for one, two in zip(whole.history, parts.history, strict=True):  # equal looks are one look, in more parts
        assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-5)


def test_two_looks_at_the_same_rows_pull_the_answers_under_dropout_together() -> None:
    model = replace(MODEL, dropout=0.3)

    def apart(views: Callable[[int], Tokens] | None) -> float:
        network, _ = run(model=model, epochs=2, views=views)
        logits = [network(*pad_batch(VALIDATION.tokens, np.arange(64), 0, 64), Dropout(seed)) for seed in range(8)]
        return torch.stack(logits).softmax(dim=-1).var(dim=0).mean().item()

    assert apart(lambda _: TRAIN.tokens) < 0.8 * apart(None)


def test_an_interrupt_keeps_the_best_parameters_so_far(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt_at_step(40, monkeypatch)
    network, result = run(epochs=5)
    losses = {record["step"]: record["validation_loss"] for record in result.history if "validation_loss" in record}
    assert (result.steps, result.planned_steps, result.best_step) == (39, 80, min(losses, key=losses.__getitem__))
    assert result.interrupted and not run(epochs=1)[1].interrupted
    assert f"interrupted: keeping step {result.best_step}" in capsys.readouterr().err
    logits = torch.from_numpy(compute_logits(network, TASK, VALIDATION.tokens, 64, CPU))
    loss = F.cross_entropy(logits, torch.from_numpy(VALIDATION.targets)).item()
    assert loss == pytest.approx(min(losses.values()), abs=1e-6)


def test_an_interrupt_while_an_evaluation_merges_leaves_the_best_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    merged, calls = PretrainedLinear.merged, 0

    def interrupted(linear: PretrainedLinear, adapter: LinearAdapter | None) -> PretrainedLinear:
        nonlocal calls
        calls += 1
        if calls == 15:  # in the second evaluation: there are twelve to merge
            raise KeyboardInterrupt
        return merged(linear, adapter)

    monkeypatch.setattr(PretrainedLinear, "merged", interrupted)
    network, result = run(epochs=5)
    assert result.interrupted and (result.best_step, result.steps) == (16, 32) and not network.is_merged
    monkeypatch.undo()
    logits = torch.from_numpy(compute_logits(network, TASK, VALIDATION.tokens, 64, CPU))
    loss = F.cross_entropy(logits, torch.from_numpy(VALIDATION.targets)).item()
    losses = [record["validation_loss"] for record in result.history if "validation_loss" in record]
    assert losses == [pytest.approx(loss, abs=1e-6)]


@pytest.mark.parametrize(("step", "validation"), [(3, VALIDATION), (9, NOTHING)])
def test_an_interrupt_with_nothing_to_keep_is_one(
    step: int, validation: TokenRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at_step(step, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(validation=validation)


def test_without_validation_rows_the_last_parameters_are_kept() -> None:
    network, result = run(validation=NOTHING, epochs=3)
    assert result.best_step == result.steps == 48
    assert not any("validation_loss" in record for record in result.history)
    assert accuracy(network, VALIDATION) > 0.85


@pytest.mark.parametrize(("rows", "steps"), [(65, 6), (64, 4), (5, 2)])
def test_steps_are_counted_with_ragged_ends(rows: int, steps: int) -> None:
    _, result = run(some_of(TRAIN, range(rows)), epochs=2)
    assert result.steps == steps and result.history[-1]["step"] == steps and result.history[-1]["epoch"] == 2.0


def test_history_has_a_record_a_logged_step_with_these_keys(learned: tuple[TextClassifier, FitResult]) -> None:
    history = learned[1].history
    always = ["step", "epoch", "learning_rate", "train_loss", "train_accuracy", "grad_norm", "rows_per_second"]
    evaluated = [record for record in history if "validation_loss" in record]
    assert all(list(record)[:7] == always for record in history)
    assert all(list(record)[7:] == ["validation_loss", "validation_accuracy"] for record in evaluated)
    assert [record["step"] for record in evaluated] == [16, 32, 48, 64, 80]
    assert [record["epoch"] for record in evaluated] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert all(a["step"] < b["step"] for a, b in pairwise(history))
    assert history[-1]["train_loss"] < history[0]["train_loss"] and history[-1]["train_accuracy"] > 0.9
    assert all(type(value) in (int, float) for record in history for value in record.values())


@pytest.mark.parametrize(("epochs", "steps"), [(1, [2, 4, 6, 8]), (3, [6, 12, 18, 24]), (5, [8, 16, 24, 32, 40])])
def test_a_run_evaluates_after_each_epoch_and_four_times_at_least(epochs: int, steps: list[int]) -> None:
    _, result = run(some_of(TRAIN, range(256)), epochs=epochs)
    assert [record["step"] for record in result.history if "validation_loss" in record] == steps


def test_the_epochs_of_a_call_go_before_those_of_the_configuration() -> None:
    network, rows, records = tiny_classifier(), some_of(TRAIN, range(64)), list[Mapping[str, float]]()
    result = fit(network, TASK, rows, NOTHING, CONFIG, 0, CPU, on_record=records.append, epochs=3)
    assert result.planned_steps == result.steps == 6 and records == result.history


def test_the_learning_rate_in_the_history_follows_the_schedule() -> None:
    rows = some_of(TRAIN, range(256))
    _, result = run(rows, NOTHING, epochs=1, learning_rate=0.007)
    rates = [record["learning_rate"] for record in result.history]
    assert rates == pytest.approx([0.0035, 0.007, 0.006, 0.005, 0.004, 0.003, 0.002, 0.001])


def test_a_loss_that_is_not_finite_names_its_rows() -> None:
    network = tiny_classifier(adapters=LORA)
    network.encoder.word_embeddings[60] = math.nan
    rows = as_tokens([[2, 60 if index in (3, 17) else 20, 3] for index in range(20)])
    train = TokenRows(rows, np.arange(20) % 3)
    with pytest.raises(TrainingError) as caught:
        fit(network, TASK, train, NOTHING, CONFIG, 0, CPU)
    assert "step 1" in str(caught.value) and ("[3, 17]" in str(caught.value) or "[17, 3]" in str(caught.value))


def test_parameters_that_the_last_step_broke_are_an_error() -> None:
    with pytest.raises(TrainingError):
        run(some_of(TRAIN, range(32)), epochs=1, learning_rate=1e38)


@pytest.mark.parametrize("validation", [VALIDATION, NOTHING], ids=["validation", "none"])
def test_parameters_too_large_for_a_number_are_an_error(validation: TokenRows) -> None:
    """Finite themselves, as is every loss so far: it is the logits of what would be saved that are no numbers."""
    with pytest.raises(TrainingError, match=r"not finite after"):
        run(some_of(TRAIN, range(16)), validation, epochs=1, learning_rate=1e30)


def test_a_merged_model_is_not_trained_without_its_adapters() -> None:
    network = tiny_classifier(adapters=LORA)
    scatter([p for name, p in network.named_parameters() if "lora_B" in name])
    before = network.snapshot()
    with pytest.raises(ValueError, match="found a merged one"):
        fit(network.merged(), TASK, some_of(TRAIN, range(64)), NOTHING, replace(CONFIG, epochs=1), 0, CPU)
    assert all(torch.equal(p, before[name]) for name, p in network.trainable().items())


def test_the_speed_counts_the_rows_that_were_trained_on() -> None:
    data = learnable_rows(rows=99, shuffle_labels=True)
    # Two readings a step, a second apart; three before the first, from before what frozen layers compute once.
    clock = iter(range(10_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("submillion.training.loop.time.perf_counter", lambda: float(next(clock)))
        _, result = run(some_of(data, range(33)), NOTHING, epochs=2)
    assert result.steps == 4 and result.rows_per_second == pytest.approx(66 / 6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("submillion.training.loop.time.perf_counter", lambda: float(next(clock)))
        interrupt_at_step(5, patch)
        _, stopped = run(some_of(data, range(33)), VALIDATION, epochs=9)
    assert stopped.steps == 4 and stopped.rows_per_second == pytest.approx(66 / 6)


def test_logits_are_in_the_order_of_the_rows_whatever_the_batch(learned: tuple[TextClassifier, FitResult]) -> None:
    alone = compute_logits(learned[0], TASK, VALIDATION.tokens, 1, CPU)
    done: list[int] = []
    together = compute_logits(learned[0], TASK, VALIDATION.tokens, 50, CPU, lambda rows, note="": done.append(rows))
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert together.dtype == np.float32 and done == [50, 14]


def test_no_rows_have_no_logits() -> None:
    assert compute_logits(tiny_classifier(), TASK, NOTHING.tokens, 8, CPU).shape == (0, 3)
    assert compute_logits(tiny_classifier(network=NetworkSpec(window=5)), TASK, NOTHING.tokens, 8, CPU).shape == (0, 3)


def test_the_logits_of_a_longer_row_are_the_mean_of_its_windows() -> None:
    network = tiny_classifier(network=NetworkSpec(pooling="mean", window=9), adapters=LORA)
    scatter(list(network.parameters()))
    rows = [[1, *range(5, 5 + length), 2] for length in (3, 16, 7, 8, 0)]
    done: list[int] = []
    found = compute_logits(network, TASK, as_tokens(rows), 2, CPU, lambda rows, note="": done.append(rows))
    network.window = 0
    parts = [[1, *range(5, 5 + 6), 2], [1, *range(11, 11 + 5), 2], [1, *range(16, 16 + 5), 2]]
    parts += [[1, *range(5, 5 + 4), 2], [1, *range(9, 9 + 4), 2]]
    whole, means = (compute_logits(network, TASK, as_tokens(of), 64, CPU) for of in (rows, parts))
    expected = whole.copy()
    expected[1], expected[3] = means[:3].mean(axis=0), means[3:].mean(axis=0)
    assert np.abs(found - expected).max() < 1e-5 and np.abs(whole - expected).max() > 1e-2
    assert sum(done) == len(rows)


def test_what_chooses_the_best_step_is_computed_in_windows_too() -> None:
    model = NetworkSpec(dropout=0.0, pooling="mean", window=6)
    network, result = run(model=model, epochs=1)
    in_windows = torch.from_numpy(compute_logits(network, TASK, VALIDATION.tokens, 64, CPU))
    network.window = 0
    whole = torch.from_numpy(compute_logits(network, TASK, VALIDATION.tokens, 64, CPU))
    labels = torch.from_numpy(VALIDATION.targets)
    losses = [record["validation_loss"] for record in result.history if "validation_loss" in record]
    assert min(losses) == pytest.approx(F.cross_entropy(in_windows, labels).item(), abs=1e-6)
    assert F.cross_entropy(whole, labels).item() != pytest.approx(F.cross_entropy(in_windows, labels).item(), abs=1e-4)


def test_rows_close_between_two_labels_are_computed_again_without_int8() -> None:
    network = tiny_classifier(adapters=LORA).to_compute(torch.bfloat16)
    found = []
    for margin in (None, 0.0, 1e9):
        network.use_int8(margin)
        found.append(compute_logits(network, TASK, VALIDATION.tokens, 16, BF16))
        assert network.int8_margin == margin
    exact, rounded, all_again = found
    assert np.array_equal(all_again, exact) and not np.any(np.all(rounded == exact, axis=1))
    network.use_int8(float(np.median(TASK.margins(rounded))))
    some_again = compute_logits(network, TASK, VALIDATION.tokens, 16, BF16)
    close = TASK.margins(rounded) < np.median(TASK.margins(rounded))
    assert 0 < close.sum() < len(close) and np.array_equal(some_again[~close], rounded[~close])
    np.testing.assert_allclose(some_again[close], exact[close], atol=0.02)  # in other batches, other rounding


def test_threads_that_compute_rows_again_leave_each_other_alone() -> None:
    network = tiny_classifier(adapters=LORA).to_compute(torch.bfloat16).merged()
    network.use_int8(1e9)
    exact = compute_logits(network, TASK, VALIDATION.tokens, 16, BF16)
    network.use_int8(float(np.median(TASK.margins(exact))))
    alone = compute_logits(network, TASK, VALIDATION.tokens, 16, BF16)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: compute_logits(network, TASK, VALIDATION.tokens, 16, BF16), range(24)))
    assert all(np.array_equal(logits, alone) for logits in found)


@pytest.mark.parametrize("layers", ["all", (2,)], ids=["no prefix", "prefix"])
def test_the_head_is_fitted_first_as_scikit_learn_would(layers: Any) -> None:
    """With a learning rate of next to nothing, what remains is the head: logistic regression, C = 1."""
    model, lora = replace(MODEL, head="linear", dropout=0.0, pooling="mean"), replace(LORA, dropout=0.0, layers=layers)
    network, _ = run(validation=NOTHING, model=model, lora=lora, learning_rate=1e-12, epochs=2, few_labels=True)
    # In fp64: given fp32, scikit-learn computes in fp32 and stops where rounding says so.
    features = compute_pooled(tiny_classifier(network=model, adapters=lora), TRAIN.tokens, 64, CPU).astype(np.float64)
    oracle = LogisticRegression(C=1.0, tol=1e-8, max_iter=2000).fit(features, TRAIN.targets)
    expected = oracle.predict_proba(features)
    found = torch.from_numpy(compute_logits(network, TASK, TRAIN.tokens, 64, CPU)).softmax(dim=1)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("head", ["linear", "stock"])
def test_a_head_fitted_first_begins_with_a_lower_loss(head: Any) -> None:
    model = replace(MODEL, head=head, dropout=0.0)
    losses = [run(model=model, epochs=1, few_labels=first)[1].history[0]["train_loss"] for first in (False, True)]
    assert losses[1] < 0.7 * losses[0]


def test_the_penalty_of_a_head_with_a_norm_does_not_grow_in_its_scale() -> None:
    """Logits are the norm's scale times out_proj's weight: held down alike, the two end alike."""
    model = replace(MODEL, head="stock", dropout=0.0)
    network = tiny_classifier(shape=tiny_shape("modernbert"), network=model, adapters=LORA)
    fit(network, TASK, TRAIN, NOTHING, replace(CONFIG, learning_rate=1e-12, epochs=1, few_labels=True), 0, CPU)
    scale, weight = network.head.norm.weight, network.head.out_proj.weight  # type: ignore[union-attr]
    assert scale.norm().item() == pytest.approx(weight.norm().item(), rel=0.1)


def test_views_are_asked_for_epoch_by_epoch_and_learned_from() -> None:
    unlike = TokenRows(as_tokens([[2, 5, 3]] * len(TRAIN)), TRAIN.targets)  # nothing can be learned from these
    seen: list[int] = []

    def views(epoch: int) -> Tokens:
        seen.append(epoch)
        return TRAIN.tokens

    network, _ = run(unlike, views=views)
    assert seen == list(range(CONFIG.epochs))
    assert accuracy(network, VALIDATION) > 0.9


def test_views_are_not_read_from_the_prefix_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    last: dict[str, Any] = {"model": NetworkSpec(dropout=0.0), "lora": replace(LORA, dropout=0.0, layers=(1,))}
    noisy = some_of(TRAIN, np.roll(range(len(TRAIN)), 1).tolist()).tokens
    cached, _ = run(views=lambda _: noisy, epochs=2, **last)
    monkeypatch.setattr(prefix, "MOST_BYTES", 0)
    plain, _ = run(views=lambda _: noisy, epochs=2, **last)
    assert difference(cached, plain) < 1e-3  # the validation rows are cached: which step is best may round
