"""`python -m benchmarks [--quick]`: training and prediction, one results file, one table, one figure."""

import sys

from benchmarks import predict_speed, report, train_speed
from benchmarks.rows import NoData


def main() -> int:
    options, only = train_speed.parse()
    try:
        training = train_speed.measure(options, only)
        count = 640 if options.quick else 7600
        predict_rows, predict = predict_speed.measure("", options.data, options.shortened().pairs, count)
    except NoData as error:
        print(error, file=sys.stderr)
        return 2
    rows = train_speed.table_rows(training) + predict_rows
    report.print_rows(rows)
    details = {"options": vars(options.shortened()), "train": training, "predict": predict}
    print(report.write_results(rows, details, suffix="-quick" if options.quick else ""))
    # A look is no claim: only a full run redraws the figure that the documentation shows.
    if not options.quick:
        panels = {f"training, {name}": train_speed.rates(sides) for name, sides in training.items()}
        panels["prediction, steady"] = predict["steady"]["rates"]
        print(report.draw_speed(panels, report.ROOT / "docs" / "speed.png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
