"""The training loop: set up, steps, evaluations, keep the best."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from submillion.config.schema import TrainConfig
from submillion.model.classifier import TextClassifier
from submillion.process.threads import sized_for
from submillion.runtime.batches import EVALUATION_ROWS, training_batches
from submillion.runtime.device import Compute
from submillion.runtime.distributed import ALONE, World
from submillion.runtime.forward import compute_logits, compute_pooled, tokens_at_once
from submillion.runtime.prefix import Prefix, frozen_prefix
from submillion.runtime.progress import is_quiet, progress
from submillion.tasks.task import Task
from submillion.text.tokenizer import Tokens
from submillion.training.objective import Objective, fitted_head, not_finite
from submillion.training.rows import TokenRows
from submillion.training.schedule import evaluates_after, evaluations, learning_rate_factor
from submillion.training.state import TrainState, Window, trained_by_steps
from submillion.training.step import Step

LOGGED_STEPS = 200  # of a run, about
Record = Callable[[Mapping[str, float]], None]  # gets each line of the history


@dataclass(frozen=True)
class FitResult:
    """How training went."""

    history: list[dict]  # a record for each logged step, in order
    best_step: int  # the step whose parameters the network now has
    steps: int  # optimiser steps done
    planned_steps: int  # of the whole run; more than were done if it was interrupted
    interrupted: bool  # by Ctrl-C, and the best so far is kept
    rows_per_second: float  # of the steps alone, without evaluations, tokenization and the filling of the prefix cache


def fit(
    network: TextClassifier,
    task: Task,
    train: TokenRows,
    validation: TokenRows,
    config: TrainConfig,
    seed: int,
    compute: Compute,
    world: World = ALONE,
    on_record: Record | None = None,
    views: Callable[[int], Tokens] | None = None,
    adapter_scale: float = 1.0,
    epochs: int | None = None,
) -> FitResult:
    """Trains the network in place, and leaves it with the parameters that had the lowest validation loss.

    Without validation rows, it keeps the parameters of the last step. The adapters are then multiplied by
    adapter_scale, which interpolates between the pretrained and the trained encoder: WiSE-FT (arXiv:2109.01903). Ctrl-C
    ends the training and keeps the best parameters so far, if there are any and a single process trains; otherwise it
    raises KeyboardInterrupt as usual. The network must be on compute.device, its frozen weights in compute.dtype.

    The processes of `world` draw the same batches, and each takes its share of the rows. The summed gradients are those
    of a single process to rounding, except that each process draws its own dropout masks. All processes call this with
    the same arguments and end with the same parameters.

    on_record: is called with each line of the history as soon as there is one. views: takes an epoch's number, counted
    from 0, and returns the training rows' tokens under noise; each step then computes its rows both without and with
    noise. epochs: if given, replaces config.epochs.

    Raises TrainingError, naming the rows, for a loss that is not finite, DistributedError if a process is gone, and
    ValueError for a merged network, whose adapters would get no gradient.
    """
    parameters = trained_by_steps(network)
    world.check_same(train.tokens.flat, train.targets, *(p.detach().cpu().numpy() for p in parameters))
    class_weights = task.class_weights(train.targets, config.class_weights == "balanced").to(compute.device)
    objective = Objective(task, class_weights)
    state = TrainState.begin(network, config.learning_rate, seed, world.rank)
    steps_an_epoch = -(-len(train) // config.batch_size)
    epochs = epochs or config.epochs
    total_steps = steps_an_epoch * epochs
    start = time.perf_counter()
    with ExitStack() as stack:
        stack.enter_context(sized_for(tokens_at_once(train.tokens.lengths, config.batch_size)))
        prefixes = stack.enter_context(_prefixes(network, train, validation, epochs, compute, world, views is not None))
        if config.few_labels:  # before the bar below, which counts rows per second from here on
            _fit_head(network, train, objective, compute, world, prefixes[0])
        step = Step(state, train, objective, compute, world, prefixes[0])
        stack.enter_context(step.recorded())
        advance = stack.enter_context(progress("training", len(train) * epochs, world.is_first))
        stack.enter_context(_interruptible(state, world))
        # What comes before the first step is part of the training.
        state.training_seconds = time.perf_counter() - start
        for epoch in range(epochs):
            start = time.perf_counter()
            looks = [train.tokens, views(epoch)] if views else [train.tokens]
            lengths = np.maximum.reduce([tokens.lengths for tokens in looks])
            batches = training_batches(lengths, config.batch_size, state.order)
            step.show(looks, lengths)
            for rows in batches:
                factor = learning_rate_factor(state.step, total_steps)
                grad_norm = step.take(rows, config.learning_rate * factor)
                evaluates = len(validation) > 0 and evaluates_after(state.step, total_steps, epochs)
                logs = evaluates or _logs_after(state.step, total_steps)
                step.settle(all_steps=logs)
                state.training_seconds += time.perf_counter() - start
                advance(len(rows), state.window.note)
                if logs:
                    record = _record(state, steps_an_epoch, grad_norm, world)
                    if evaluates:
                        record |= _validate(state, task, validation, compute, world, prefixes[1])
                    state.history.append(record)
                    if on_record:
                        on_record(record)
                start = time.perf_counter()
    network.restore(state.best.tensors)
    network.scale_adapters(adapter_scale)
    _check_result(network, task, train, validation, compute, world)
    best_step, rows_per_second = state.best.step or state.step, state.rows_done / state.training_seconds
    return FitResult(state.history, best_step, state.step, total_steps, state.interrupted, rows_per_second)


def _prefixes(
    network: TextClassifier,
    train: TokenRows,
    validation: TokenRows,
    epochs: int,
    compute: Compute,
    world: World,
    has_views: bool,
) -> AbstractContextManager[list[Prefix | None]]:
    """Returns the prefix caches of the training rows and of the validation rows' windows.

    A cache is None if every pass starts at the tokens. That holds for training rows under noise, which differ in each
    epoch.
    """
    windows, _ = validation.tokens.windows(network.window)
    passes = [(train.tokens, 1 if has_views else epochs), (windows, evaluations(epochs))]
    return frozen_prefix(network, passes, compute, world.is_first)


def _fit_head(
    network: TextClassifier,
    train: TokenRows,
    objective: Objective,
    compute: Compute,
    world: World,
    prefix: Prefix | None,
) -> None:
    with progress("head", len(train), world.is_first) as advance:
        pooled = compute_pooled(network, train.tokens, EVALUATION_ROWS, compute, advance, world, prefix)
    network.head.load_state_dict(fitted_head(network.head, pooled, train.targets, objective).state_dict())
    for parameter in network.head.parameters():  # different machines, or numbers of threads, may round differently
        world.from_first(parameter.data)


def _logs_after(step: int, total_steps: int) -> bool:
    return step == total_steps or step % max(1, total_steps // LOGGED_STEPS) == 0


def _record(state: TrainState, steps_an_epoch: int, grad_norm: Tensor, world: World) -> dict[str, float]:
    """Returns the line of the history for the steps since the last one, and begins a new window."""
    state.window.sum_over(world)
    window, state.window = state.window, Window(since=state.training_seconds)
    return {
        "step": state.step,
        "epoch": round(state.step / steps_an_epoch, 4),
        "learning_rate": state.optimizer.param_groups[0]["lr"],
        "train_loss": window.loss,
        "train_accuracy": window.accuracy,
        "grad_norm": float(grad_norm),
        "rows_per_second": round(window.rows / (state.training_seconds - window.since), 2),
    }


def _validate(
    state: TrainState, task: Task, validation: TokenRows, compute: Compute, world: World, prefix: Prefix | None
) -> dict[str, float]:
    """Returns loss and accuracy on the validation rows, and keeps the parameters if the loss is the lowest so far."""
    with progress("validation", len(validation), world.is_first) as advance:
        logits = compute_logits(
            state.network, task, validation.tokens, EVALUATION_ROWS, compute, advance, world, prefix
        )
    losses = task.losses(torch.from_numpy(logits), torch.from_numpy(validation.targets))
    loss = losses.mean().item()
    if not np.isfinite(loss):
        raise not_finite("the validation loss", f"after step {state.step}")
    state.best.update(state.step, loss, state.network)
    accuracy = float(task.is_right(logits, validation.targets).mean())
    return {"validation_loss": loss, "validation_accuracy": accuracy}


def _check_result(
    network: TextClassifier, task: Task, train: TokenRows, validation: TokenRows, compute: Compute, world: World
) -> None:
    """Raises TrainingError if a trained parameter, or a logit computed from it, is not finite."""
    if not all(torch.isfinite(parameter).all() for parameter in trained_by_steps(network)):
        raise not_finite("a trained parameter", "after the last step")
    if len(validation):  # their loss was finite
        return
    # Finite parameters can still be too large for finite logits.
    some = train.tokens.take(np.arange(min(len(train), EVALUATION_ROWS)))
    if not np.isfinite(compute_logits(network, task, some, EVALUATION_ROWS, compute, world=world)).all():
        raise not_finite("a logit", "after the last step")


@contextmanager
def _interruptible(state: TrainState, world: World) -> Iterator[None]:
    """Ends the block at a Ctrl-C, if there are parameters to keep and no other process waits for this one.

    Otherwise it lets KeyboardInterrupt pass.
    """
    try:
        yield
    except KeyboardInterrupt:
        if world.size > 1 or not state.best.step:
            raise
        state.interrupted = True
        if not is_quiet():
            kept = f"keeping step {state.best.step:,}, the best so far"
            print(f"\ninterrupted: {kept}; Ctrl-C again to give up", file=sys.stderr)
