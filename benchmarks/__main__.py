"""`python -m benchmarks [--quick]`: both training comparisons, one results file, one table, one figure."""

import sys

from benchmarks import report, train_speed
from benchmarks.rows import NoData


def main() -> int:
    options, only = train_speed.parse()
    try:
        found = train_speed.measure(options, only)
    except NoData as error:
        print(error, file=sys.stderr)
        return 2
    rows = train_speed.table_rows(found)
    report.print_rows(rows)
    details = {"options": vars(options.shortened()), "train": found}
    print(report.write_results(rows, details, suffix="-quick" if options.quick else ""))
    # A look is no claim: only a full run redraws the figure that the documentation shows.
    if not options.quick:
        panels = {f"training, {name}": train_speed.rates(sides) for name, sides in found.items()}
        print(report.draw_speed(panels, report.ROOT / "docs" / "speed.png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
