"""The budget: how many parameters would train, counted from shapes alone, and how to fit when they are too many.

No weights, no data and no torch are needed, so a run that cannot fit is refused before it loads anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from submillion.config import TARGETS, LoraConfig, ModelConfig
from submillion.errors import BudgetError, ConfigError
from submillion.model.families import ROBERTA_HEAD, StockHead
from submillion.model.shape import EncoderShape

Head = Literal["stock", "linear"]
HEADS: tuple[Head, ...] = ("stock", "linear")
# The rows and columns of the table `plan` shows: each head with each usual choice of targets.
TARGET_SETS: dict[str, tuple[str, ...]] = {
    "query value": ("query", "value"),
    "query key value attention_output": ("query", "key", "value", "attention_output"),
    "all-linear": TARGETS,
}


@dataclass(frozen=True)
class Plan:
    """Counts of one configuration. `trainable` is what the budget holds; `total` counts as the seed system did."""

    adapters: dict[str, int]  # by target, summed over layers
    head: dict[str, int]  # by head tensor group
    ngrams: int  # the table of the n-grams
    opened: int  # encoder layers that train in full
    encoder: int  # every pretrained parameter that the model uses

    @property
    def trainable(self) -> int:
        return sum(self.adapters.values()) + sum(self.head.values()) + self.ngrams + self.opened

    @property
    def total(self) -> int:
        """Base, head and n-grams, without adapters."""
        return self.encoder + sum(self.head.values()) + self.ngrams

    @property
    def total_with_adapters(self) -> int:
        return self.total + sum(self.adapters.values())


def target_names(targets: Sequence[str]) -> tuple[str, ...]:
    """The targets in the encoder's order, with all-linear spelled out."""
    return TARGETS if "all-linear" in targets else tuple(name for name in TARGETS if name in targets)


def adapted_layers(lora: LoraConfig, num_layers: int) -> tuple[int, ...]:
    """The encoder layers that carry adapters. Raises ConfigError for a layer that does not exist."""
    if lora.layers == "all":
        return tuple(range(num_layers))
    beyond = [layer for layer in lora.layers if not 0 <= int(layer) < num_layers]
    if beyond:
        raise ConfigError(f"lora.layers names {beyond}, but this encoder has layers 0 to {num_layers - 1}")
    return tuple(sorted(int(layer) for layer in lora.layers))


def head_shapes(
    kind: str, hidden_size: int, num_labels: int, stock: StockHead = ROBERTA_HEAD
) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a head, by its name in the head: {"out_proj.weight": (num_labels, hidden_size)}."""
    shapes: dict[str, tuple[int, ...]] = {}
    if kind == "stock":
        shapes["dense.weight"] = (hidden_size, hidden_size)
        shapes |= {"dense.bias": (hidden_size,)} if stock.dense_bias else {}
        shapes |= {"norm.weight": (hidden_size,)} if stock.norm else {}
        shapes |= {"norm.bias": (hidden_size,)} if stock.norm and stock.norm_bias else {}
    return shapes | {"out_proj.weight": (num_labels, hidden_size), "out_proj.bias": (num_labels,)}


def head_parameters(kind: str, hidden_size: int, num_labels: int, stock: StockHead = ROBERTA_HEAD) -> dict[str, int]:
    """Parameters by module of the head: {"dense": ..., "out_proj": ...}."""
    counts: dict[str, int] = {}
    for name, size in head_shapes(kind, hidden_size, num_labels, stock).items():
        module = name.split(".")[0]
        counts[module] = counts.get(module, 0) + prod(size)
    return counts


def count(shape: EncoderShape, model: ModelConfig, lora: LoraConfig, num_labels: int) -> Plan:
    """Counts the parts of a configuration with a resolved rank. Raises ConfigError for layers that do not exist."""
    if not isinstance(lora.rank, int):
        raise ValueError("resolve the rank first: see largest_rank")
    layers = len(adapted_layers(lora, shape.num_layers))
    sizes = shape.linear_sizes()
    adapters = {name: layers * lora.rank * sum(sizes[name]) for name in target_names(lora.targets) if lora.rank}
    opened = 0 if model.freeze_base else shape.opened_parameters(model.train_last_k_layers)
    head = head_parameters(model.head, shape.hidden_size, num_labels, shape.stock_head)
    return Plan(adapters, head, model.ngram_buckets * num_labels, opened, shape.parameters)


def largest_rank(shape: EncoderShape, model: ModelConfig, lora: LoraConfig, num_labels: int, budget: int) -> int:
    """The largest rank whose trainable parameters fit the budget; 0 where not even rank 1 does.

    A rank above the smaller side of a matrix adds nothing, so it ends at the hidden size.
    """
    fixed = count(shape, model, replace(lora, rank=0), num_labels).trainable
    per_rank = count(shape, model, replace(lora, rank=1), num_labels).trainable - fixed
    return max(0, min((budget - fixed) // per_rank, shape.hidden_size))


def resolve_rank(shape: EncoderShape, model: ModelConfig, lora: LoraConfig, num_labels: int, budget: int) -> LoraConfig:
    """lora with rank = "auto" replaced by the largest rank that fits. Raises BudgetError where none does."""
    if lora.rank != "auto":
        return lora
    rank = largest_rank(shape, model, lora, num_labels, budget)
    if rank == 0:
        least = _refusal(shape, model, replace(lora, rank=1), num_labels, budget)
        raise BudgetError(f"no rank fits: at rank 1, {least}")
    return replace(lora, rank=rank)


def rank_table(
    shape: EncoderShape, lora: LoraConfig, num_labels: int, budget: int, ngram_buckets: int = 0
) -> dict[str, dict[str, int]]:
    """{head: {targets: largest rank}} for the usual choices, everything pretrained frozen."""

    def largest(head: Head, targets: tuple[str, ...]) -> int:
        model = ModelConfig(head=head, ngram_buckets=ngram_buckets)
        return largest_rank(shape, model, replace(lora, targets=targets), num_labels, budget)

    return {head: {name: largest(head, targets) for name, targets in TARGET_SETS.items()} for head in HEADS}


def check_budget(shape: EncoderShape, model: ModelConfig, lora: LoraConfig, num_labels: int, budget: int) -> Plan:
    """The plan, where it fits. Raises BudgetError with the cheapest ways to fit where it does not."""
    plan = count(shape, model, lora, num_labels)
    if plan.trainable > budget:
        raise BudgetError(_refusal(shape, model, lora, num_labels, budget))
    return plan


def _refusal(shape: EncoderShape, model: ModelConfig, lora: LoraConfig, num_labels: int, budget: int) -> str:
    plan = count(shape, model, lora, num_labels)
    parts = {
        "adapters": sum(plan.adapters.values()),
        "head": sum(plan.head.values()),
        "n-grams": plan.ngrams,
        "opened layers": plan.opened,
    }
    made_of = ", ".join(f"{name} {number:,}" for name, number in parts.items() if number)
    lines = [
        f"{plan.trainable:,} trainable parameters ({made_of}) "
        f"exceed the budget of {budget:,} by {plan.trainable - budget:,}."
    ]
    ways = ways_to_fit(shape, model, lora, num_labels, budget)
    if ways:
        lines.append("The cheapest ways to fit:")
        lines += [f"  {flags}   ({trainable:,} trainable)" for flags, trainable in ways]
    else:
        lines.append("Nothing smaller fits either; the smallest head alone takes more than the budget.")
    lines.append(f"  --budget {plan.trainable}   (raises the limit to what this run needs)")
    return "\n".join(lines)


def ways_to_fit(
    shape: EncoderShape, model: ModelConfig, lora: LoraConfig, num_labels: int, budget: int
) -> list[tuple[str, int]]:
    """Up to three (flags, trainable count) that fit, those that give up least of what was asked for first.

    Each candidate changes as little as it can: the rank alone, the head alone, the n-grams alone, the targets alone,
    the number of adapted layers alone, then several of those. What keeps more trainable parameters counts as cheaper.
    """
    freeze = [] if model.freeze_base else ["--model.freeze-base true"]
    frozen = replace(model, freeze_base=True)
    smaller = [([], frozen), (["--model.head linear"], replace(frozen, head="linear"))]
    if model.head == "linear":
        smaller.pop()
    if model.ngram_buckets:
        without = "--model.ngram-buckets 0"
        smaller += [([*flags, without], replace(one, ngram_buckets=0)) for flags, one in smaller]
    rest = budget - count(shape, replace(frozen, ngram_buckets=0), lora, num_labels).trainable
    buckets = rest // num_labels
    narrow = replace(lora, targets=("query", "value"))
    found: dict[str, int] = {}

    def offer(flags: list[str], model: ModelConfig, lora: LoraConfig) -> None:
        trainable = count(shape, model, lora, num_labels).trainable
        if flags and trainable <= budget:
            found.setdefault(" ".join(flags), trainable)

    if 0 < buckets < model.ngram_buckets:
        offer([*freeze, f"--model.ngram-buckets {buckets}"], replace(frozen, ngram_buckets=buckets), lora)
    for model_flags, candidate in smaller:
        flags = freeze + model_flags
        offer(flags, candidate, lora)
        if count(shape, candidate, lora, num_labels).trainable <= budget:
            continue  # with these flags nothing needs to shrink
        rank = largest_rank(shape, candidate, lora, num_labels, budget)
        if 0 < rank < int(lora.rank):
            offer([*flags, f"--lora.rank {rank}"], candidate, replace(lora, rank=rank))
        if target_names(lora.targets) != narrow.targets:
            offer([*flags, "--lora.targets query value"], candidate, narrow)
        kept = adapted_layers(lora, shape.num_layers)
        for first in range(1, len(kept)):  # the last layers adapt to the task most, so the first go
            fewer = replace(lora, layers=kept[first:])
            if count(shape, candidate, fewer, num_labels).trainable <= budget:
                offer([*flags, f"--lora.layers {' '.join(map(str, kept[first:]))}"], candidate, fewer)
                break
        offer([*flags, "--lora.rank 0"], candidate, replace(lora, rank=0))

    def cost(way: tuple[str, int]) -> tuple[bool, int, int]:
        flags, trainable = way
        return "--lora.rank 0" in flags, flags.count("--"), -trainable

    return sorted(found.items(), key=cost)[:3]
