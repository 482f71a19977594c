"""The budget: how many parameters would train, counted from shapes alone, and how to fit when they are too many.

No weights, no data and no torch are needed, so a run that cannot fit is refused before it loads anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from submillion.config.schema import TARGETS
from submillion.errors import BudgetError, ConfigError
from submillion.model.families import ROBERTA_HEAD, StockHead
from submillion.model.shape import EncoderShape
from submillion.model.spec import AdapterSpec, NetworkSpec

Head = Literal["stock", "linear"]
HEADS: tuple[Head, ...] = ("stock", "linear")
# The columns of the table that `rank_table` returns, beside HEADS as its rows: the usual choices of targets.
TARGET_SETS: dict[str, tuple[str, ...]] = {
    "query value": ("query", "value"),
    "query key value attention_output": ("query", "key", "value", "attention_output"),
    "all-linear": TARGETS,
}


@dataclass(frozen=True)
class Plan:
    """A network's parameters by part. `trainable` is what the budget limits; `total` counts as the seed system did."""

    adapters: dict[str, int]  # by target, summed over layers
    head: dict[str, int]  # by module of the head
    ngrams: int  # the table of the n-grams
    unfrozen: int  # encoder layers that train in full
    encoder: int  # every pretrained parameter that the model uses

    @property
    def trainable(self) -> int:
        return sum(self.adapters.values()) + sum(self.head.values()) + self.ngrams + self.unfrozen

    @property
    def total(self) -> int:
        """Returns the parameters of base, head and n-grams, without adapters."""
        return self.encoder + sum(self.head.values()) + self.ngrams

    @property
    def total_with_adapters(self) -> int:
        return self.total + sum(self.adapters.values())


def target_names(targets: Sequence[str]) -> tuple[str, ...]:
    """Returns the targets in the encoder's order, with all-linear spelled out."""
    return TARGETS if "all-linear" in targets else tuple(name for name in TARGETS if name in targets)


def adapted_layers(adapters: AdapterSpec, num_layers: int) -> tuple[int, ...]:
    """Returns the encoder layers that have adapters, in order. Raises ConfigError for a layer that does not exist."""
    if adapters.layers == "all":
        return tuple(range(num_layers))
    beyond = [layer for layer in adapters.layers if not 0 <= layer < num_layers]
    if beyond:
        raise ConfigError(f"the adapters are for layers {beyond}, but this encoder has layers 0 to {num_layers - 1}")
    return tuple(sorted(adapters.layers))


def head_shapes(
    kind: str, hidden_size: int, num_outputs: int, stock: StockHead = ROBERTA_HEAD
) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each tensor of a head by its name there: {"out_proj.weight": (num_outputs, hidden_size)}."""
    shapes: dict[str, tuple[int, ...]] = {}
    if kind == "stock":
        shapes["dense.weight"] = (hidden_size, hidden_size)
        shapes |= {"dense.bias": (hidden_size,)} if stock.dense_bias else {}
        shapes |= {"norm.weight": (hidden_size,)} if stock.norm else {}
        shapes |= {"norm.bias": (hidden_size,)} if stock.norm and stock.norm_bias else {}
    return shapes | {"out_proj.weight": (num_outputs, hidden_size), "out_proj.bias": (num_outputs,)}


def head_parameters(kind: str, hidden_size: int, num_outputs: int, stock: StockHead = ROBERTA_HEAD) -> dict[str, int]:
    """Returns the number of parameters of each module of the head: {"dense": ..., "out_proj": ...}."""
    counts: dict[str, int] = {}
    for name, size in head_shapes(kind, hidden_size, num_outputs, stock).items():
        module = name.split(".")[0]
        counts[module] = counts.get(module, 0) + prod(size)
    return counts


def count(shape: EncoderShape, network: NetworkSpec, adapters: AdapterSpec, num_outputs: int) -> Plan:
    """Counts the parameters of a network by part. Raises ConfigError for adapters on layers that do not exist."""
    layers = len(adapted_layers(adapters, shape.num_layers))
    sizes = shape.linear_sizes()
    per_target = {name: layers * adapters.rank * sum(sizes[name]) for name in target_names(adapters.targets)}
    return Plan(
        adapters=per_target if adapters.rank else {},
        head=head_parameters(network.head, shape.hidden_size, num_outputs, shape.stock_head),
        ngrams=network.ngram_buckets * num_outputs,
        unfrozen=shape.last_layers_parameters(network.unfreeze_layers),
        encoder=shape.parameters,
    )


def largest_rank(
    shape: EncoderShape, network: NetworkSpec, adapters: AdapterSpec, num_outputs: int, budget: int
) -> int:
    """Returns the largest rank that fits the budget, whatever adapters.rank is.

    Raises BudgetError, with the cheapest ways to fit, if not even rank 1 fits, and what `count` raises.
    """
    rank = _fitting_rank(shape, network, adapters, num_outputs, budget)
    if rank == 0:
        refusal = _refusal(shape, network, replace(adapters, rank=1), num_outputs, budget)
        raise BudgetError(f"no rank fits: at rank 1, {refusal}")
    return rank


def _fitting_rank(
    shape: EncoderShape, network: NetworkSpec, adapters: AdapterSpec, num_outputs: int, budget: int
) -> int:
    """Returns the largest rank that fits; 0 if none does. It is hidden_size at most: a larger rank adds nothing."""
    fixed = count(shape, network, replace(adapters, rank=0), num_outputs).trainable
    per_rank = count(shape, network, replace(adapters, rank=1), num_outputs).trainable - fixed
    return max(0, min((budget - fixed) // per_rank, shape.hidden_size))


def rank_table(
    shape: EncoderShape, adapters: AdapterSpec, num_outputs: int, budget: int, ngram_buckets: int = 0
) -> dict[str, dict[str, int]]:
    """Returns {head: {targets: largest rank}} for the usual choices, all pretrained weights frozen; 0: none fits."""

    def largest(head: Head, targets: tuple[str, ...]) -> int:
        network = NetworkSpec(head=head, ngram_buckets=ngram_buckets)
        return _fitting_rank(shape, network, replace(adapters, targets=targets), num_outputs, budget)

    return {head: {name: largest(head, targets) for name, targets in TARGET_SETS.items()} for head in HEADS}


def check_budget(
    shape: EncoderShape, network: NetworkSpec, adapters: AdapterSpec, num_outputs: int, budget: int
) -> Plan:
    """Returns the counts if they fit. Raises BudgetError with the cheapest ways to fit if they do not."""
    plan = count(shape, network, adapters, num_outputs)
    if plan.trainable > budget:
        raise BudgetError(_refusal(shape, network, adapters, num_outputs, budget))
    return plan


def _refusal(shape: EncoderShape, network: NetworkSpec, adapters: AdapterSpec, num_outputs: int, budget: int) -> str:
    plan = count(shape, network, adapters, num_outputs)
    parts = {
        "adapters": sum(plan.adapters.values()),
        "head": sum(plan.head.values()),
        "n-grams": plan.ngrams,
        "unfrozen layers": plan.unfrozen,
    }
    made_of = ", ".join(f"{name} {number:,}" for name, number in parts.items() if number)
    lines = [
        f"{plan.trainable:,} trainable parameters ({made_of}) "
        f"exceed the budget of {budget:,} by {plan.trainable - budget:,}."
    ]
    ways = ways_to_fit(shape, network, adapters, num_outputs, budget)
    if ways:
        lines.append("The cheapest ways to fit:")
        lines += [f"  {flags}   ({trainable:,} trainable)" for flags, trainable in ways]
    else:
        lines.append("Nothing smaller fits either; the smallest head alone takes more than the budget.")
    lines.append(f"  --budget {plan.trainable}   (raises the limit to what this run needs)")
    return "\n".join(lines)


def ways_to_fit(
    shape: EncoderShape, network: NetworkSpec, adapters: AdapterSpec, num_outputs: int, budget: int
) -> list[tuple[str, int]]:
    """Returns up to three (flags, trainable count) that fit; first the ways that give up least of the settings.

    Each changes as little as it can: the rank alone, the head alone, the n-grams alone, the targets alone, then several
    of these. A way that keeps more trainable parameters counts as cheaper. None keeps unfrozen layers.
    """
    freeze = ["--model.unfreeze-layers 0"] if network.unfreeze_layers else []
    frozen = replace(network, unfreeze_layers=0)
    smaller: list[tuple[list[str], NetworkSpec]] = [([], frozen)]
    if network.head != "linear":
        smaller.append((["--model.head linear"], replace(frozen, head="linear")))
    if network.ngram_buckets:
        without = "--model.ngram-buckets 0"
        smaller += [([*flags, without], replace(one, ngram_buckets=0)) for flags, one in smaller]
    ways: dict[str, int] = {}

    def offer(flags: list[str], network: NetworkSpec, adapters: AdapterSpec) -> None:
        trainable = count(shape, network, adapters, num_outputs).trainable
        if flags and trainable <= budget:
            ways.setdefault(" ".join(flags), trainable)

    rest = budget - count(shape, replace(frozen, ngram_buckets=0), adapters, num_outputs).trainable
    buckets = rest // num_outputs
    if 0 < buckets < network.ngram_buckets:
        offer([*freeze, f"--model.ngram-buckets {buckets}"], replace(frozen, ngram_buckets=buckets), adapters)
    narrow = replace(adapters, targets=("query", "value"))
    for network_flags, candidate in smaller:
        flags = freeze + network_flags
        offer(flags, candidate, adapters)
        if count(shape, candidate, adapters, num_outputs).trainable <= budget:
            continue  # with these flags nothing needs to shrink
        rank = _fitting_rank(shape, candidate, adapters, num_outputs, budget)
        if 0 < rank < adapters.rank:
            offer([*flags, f"--lora.rank {rank}"], candidate, replace(adapters, rank=rank))
        if target_names(adapters.targets) != narrow.targets:
            offer([*flags, "--lora.targets query value"], candidate, narrow)
        offer([*flags, "--lora.rank 0"], candidate, replace(adapters, rank=0))

    def cost(way: tuple[str, int]) -> tuple[bool, int, int]:
        flags, trainable = way
        return "--lora.rank 0" in flags, flags.count("--"), -trainable

    return sorted(ways.items(), key=cost)[:3]
