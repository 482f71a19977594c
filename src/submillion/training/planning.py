"""From the settings of a run to the network that it trains, under its budget."""

from dataclasses import replace

from submillion.config.schema import Config
from submillion.errors import BaseModelError
from submillion.model.base import Base, find_base
from submillion.model.budget import Plan, check_budget, largest_rank
from submillion.model.config_json import read_shape
from submillion.model.shape import EncoderShape, known_shape
from submillion.model.spec import AdapterSpec, NetworkSpec

ALPHA_PER_RANK = 2.0  # adapters are scaled by 2 at every rank, so that one learning rate suits all ranks


def base_shape(config: Config) -> EncoderShape:
    """Returns the base's shape, by its name or from its config.json.

    A well-known hub id needs neither file nor network. Raises BaseModelError if the base cannot be found.
    """
    try:
        return known_shape(config.model.base)
    except BaseModelError:
        return read_shape(find_base(config.model.base, weights=False).folder)


def fitting_shape(config: Config, base: Base) -> EncoderShape:
    """Returns the shape of the base's own files.

    Raises ConfigError if max_length is more than its position table holds, and BaseModelError if the base's name stands
    for another shape.
    """
    shape = read_shape(base.folder)
    shape.check_length(config.model.max_length, config.model.base, "--model.max-length")
    if shape != (expected := base_shape(config)):
        # A folder or repository named like a well-known base, holding something else: the plan would be wrong.
        raise BaseModelError(
            f"{base.folder} does not have the shape of {config.model.base}: expected {expected}, found {shape}"
        )
    return shape


def planned(config: Config, shape: EncoderShape, num_outputs: int) -> tuple[NetworkSpec, AdapterSpec, Plan]:
    """Returns the network that the settings ask for, except its window, and its parameter counts.

    Raises BudgetError, with ways to fit, if it does not fit the budget.
    """
    network, adapters = specs_of(config)
    if config.lora.rank == "auto":
        adapters = _of_rank(adapters, largest_rank(shape, network, adapters, num_outputs, config.budget))
    return network, adapters, check_budget(shape, network, adapters, num_outputs, config.budget)


def specs_of(config: Config) -> tuple[NetworkSpec, AdapterSpec]:
    """Returns the specs that the settings ask for, at rank 1 if the rank is "auto"."""
    model, lora = config.model, config.lora
    network = NetworkSpec(
        head=model.head,
        # A linear head reads more from the mean; the stock heads of most families are made for the first token.
        pooling="mean" if model.head == "linear" else "first",
        max_length=model.max_length,
        ngram_buckets=model.ngram_buckets,
        dropout=model.dropout,
        unfreeze_layers=model.unfreeze_layers,
    )
    adapters = AdapterSpec(dropout=model.dropout / 2, targets=lora.targets)
    return network, _of_rank(adapters, 1 if lora.rank == "auto" else lora.rank)


def _of_rank(adapters: AdapterSpec, rank: int) -> AdapterSpec:
    return replace(adapters, rank=rank, alpha=ALPHA_PER_RANK * rank)
