"""Training speed and memory against three Trainer + PEFT peers: `python -m benchmarks.train_speed [--quick]`.

Every measurement is a child process. Its warm-up steps (kernels, caches, first pages) and its start are not timed.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.rows import NoData, TrainJob, base_folder, data_folder, encode, read_texts, run_child, save_rows

PEERS = {
    "usual": "Trainer + PEFT, padded, fp32",
    "flags": "Trainer + PEFT, documented flags",
    "expert": "Trainer + PEFT, expert",
}
WARMUP_ROWS = 640  # twenty steps: most of the batch shapes that an epoch has


@dataclass(frozen=True)
class Options:
    quick: bool = False
    data: str = ""
    model: str = "minilm"
    pairs: int = 5
    rows: int = 3200
    pooling: str = "first"

    def shortened(self) -> "Options":
        return replace(self, pairs=min(self.pairs, 2), rows=min(self.rows, 640)) if self.quick else self

    @property
    def slow_rows(self) -> int:
        """The rows of both sides beside the padded fp32 peer, which is four times slower than the others."""
        return min(self.rows, 320 if self.quick else 960)


def configurations(model: str) -> dict[str, dict[str, Any]]:
    """Returns the adapters and the peers of each comparison. A large base is compared with the fastest peer alone."""
    all_peers = list(PEERS) if model == "minilm" else ["expert"]
    return {
        "r2 query,value": {"rank": 2, "alpha": 4.0, "all_linear": False, "peers": all_peers},
        "r8 all linear": {"rank": 8, "alpha": 16.0, "all_linear": True, "peers": ["expert"]},
    }


TARGETS = {
    ("r2 query,value", "usual"): 13.0,
    ("r2 query,value", "flags"): 3.0,
    ("r2 query,value", "expert"): 2.5,
    ("r8 all linear", "expert"): 3.0,
}


def measure(options: Options, only: str = "") -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Returns {"configuration / peer": {"ours": [a measurement per pair], peer: [...]}}; the sides alternate."""
    options = options.shortened()
    measured: dict[str, dict[str, list[dict[str, Any]]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        base, tokenizer = base_folder(options.model, work)
        texts, labels = read_texts(data_folder(options.data), options.rows + WARMUP_ROWS)
        save_rows(work / "rows.npz", encode(tokenizer, texts), labels)
        for name, setting in configurations(options.model).items():
            if only and only not in name:
                continue
            for peer in setting["peers"]:
                job = TrainJob(
                    base=str(base),
                    rows=str(work / "rows.npz"),
                    warmup=WARMUP_ROWS,
                    timed=options.slow_rows if peer == "usual" else options.rows,
                    rank=setting["rank"],
                    alpha=setting["alpha"],
                    all_linear=setting["all_linear"],
                    pooling=options.pooling,
                )
                measured[f"{name} / {peer}"] = alternate(["ours", peer], job, options.pairs, name)
    return measured


def alternate(sides: list[str], job: TrainJob, pairs: int, title: str = "") -> dict[str, list[dict[str, Any]]]:
    measured: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for pair in range(pairs):
        for side in sides:
            one = run_child(side, replace(job, seed=pair))
            measured[side].append(one)
            print(
                f"{title}: pair {pair + 1}, {side}: {one['rows_per_second']:.1f} rows/s, "
                f"loss {one['first_loss']:.3f} -> {one['final_loss']:.3f}, {one['trainable']:,} trainable, "
                f"{one['peak_rss_mb']:.0f} MB",
                file=sys.stderr,
                flush=True,
            )
    return measured


def rates(measured: dict[str, list[dict[str, Any]]]) -> dict[str, list[float]]:
    names = {"ours": "submillion"} | PEERS
    return {names[side]: [one["rows_per_second"] for one in ones] for side, ones in measured.items()}


def column(ones: list[dict[str, Any]], key: str) -> list[float]:
    return [one[key] for one in ones]


def table_rows(measured: dict[str, dict[str, list[dict[str, Any]]]]) -> list[report.Row]:
    rows = []
    for name, sides in measured.items():
        setting, peer = name.split(" / ")
        ours, theirs = sides["ours"], sides[peer]
        ratio = report.paired_ratios(column(ours, "rows_per_second"), column(theirs, "rows_per_second"))
        note = learning_note(ours, theirs)
        target = TARGETS.get((setting, peer), 2.5)
        rows.append(report.Row(f"train {setting}: rows/s vs {PEERS[peer]}", "x", target, ratio, note=note))
        if peer == "expert":
            memory = report.paired_ratios(column(ours, "peak_rss_mb"), column(theirs, "peak_rss_mb"))
            rows.append(report.Row(f"train {setting}: peak memory vs {PEERS[peer]}", "x", 0.5, memory, "low"))
            if setting.startswith("r2"):
                for kind in ("bf16", "int8") if ours[0]["precision"] == "int8" else (ours[0]["precision"],):
                    shares = report.spread([100 * share(one, kind) for one in ours])
                    rows.append(report.Row(f"train {setting}: share of the {kind} matmul roof", "%", 70.0, shares))
    return rows


def learning_note(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> str:
    """Returns "" if ours ends within the band of the peer's loss: a faster loop that learns less is no faster loop."""
    mine, other = (report.spread(column(ones, "final_loss")).median for ones in (ours, theirs))
    return "" if report.learns(mine, other) else f"does not learn: loss {mine:.3f}, theirs {other:.3f}"


def share(one: dict[str, Any], kind: str) -> float:
    """Returns the share of the rate of matrix products alone in that type; above 1 if the run's type is faster."""
    peak = one["matmul_flops"][kind]
    return report.roof_share(one["encoder_parameters"], one["real_tokens_per_second"], peak)


def parse(argv: list[str] | None = None) -> tuple[Options, str]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_speed", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 pairs of 640 rows: for a look, not for a claim")
    parser.add_argument("--data", default="", help="folder with train.parquet (text, label); default $AGNEWS")
    parser.add_argument("--model", default="minilm", help="minilm, roberta-shape (random weights), or a base's folder")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=3200, help="rows timed on each side")
    parser.add_argument("--pooling", choices=("first", "mean"), default="first", help="ours; the peers read the first")
    parser.add_argument("--only", default="", help="r2 or r8")
    values = vars(parser.parse_args(argv))
    only = values.pop("only")
    return Options(**values), only


def main() -> int:
    options, only = parse()
    try:
        measured = measure(options, only)
    except NoData as error:
        print(error, file=sys.stderr)
        return 2
    for name, sides in measured.items():
        report.print_rates(name, rates(sides))
    rows = table_rows(measured)
    report.print_rows(rows)
    details = {"options": vars(options.shortened()), "train": measured}
    suffix = "-train-quick" if options.quick else "-train"
    print(report.write_results(rows, details, suffix=suffix))
    return 0


if __name__ == "__main__":
    sys.exit(main())
