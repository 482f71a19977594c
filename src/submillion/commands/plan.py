"""The command plan: counts the trainable parameters of a run, without training it."""

from typing import Any

from submillion.config.resolve import Resolved, combine
from submillion.console import terminal
from submillion.errors import ConfigError
from submillion.model.budget import rank_table
from submillion.report.plan import parts_table, ranks_table
from submillion.training.planning import base_shape, planned, specs_of


def show_plan(resolved: Resolved, labels: int | None = None) -> None:
    """Prints the counts by part and the largest ranks under the budget.

    It needs no data, and no files of a well-known base. labels: number of labels, if the recipe does not name them.
    Raises ConfigError if it is not known, and BudgetError, after the tables, if the run does not fit.
    """
    config = resolved.config
    num_labels = labels or len(config.data.label_names)
    if not num_labels:
        raise ConfigError("how many labels?\nfix: add --labels N, or --data.label-names A B ...")
    console, shape = terminal(), base_shape(config)
    ranks = rank_table(shape, specs_of(config)[1], num_labels, config.budget, config.model.ngram_buckets)
    try:
        network, adapters, plan = planned(config, shape, num_labels)
        console.print(parts_table(config.model.base, network, adapters, plan, num_labels, config.budget))
    finally:  # a plan that does not fit is refused after the table that says what would
        console.print(ranks_table(ranks, num_labels, config.budget))


def run(values: dict[str, Any], words: list[str]) -> None:
    """Runs `submillion plan` with these flags. Raises ConfigError for a number of labels below 2."""
    labels = values.pop("labels", 0)
    if labels < 0 or labels == 1:
        raise ConfigError(f"--labels: expected at least 2, found {labels}")
    show_plan(combine(values.pop("recipe", ""), flags=values), labels or None)
