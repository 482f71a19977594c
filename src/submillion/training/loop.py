"""The training loop, one linear function, and the pass that computes logits."""

import copy
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from submillion.config import TrainConfig
from submillion.data.tokenizer import Tokens
from submillion.errors import TrainingError
from submillion.forks import piece_of_work
from submillion.model.classifier import TextClassifier
from submillion.model.lora import without_int8
from submillion.seeds import numpy_generator
from submillion.threads import sized_for
from submillion.training import gpu
from submillion.training.batches import (
    CPU_TOKENS,
    LENGTH_MULTIPLE,
    evaluation_batches,
    pad_batch,
    parts_of_batch,
    training_batches,
)
from submillion.training.device import Compute
from submillion.training.distributed import ALONE, World
from submillion.training.dropout import Dropout
from submillion.training.gpu import Later, graphed, to_device
from submillion.training.prefix import Prefix, frozen_prefix
from submillion.training.progress import Advance, is_quiet, progress
from submillion.training.schedule import learning_rate_factor
from submillion.training.tensorboard import Record

HEAD_ITERATIONS = 200  # of L-BFGS at most, before the first step; a linear one takes about 50


@dataclass(frozen=True)
class TokenRows:
    """Rows ready for the model."""

    tokens: Tokens
    labels: np.ndarray  # int64 [rows]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class FitResult:
    history: list[dict]  # a record a logged step, in order
    best_step: int  # the step whose parameters the model now has
    steps: int  # optimiser steps done
    planned_steps: int  # of the whole run; more than were done where it stopped early or was interrupted
    interrupted: bool  # by Ctrl-C, and the best so far kept
    rows_per_second: float  # of the steps alone, without evaluations, tokenization and the filling of the prefix cache


def fit(
    model: TextClassifier,
    train: TokenRows,
    validation: TokenRows,
    config: TrainConfig,
    seed: int,
    compute: Compute,
    world: World = ALONE,
    on_record: Record | None = None,
    views: Callable[[int], Tokens] | None = None,
) -> FitResult:
    """Trains the model's parameters in place and leaves it with the best ones: those of the lowest validation loss.

    The best adapters are then multiplied by config.adapter_scale, which interpolates between the pretrained and the
    trained encoder: WiSE-FT (arXiv:2109.01903). Without validation rows, the last step's are kept. Ctrl-C ends the
    training and keeps the best so far, where there is one and one process trains; otherwise it is a KeyboardInterrupt
    as ever. The model is on compute.device, its frozen weights in compute.dtype. Raises TrainingError, naming the rows,
    where a loss is not finite.

    The processes of `world` draw the same batches, each takes its share of their rows, and the summed gradients are one
    process's to rounding, dropout masks aside: each draws its own. All call this with the same arguments and end with
    the same parameters. Raises DistributedError where one of them is gone.

    on_record gets each line of the history as soon as there is one. views: an epoch's number, from 0, to the training
    rows' tokens in it, where they are not the same in each (augmentation). With config.consistency, each step computes
    its rows both as they are and as `views` has them.
    """
    if model.merged:
        raise ValueError("unmerge the adapters before training: merged, they get no gradient")
    order_rng = numpy_generator(seed, "order")
    dropout = Dropout(seed, world.rank)
    parameters = [*model.encoder.parameters(), *model.head.parameters()]  # n-grams are fitted afterwards, at once
    world.check_same(train.tokens.flat, train.labels, *(p.detach().cpu().numpy() for p in parameters))
    optimizer = adamw(parameters, config)
    class_weights = _class_weights(train.labels, model.head.out_proj.out_features, config)
    weights = class_weights.to(compute.device)
    batches_an_epoch = -(-len(train) // config.batch_size)
    steps_an_epoch = -(-batches_an_epoch // config.accumulation_steps)
    total_steps = steps_an_epoch * config.epochs
    eval_steps = config.eval_steps or steps_an_epoch
    evaluations = -(-total_steps // eval_steps)
    log_steps = max(1, total_steps // 200)
    history: list[dict] = []
    best = _Best(config.patience)
    window, finite = _Window(), Later(_check_finite)
    step, rows_done, training_seconds = 0, 0, 0.0

    def part_of_step(targets: Tensor, weight_of_step: Tensor, x: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Forward and back of what `_inputs` returns, a look at all rows after another. Returns each row's loss, and
        the first look's logits."""
        pooled = _pooled(model, x, attention_mask, train_prefix, dropout)
        logits = model.head(pooled, dropout).split(len(targets))
        losses = _losses(logits, targets, weights, config)
        (losses.sum() / weight_of_step).backward()
        return losses.detach(), logits[0].detach()

    start = time.perf_counter()
    windows, _ = validation.tokens.windows(model.window)
    passes = [(train.tokens, 1 if views else config.epochs), (windows, evaluations)]
    with ExitStack() as stack:
        stack.enter_context(sized_for(_tokens_at_once(train.tokens.lengths, config.batch_size)))
        # Without layers that are frozen at the bottom, or with dropout in them, both prefixes are None.
        prefixes = stack.enter_context(frozen_prefix(model, passes, config, compute, world.is_first))
        train_prefix, validation_prefix = prefixes
        if config.head_first:  # before the bar below, whose rows/s count from here on
            fit_head(model, train, weights, config, compute, world, train_prefix)
        advance = stack.enter_context(progress("training", len(train) * config.epochs, world.is_first))
        run_part = stack.enter_context(graphed(part_of_step, parameters, compute.device))
        stack.enter_context(_interruptible(best, world))
        training_seconds = time.perf_counter() - start  # what comes before the first step is part of the training
        for epoch in range(config.epochs):
            noisy = train.tokens
            if views:
                start = time.perf_counter()
                noisy = views(epoch)
                training_seconds += time.perf_counter() - start
            looks = [train.tokens, noisy] if config.consistency else [noisy]
            lengths = np.maximum.reduce([tokens.lengths for tokens in looks])
            shown = Tokens.joined(looks) if len(looks) > 1 else noisy
            batches = training_batches(lengths, config.batch_size, order_rng)
            for first in range(0, len(batches), config.accumulation_steps):
                start = time.perf_counter()
                for group in optimizer.param_groups:
                    factor = learning_rate_factor(step, total_steps, config.warmup_fraction, config.schedule)
                    group["lr"] = config.learning_rate * factor
                rows_of_step = batches[first : first + config.accumulation_steps]
                labels_of_step = torch.from_numpy(train.labels[np.concatenate(rows_of_step)])
                weight_of_step = to_device(class_weights[labels_of_step].sum(), compute.device)
                optimizer.zero_grad(set_to_none=True)
                for rows in _parts(map(world.share, rows_of_step), lengths * len(looks), compute):
                    targets = to_device(torch.from_numpy(train.labels[rows]), compute.device)
                    of_each_look = np.concatenate([rows + look * len(train) for look in range(len(looks))])
                    inputs = _inputs(model, shown, of_each_look, compute, train_prefix)
                    with piece_of_work():
                        losses, logits = run_part(targets, weight_of_step, *inputs)
                    finite.add(step, losses, rows, step)
                    window.add(logits, losses, targets)
                world.sum_gradients(parameters)
                grad_norm = torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm or float("inf"))
                finite.add(step, grad_norm, np.concatenate(rows_of_step), step)
                optimizer.step()
                step += 1
                last = step == total_steps
                evaluate = len(validation) > 0 and (step % eval_steps == 0 or last)
                log = evaluate or last or step % log_steps == 0
                finite.settle(before=step if log else step - 1)
                training_seconds += time.perf_counter() - start
                rows_done += sum(len(rows) for rows in rows_of_step)
                advance(sum(len(rows) for rows in rows_of_step), window.note)

                if log:
                    window.sum_(world)
                    record = {
                        "step": step,
                        "epoch": round(step / steps_an_epoch, 4),
                        "learning_rate": optimizer.param_groups[0]["lr"],
                        "train_loss": window.loss,
                        "train_accuracy": window.accuracy,
                        "grad_norm": float(grad_norm),
                        "rows_per_second": round(window.rows / (training_seconds - window.since), 2),
                    }
                    window = _Window(since=training_seconds)
                    if evaluate:
                        record |= _validate(
                            model, validation, config.eval_batch_size, compute, world, validation_prefix
                        )
                        if not np.isfinite(record["validation_loss"]):
                            raise TrainingError(_not_finite("the validation loss", f"after step {step}"))
                        best.update(step, record["validation_loss"], model)
                    history.append(record)
                    if on_record:
                        on_record(record)
                if best.stale:
                    break
            if best.stale:
                break

    model.unmerge()  # Ctrl-C may have come while an evaluation merged
    best.restore(model)
    model.scale_adapters(config.adapter_scale)
    if not all(torch.isfinite(parameter).all() for parameter in parameters):
        raise TrainingError(_not_finite("a trained parameter", "after the last step"))
    if not len(validation):  # whose loss would say so: finite parameters can be too large for the logits
        some = train.tokens.take(np.arange(min(len(train), config.eval_batch_size)))
        if not np.isfinite(compute_logits(model, some, config.eval_batch_size, compute, world=world)).all():
            raise TrainingError(_not_finite("a logit", "after the last step"))
    return FitResult(history, best.step or step, step, total_steps, best.interrupted, rows_done / training_seconds)


def compute_logits(
    model: TextClassifier,
    tokens: Tokens,
    batch_size: int,
    compute: Compute,
    advance: Advance | None = None,
    world: World = ALONE,
    prefix: Prefix | None = None,
) -> np.ndarray:
    """Logits of every row in the rows' own order, fp32 [rows, labels]. No dropout.

    The adapters are merged meanwhile, so that each is added to its weight once and not once a batch. The processes of
    `world` take turns at the batches and all get all logits. Batches stay whole, unlike in training: padded and
    multiplied as one process does it, they give its logits bit for bit. Rows longer than the model's window are
    computed in windows. With the prefix of these windows, the frozen layers do not run: the same logits to rounding.
    Where the model predicts in int8, the rows that are close between two labels are computed again in the compute type.
    What n-grams add is in the logits: the tokens have their content.
    """
    with sized_for(_tokens_at_once(tokens.lengths, batch_size)):
        added = compute_ngrams(model, tokens, world)
        values = _windowed(model, tokens, batch_size, compute, advance, world, prefix) + added
        if model.int8_margin:
            close = np.flatnonzero(leads(values) < model.int8_margin)
            with without_int8():
                again = _windowed(model, tokens.take(close), batch_size, compute, None, world, None)
            values[close] = again + added[close]
    return values


def _windowed(
    model: TextClassifier,
    tokens: Tokens,
    batch_size: int,
    compute: Compute,
    advance: Advance | None,
    world: World,
    prefix: Prefix | None,
) -> np.ndarray:
    """The encoder's logits of every row, the mean of its windows': fp32 [rows, labels]."""
    windows, row_of = tokens.windows(model.window)
    is_first = np.diff(row_of, prepend=-1) != 0  # of its row, whose windows follow one another
    found = np.zeros((len(windows), model.head.out_proj.out_features), dtype=np.float32)
    done = None if advance is None else lambda batch: advance(int(is_first[batch].sum()))
    found = _fill(found, model, model.head, windows, batch_size, compute, done, world, prefix)
    values = np.zeros((len(tokens), found.shape[1]), dtype=np.float32)
    np.add.at(values, row_of, found)
    return values / np.bincount(row_of, minlength=len(tokens))[:, None].astype(np.float32)


@torch.inference_mode()
def compute_ngrams(model: TextClassifier, tokens: Tokens, world: World = ALONE) -> np.ndarray:
    """What the n-grams of every row add to its logits, fp32 [rows, labels]: zeros where nothing was fitted.

    The processes of `world` share the rows and all get all. Raises ValueError where the tokens were encoded without
    their content.
    """
    values = np.zeros((len(tokens), model.head.out_proj.out_features), dtype=np.float32)
    if model.ngrams is None or not model.ngrams.weight.any():
        return values
    if tokens.content is None:
        raise ValueError("n-grams read whole texts: encode them with their content")
    own = world.share(np.arange(len(tokens)))
    values[own] = model.ngrams(tokens.content.take(own)).cpu().numpy()
    return world.gather_rows(values)


def leads(logits: np.ndarray) -> np.ndarray:
    """How far each row's best logit is ahead of its second best: [rows, labels] -> [rows]."""
    best = np.partition(logits, -2, axis=1)
    return best[:, -1] - best[:, -2]


def compute_pooled(
    model: TextClassifier,
    tokens: Tokens,
    batch_size: int,
    compute: Compute,
    advance: Advance | None = None,
    world: World = ALONE,
    prefix: Prefix | None = None,
) -> np.ndarray:
    """What the head reads in training, of every row, whole: pooled hidden states, fp32 [rows, hidden]. Otherwise as
    `compute_logits`."""
    values = np.zeros((len(tokens), model.encoder.shape.hidden_size), dtype=np.float32)
    done = None if advance is None else lambda rows: advance(len(rows))
    with sized_for(_tokens_at_once(tokens.lengths, batch_size)):
        return _fill(values, model, torch.nn.Identity(), tokens, batch_size, compute, done, world, prefix)


@torch.inference_mode()
def _fill(
    values: np.ndarray,
    model: TextClassifier,
    head: torch.nn.Module,
    tokens: Tokens,
    batch_size: int,
    compute: Compute,
    done: Callable[[np.ndarray], None] | None,
    world: World,
    prefix: Prefix | None,
) -> np.ndarray:
    """Writes head(pooled hidden states) of every row into values, zeros of fp32 [rows, columns]. done: told of the rows
    of each batch."""
    was_merged = model.merged
    filled = Later(lambda found, rows: values.__setitem__(rows, found.numpy()))
    full_length = gpu.FULL_LENGTH if compute.device.type == "cuda" else 0
    try:
        with piece_of_work():
            model.merge()
        for number, rows in enumerate(evaluation_batches(tokens.lengths, batch_size, full_length)):
            if number % world.size == world.rank:
                with piece_of_work():
                    found = head(_pooled(model, *_inputs(model, tokens, rows, compute, prefix), prefix))
                filled.add(number, found, rows)
                filled.settle(before=number - 1)
            if done:
                done(rows)
        filled.settle(before=sys.maxsize)
    finally:
        if not was_merged:
            model.unmerge()
    return world.gather_rows(values)


def _tokens_at_once(lengths: np.ndarray, batch_size: int) -> int:
    """Returns how many tokens a batch holds on average. lengths: tokens of each row, int [rows]."""
    return int(lengths.sum() * min(1.0, batch_size / max(1, len(lengths))))


def _inputs(
    model: TextClassifier, tokens: Tokens, rows: np.ndarray, compute: Compute, prefix: Prefix | None
) -> tuple[Tensor, Tensor]:
    """Token ids [batch, length], or what enters the lowest trained layer, from the prefix; and the attention mask.

    Where tokens hold two looks at the prefix's rows, both are the same: noise and a prefix exclude each other.
    """
    shape, on_gpu = model.encoder.shape, compute.device.type == "cuda"
    multiple = gpu.LENGTH_MULTIPLE if on_gpu else LENGTH_MULTIPLE
    input_ids, attention_mask = pad_batch(tokens, rows, shape.pad_id, shape.max_tokens, multiple)
    x = prefix.batch(rows % len(prefix.lengths), attention_mask.shape[1]) if prefix else input_ids
    return to_device(x, compute.device), to_device(attention_mask, compute.device)


def _pooled(
    model: TextClassifier, x: Tensor, attention_mask: Tensor, prefix: Prefix | None, dropout: Dropout | None = None
) -> Tensor:
    """What `_inputs` returns -> fp32 [batch, hidden]."""
    if prefix:
        return model.pooled(x, attention_mask, dropout, prefix.first_layer)
    return model.pooled(model.encoder.embed(x, dropout), attention_mask, dropout)


def _parts(batches: Iterable[np.ndarray], lengths: np.ndarray, compute: Compute) -> list[np.ndarray]:
    """What goes forward and back at once: on a CPU a batch of long rows in parts, on a GPU whole; none empty.

    lengths: of each row, in tokens, all looks at it together.
    """
    batches = [rows for rows in batches if len(rows)]
    if compute.device.type == "cuda":
        return batches
    return [part for rows in batches for part in parts_of_batch(lengths, rows, CPU_TOKENS)]


def fit_head(
    model: TextClassifier,
    train: TokenRows,
    weights: Tensor,
    config: TrainConfig,
    compute: Compute,
    world: World,
    prefix: Prefix | None,
) -> None:
    """Fits the head alone, in place, to the pretrained encoder's features: LP-FT (arXiv:2202.10054).

    A random head sends the adapters a random gradient first, which spoils features that the data did not ask to change;
    one that fits them already does not. One pass over the rows without gradient, then L-BFGS on the pooled hidden
    states: logistic regression where the head is linear, with scikit-learn's default penalty (C = 1).
    """
    with progress("head", len(train), world.is_first) as advance:
        pooled = compute_pooled(model, train.tokens, config.eval_batch_size, compute, advance, world, prefix)
    # In fp64, for the iterations stop where the gradient is 0 and not where rounding says so.
    features = torch.from_numpy(pooled).to(compute.device, torch.float64)
    head, weights = copy.deepcopy(model.head).double(), weights.double()
    targets = torch.from_numpy(train.labels).to(compute.device)
    total = weights[targets].sum()
    # A norm's scale too: what is held down in the matrices would grow in it.
    scales = [p for name, p in head.named_parameters() if not name.endswith("bias")]
    optimizer = torch.optim.LBFGS(
        head.parameters(),
        max_iter=HEAD_ITERATIONS,
        tolerance_grad=1e-6,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        losses = _losses([head(features)], targets, weights, config)
        penalty = torch.stack([p.square().sum() for p in scales]).sum() / 2
        loss = (losses.sum() + penalty) / total
        loss.backward()
        return loss

    optimizer.step(closure)
    model.head.load_state_dict(head.state_dict())
    for parameter in model.head.parameters():  # unlike machines, or numbers of threads, may round unlike
        world.from_first(parameter.data)


def _losses(logits: Sequence[Tensor], targets: Tensor, weights: Tensor, config: TrainConfig) -> Tensor:
    """Each row's weighted loss, fp32 [batch]: the cross-entropy, of the row computed once or the mean of twice.

    logits: [batch, labels] of each time. targets: labels, int64 [batch]. Of two, how far their distributions p and q
    are apart is added, times config.consistency: (KL(p, q) + KL(q, p)) / 2, the term of R-Drop (arXiv:2106.14448),
    whose loss is twice this one with an alpha of twice config.consistency.
    """
    smoothing = config.label_smoothing
    each = [F.cross_entropy(one, targets, reduction="none", label_smoothing=smoothing) for one in logits]
    losses = torch.stack(each).mean(dim=0)
    if len(logits) == 2:
        log_p, log_q = (F.log_softmax(one, dim=1) for one in logits)
        losses = losses + config.consistency * ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(dim=1) / 2
    return losses * weights[targets]


def _check_finite(values: Tensor, rows: np.ndarray, step: int) -> None:
    """values: a loss a row [batch], or the norm of the gradient over all these rows, a scalar."""
    finite = torch.isfinite(values).numpy()
    if finite.all():
        return
    what = "the loss" if values.ndim else "the gradient"
    shown = rows[~finite] if values.ndim else rows
    where = f"at step {step + 1}, training rows {shown[:8].tolist()} (counted from 0 in the training split)"
    raise TrainingError(_not_finite(what, where))


def _not_finite(what: str, where: str) -> str:
    return (
        f"{what} is not finite {where}\nlikely: the learning rate is too high (--train.learning-rate), "
        "or bf16 overflows (--train.precision fp32)\nNothing was saved."
    )


def _validate(
    model: TextClassifier,
    validation: TokenRows,
    batch_size: int,
    compute: Compute,
    world: World,
    prefix: Prefix | None,
) -> dict[str, float]:
    with progress("validation", len(validation), world.is_first) as advance:
        logits = compute_logits(model, validation.tokens, batch_size, compute, advance, world, prefix)
    found, labels = torch.from_numpy(logits), torch.from_numpy(validation.labels)
    return {
        "validation_loss": F.cross_entropy(found, labels).item(),
        "validation_accuracy": (found.argmax(dim=1) == labels).float().mean().item(),
    }


def adamw(parameters: Sequence[torch.nn.Parameter], config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (arXiv:1711.05101), decaying matrices alone: biases and norms have no scale to hold down."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.learning_rate, fused=True)


def _class_weights(labels: np.ndarray, num_labels: int, config: TrainConfig) -> Tensor:
    """fp32 [labels]; balanced: n / (labels * n_label), as scikit-learn has it, 0 for a label without rows."""
    if config.class_weights == "none":
        return torch.ones(num_labels, dtype=torch.float32)
    counts = np.bincount(labels, minlength=num_labels)
    balanced = np.where(counts > 0, len(labels) / (num_labels * np.maximum(counts, 1)), 0.0)
    return torch.from_numpy(balanced.astype(np.float32))


@contextmanager
def _interruptible(best: "_Best", world: World) -> Iterator[None]:
    """Ends what is within at a Ctrl-C, where there are parameters to keep and no other process waits for this one."""
    try:
        yield
    except KeyboardInterrupt:
        if world.size > 1 or not best.step:
            raise
        best.interrupted = True
        if not is_quiet():
            kept = f"keeping step {best.step:,}, the best so far"
            print(f"\ninterrupted: {kept}; Ctrl-C again to give up", file=sys.stderr)


class _Window:
    """Loss and accuracy over this process's training rows since the last logged step, dropout on."""

    def __init__(self, since: float = 0.0) -> None:
        self.since = since  # training seconds at its start
        self.rows = 0
        self._loss: Tensor | float = 0.0
        self._right: Tensor | float = 0.0

    def add(self, logits: Tensor, losses: Tensor, targets: Tensor) -> None:
        self.rows += len(targets)
        self._loss = losses.sum().double() + self._loss
        self._right = (logits.argmax(dim=1) == targets).sum() + self._right

    def sum_(self, world: World) -> None:
        """Makes it the window of all processes' rows."""
        own = [self.rows, float(self._loss), float(self._right)]
        sums = world.sum_(torch.tensor(own, dtype=torch.float64)).tolist()
        self.rows, self._loss, self._right = int(sums[0]), sums[1], sums[2]

    @property
    def loss(self) -> float:
        return float(self._loss) / max(1, self.rows)

    @property
    def accuracy(self) -> float:
        return float(self._right) / max(1, self.rows)

    def note(self) -> str:
        return f"loss {self.loss:.3f}"


class _Best:
    """The parameters of the lowest validation loss so far, and how long there has been no lower one."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.step = 0
        self.stale = False
        self.interrupted = False
        self._loss = float("inf")
        self._since = 0
        self._parameters: dict[str, Tensor] = {}

    def update(self, step: int, loss: float, model: TextClassifier) -> None:
        if loss < self._loss:
            self.step, self._loss, self._since = step, loss, 0
            self._parameters = model.snapshot()
        else:
            self._since += 1
        self.stale = bool(self.patience) and self._since >= self.patience

    def restore(self, model: TextClassifier) -> None:
        model.restore(self._parameters)
