"""What `submillion plan` prints: the parameters of a configuration by part, and what else the budget would hold."""

from dataclasses import replace
from typing import TYPE_CHECKING

from submillion.config import Config, Resolved
from submillion.console import terminal
from submillion.errors import BaseModelError, ConfigError
from submillion.model.base import find_base
from submillion.model.budget import TARGET_SETS, Plan, check_budget, rank_table, resolve_rank
from submillion.model.shape import EncoderShape, known_shape, read_shape

if TYPE_CHECKING:
    from rich.table import Table


def base_shape(config: Config) -> EncoderShape:
    """The base's shape: known by name, or from its config.json. A well-known hub id needs neither file nor network."""
    try:
        return known_shape(config.model.base)
    except BaseModelError:
        return read_shape(find_base(config.model.base, config.model.revision, weights=False).folder)


def planned(config: Config, num_labels: int) -> tuple[Config, Plan]:
    """The configuration with its rank resolved, and its counts. Raises BudgetError where it does not fit."""
    shape = base_shape(config)
    lora = resolve_rank(shape, config.model, config.lora, num_labels, config.budget)
    plan = check_budget(shape, config.model, lora, num_labels, config.budget)
    return replace(config, lora=lora), plan


def show_plan(resolved: Resolved, labels: int | None = None) -> None:
    """Prints the table by part and the largest ranks under the budget. Needs no data; of a well-known base, no files.

    labels: number of labels, needed where the recipe does not name them. Raises ConfigError where it is not known.
    """
    num_labels = labels or len(resolved.config.data.label_names)
    if not num_labels:
        raise ConfigError("how many labels?\nfix: add --labels N, or --data.label-names A B ...")
    console = terminal()
    shape = base_shape(resolved.config)
    config, budget = resolved.config, resolved.config.budget
    ranks = rank_table(shape, config.lora, num_labels, budget, config.model.ngram_buckets)
    try:
        config, plan = planned(config, num_labels)
        console.print(parts_table(config, plan, num_labels))
    finally:  # a plan that does not fit is refused after the table that says what would
        console.print(_ranks_table(ranks, config, num_labels))


def parts_table(config: Config, plan: Plan, num_labels: int) -> "Table":
    """The counts by part, with the budget they are held to."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{config.model.base}, {num_labels} labels"), title_justify="left", title_style="bold")
    table.add_column("part")
    table.add_column("parameters", justify="right")
    table.add_column("", style="dim")
    for section in parts(config, plan):
        for row in section:
            table.add_row(*row, style="bold" if row[0] == "trainable" else "")
        table.add_section()
    return table


def parts(config: Config, plan: Plan) -> list[list[tuple[str, str, str]]]:
    """(part, parameters, note) of what trains, of its sum, and of the whole."""
    rank, share = config.lora.rank, plan.trainable / config.budget
    trained = [(f"LoRA {name}", f"{number:,}", f"rank {rank}") for name, number in plan.adapters.items()]
    trained += [(f"head {name}", f"{number:,}", f"{config.model.head} head") for name, number in plan.head.items()]
    if plan.ngrams:
        trained.append(("n-grams", f"{plan.ngrams:,}", f"{config.model.ngram_buckets:,} buckets"))
    if plan.opened:
        trained.append(("encoder layers in full", f"{plan.opened:,}", f"the last {config.model.train_last_k_layers}"))
    return [
        trained,
        [("trainable", f"{plan.trainable:,}", f"{share:.1%} of the budget of {config.budget:,}")],
        [
            ("encoder", f"{plan.encoder:,}", "all but the opened layers frozen" if plan.opened else "frozen"),
            ("total", f"{plan.total:,}", "base, head and n-grams" if plan.ngrams else "base and head"),
            (
                "total with adapters",
                f"{plan.total_with_adapters:,}",
                f"{plan.trainable / plan.total_with_adapters:.2%} trains",
            ),
        ],
    ]


def _ranks_table(ranks: dict[str, dict[str, int]], config: Config, num_labels: int) -> "Table":
    from rich.table import Table

    table = Table(
        title=f"largest rank under {config.budget:,} ({num_labels} labels)", title_justify="left", title_style="bold"
    )
    table.add_column("head")
    for name in TARGET_SETS:
        table.add_column(name, justify="right")
    for head, by_targets in ranks.items():
        table.add_row(head, *(str(rank) if rank else "does not fit" for rank in by_targets.values()))
    return table
