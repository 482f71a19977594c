"""What `evaluate` prints: the rows it reads, the metrics, and the accuracies of --robustness."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from submillion.errors import escaped
from submillion.evaluation.measured import Measured
from submillion.report.sentences import macro_f1_shown, overlap_sentence
from submillion.text.noise import STRENGTHS

if TYPE_CHECKING:
    from rich.console import Console


def print_rows(console: "Console", measured: Measured, source: str) -> None:
    """Prints which rows of the source are measured, and what is worth knowing of them."""
    notes = [f"{note.heading}: {note.text}" for note in measured.rows.notes]
    for line in [*measured.lines(source), *notes]:
        print_line(console, escaped(line))


def print_evaluation(console: "Console", metrics: Mapping[str, Any], title: str) -> None:
    """Prints the metrics of `evaluate_source`: a table by label, accuracy and calibration."""
    from rich.markup import escape
    from rich.table import Table

    console.print(title, style="bold", highlight=False, markup=False, soft_wrap=True)
    table = Table()
    table.add_column("label")
    for name in ("rows", "precision", "recall", "F1"):
        table.add_column(name, justify="right")
    for name, figures in metrics["per_label"].items():
        shares = (f"{figures[key]:.4f}" for key in ("precision", "recall", "f1"))
        table.add_row(escape(name), f"{figures['rows']:,}", *shares)
    console.print(table)
    console.print(
        f"accuracy [bold]{metrics['accuracy']:.2%}[/bold] of {metrics['rows']:,} rows, "
        f"macro-F1 {escape(macro_f1_shown(metrics))}, loss {metrics['loss']:.4f}, "
        f"{metrics['rows_per_second']:.0f} rows/s",
        highlight=False,
        soft_wrap=True,
    )
    if sentence := overlap_sentence("test", metrics):
        print_line(console, sentence)
    calibration = metrics["calibration"]
    surest = ", ".join(
        f"{accuracy:.2%} of the surest {float(share):.0%}" for share, accuracy in calibration["coverage"].items()
    )
    print_line(
        console,
        f"calibration error (ECE) {calibration['ece']:.2%}, Brier {calibration['brier']:.4f}, "
        f"temperature {calibration['temperature']:.2f}\naccuracy {surest}",
    )


def print_robustness(console: "Console", robustness: Mapping[str, Any], plots: Sequence[Path]) -> None:
    """Prints what `measure_robustness` returns: a table of accuracies, and what each was measured on."""
    from rich.markup import escape
    from rich.table import Table

    noise, attacked, shifts = robustness["noise"], robustness["attack"], robustness.get("shift", {})
    table = Table(title="accuracy under noise, style, shift and attack", title_justify="left", title_style="bold")
    table.add_column("measure")
    for strength in STRENGTHS:
        table.add_column(strength, justify="right")
    table.add_row("clean", "", f"{robustness['clean']:.1%}", "")
    table.add_section()
    for name, accuracies in noise["each"].items():
        table.add_row(escape(name), *(f"{accuracies[strength]:.1%}" for strength in STRENGTHS))
    table.add_section()
    table.add_row("noise, mean", *(f"{noise['mean'][strength]:.1%}" for strength in STRENGTHS), style="bold")
    table.add_row("noise, worst", *(f"{noise['worst'][strength]['accuracy']:.1%}" for strength in STRENGTHS))
    table.add_row("right under all of 20", "", f"{robustness['worst_of_20']:.1%}", "")
    table.add_section()
    for name, accuracy in robustness["style"].items():
        table.add_row(f"as a {name}", "", f"{accuracy:.1%}", "")
    table.add_row("under attack", "", f"{attacked['accuracy']:.1%}", "")
    for name, shift in shifts.items():
        table.add_row(escape(name), "", f"{shift['accuracy']:.1%}", "")
    console.print(table)
    rows = f"{robustness['rows']:,} of {robustness['of_rows']:,} rows, seed {robustness['seed']}"
    print_line(console, f"noise, style, attack: {rows}")
    changed, queries = attacked["changed"], attacked["queries"]
    print_line(console, f"attack: {changed:.0%} of the words changed where it succeeds, {queries:.0f} queries a row")
    for name, shift in shifts.items():
        by_label = ", ".join(f"{label} {accuracy:.1%}" for label, accuracy in shift["per_label"].items())
        print_line(
            console, f"{name}: {shift['rows']:,} rows, {shift['left_out']:,} left out for their label; {by_label}"
        )
    if not shifts:
        print_line(console, "shift: not measured; --shift SOURCE names labelled rows of another kind")
    print_line(console, "plots: " + ", ".join(map(str, plots)))


def print_line(console: "Console", line: str) -> None:
    """Prints a line as it is: its brackets are no markup, and no width cuts it."""
    console.print(line, soft_wrap=True, highlight=False, markup=False)
