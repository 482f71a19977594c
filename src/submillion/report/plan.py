"""The counts of a plan as a table, and the largest ranks that its budget holds."""

from typing import TYPE_CHECKING

from submillion.model.budget import TARGET_SETS, Plan
from submillion.model.spec import AdapterSpec, NetworkSpec

if TYPE_CHECKING:
    from rich.table import Table


def parts_table(
    base: str, network: NetworkSpec, adapters: AdapterSpec, plan: Plan, num_labels: int, budget: int
) -> "Table":
    """Returns the counts by part, with the budget they are held to."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{base}, {num_labels} labels"), title_justify="left", title_style="bold")
    table.add_column("part")
    table.add_column("parameters", justify="right")
    table.add_column("", style="dim")
    for section in parts(network, adapters, plan, budget):
        for row in section:
            table.add_row(*row, style="bold" if row[0] == "trainable" else "")
        table.add_section()
    return table


def parts(network: NetworkSpec, adapters: AdapterSpec, plan: Plan, budget: int) -> list[list[tuple[str, str, str]]]:
    """Returns (part, parameters, note) for what trains, for its sum, and for the whole."""
    share = plan.trainable / budget
    trained = [(f"LoRA {name}", f"{number:,}", f"rank {adapters.rank}") for name, number in plan.adapters.items()]
    trained += [(f"head {name}", f"{number:,}", f"{network.head} head") for name, number in plan.head.items()]
    if plan.ngrams:
        trained.append(("n-grams", f"{plan.ngrams:,}", f"{network.ngram_buckets:,} buckets"))
    if plan.unfrozen:
        trained.append(("encoder layers in full", f"{plan.unfrozen:,}", f"the last {network.unfreeze_layers}"))
    return [
        trained,
        [("trainable", f"{plan.trainable:,}", f"{share:.1%} of the budget of {budget:,}")],
        [
            ("encoder", f"{plan.encoder:,}", "all but the opened layers frozen" if plan.unfrozen else "frozen"),
            ("total", f"{plan.total:,}", "base, head and n-grams" if plan.ngrams else "base and head"),
            (
                "total with adapters",
                f"{plan.total_with_adapters:,}",
                f"{plan.trainable / plan.total_with_adapters:.2%} trains",
            ),
        ],
    ]


def ranks_table(ranks: dict[str, dict[str, int]], num_labels: int, budget: int) -> "Table":
    """Returns the largest rank under the budget for each head and each usual choice of targets."""
    from rich.table import Table

    table = Table(
        title=f"largest rank under {budget:,} ({num_labels} labels)", title_justify="left", title_style="bold"
    )
    table.add_column("head")
    for name in TARGET_SETS:
        table.add_column(name, justify="right")
    for head, by_targets in ranks.items():
        table.add_row(head, *(str(rank) if rank else "does not fit" for rank in by_targets.values()))
    return table
