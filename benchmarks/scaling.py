"""What a row costs as rows get longer and more: `python -m benchmarks.scaling [--quick]`.

Training with rank 2 on query and value, ours and the expert's Trainer + PEFT in alternation, a child process each. By
length: rows of exactly 32 to 512 tokens of AG News text, run on where one ends. By number: AG News rows as they are,
ours alone. Writes the results file and docs/scaling.png.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.rows import NoData, TrainJob, base_folder, data_folder, encode, read_texts, save_rows
from benchmarks.train_speed import WARMUP_ROWS, alternate, column

LENGTHS = (32, 64, 128, 256, 512)
COUNTS = (1_000, 10_000, 71_276)
TOKENS = 40_000  # timed at each length
WARMUP_TOKENS = 10_000

# {"32": {"ours": [a measurement a pair], "expert": [...]}, ...}
Found = dict[str, dict[str, list[dict[str, Any]]]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1 pair, and at most 1,000 rows: for a look")
    parser.add_argument("--data", default="", help="folder with train.parquet (text, label); default $AGNEWS")
    parser.add_argument("--model", default="minilm", help="minilm, roberta-shape (random weights), or a base's folder")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--counts", type=int, nargs="*", default=COUNTS, help="numbers of rows, ours alone")
    options = parser.parse_args()
    pairs, counts = (1, options.counts[:1]) if options.quick else (options.pairs, options.counts)
    try:
        folder = data_folder(options.data)
    except NoData as error:
        print(error, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as temporary:
        by_length, by_count = measure(folder, options.model, pairs, counts, Path(temporary))
    for name, measured in (("tokens a row", by_length), ("rows", by_count)):
        for size, sides in measured.items():
            report.print_rates(
                f"{size} {name}", {side: column(ones, "rows_per_second") for side, ones in sides.items()}
            )
    suffix = "-scaling-quick" if options.quick else "-scaling"
    details = {"model": options.model, "pairs": pairs, "by_length": by_length, "by_count": by_count}
    print(report.write_results([], details, suffix=suffix))
    if not options.quick:
        print(draw(by_length, report.ROOT / "docs" / "scaling.png"))
    return 0


def measure(folder: Path, model: str, pairs: int, counts: Sequence[int], work: Path) -> tuple[Found, Found]:
    base, tokenizer = base_folder(model, work)
    path = work / "rows.npz"
    by_length: Found = {}
    texts, labels = read_texts(folder, 2_000)
    stream = encode(tokenizer, texts)
    for length in LENGTHS:
        rows = cut_rows(stream, length, TOKENS + WARMUP_TOKENS)
        save_rows(path, rows, np.resize(labels, len(rows)))
        warmup = WARMUP_TOKENS // length
        job = TrainJob(str(base), str(path), warmup, len(rows) - warmup)
        by_length[str(length)] = alternate(["ours", "expert"], job, pairs, f"{length} tokens")
    by_count: Found = {}
    for count in counts:
        texts, labels = read_texts(folder, count + WARMUP_ROWS)
        save_rows(path, encode(tokenizer, texts), labels)
        job = TrainJob(str(base), str(path), WARMUP_ROWS, count)
        by_count[str(count)] = alternate(["ours"], job, 1, f"{count:,} rows")
    return by_length, by_count


def cut_rows(rows: Sequence[np.ndarray], length: int, tokens: int) -> list[np.ndarray]:
    """Returns rows of exactly `length` ids, about `tokens` in all: the ids of `rows` end to end, repeated as needed.

    Every row begins and ends with the special tokens that the first of `rows` has there.
    """
    first, last = rows[0][:1], rows[0][-1:]
    inner = np.concatenate([row[1:-1] for row in rows])
    count = tokens // length
    parts = np.resize(inner, (count, length - 2))
    return [np.concatenate([first, part, last]) for part in parts]


def draw(by_length: Found, path: Path) -> Path:
    """Draws tokens/s and peak memory against the length of a row: the median, and lowest to highest as a bar."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
    panels = (("rows_per_second", "tokens/s"), ("peak_rss_mb", "peak memory, MB"))
    for axis, (key, title) in zip(axes, panels, strict=True):
        for side, label, colour in (("ours", "submillion", "#1b7f5c"), ("expert", "Trainer + PEFT, expert", "#9aa5b1")):
            factors = [int(length) if key == "rows_per_second" else 1 for length in by_length]
            spreads = [report.spread(column(sides[side], key)) for sides in by_length.values()]
            middle = [factor * one.median for factor, one in zip(factors, spreads, strict=True)]
            low = [factor * (one.median - one.low) for factor, one in zip(factors, spreads, strict=True)]
            high = [factor * (one.high - one.median) for factor, one in zip(factors, spreads, strict=True)]
            axis.errorbar(list(by_length), middle, yerr=[low, high], marker="o", capsize=3, label=label, color=colour)
        axis.set_ylim(bottom=0)
        axis.set_xlabel("tokens a row")
        axis.set_title(title, loc="left", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.25)
    axes[0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


if __name__ == "__main__":
    sys.exit(main())
