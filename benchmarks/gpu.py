"""The same comparison on a GPU, in one command: `python -m benchmarks.gpu [--quick]`.

roberta-base's shape with random weights, AG News texts, rank 2 on query and value: training against the expert's
Trainer + PEFT, the share of the bf16 roof, and prediction against transformers in bf16.
Every measurement is a child process. Without a GPU it ends with an error, code 2.
"""

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.rows import (
    ROBERTA_SHAPE,
    NoData,
    TrainJob,
    base_folder,
    data_folder,
    encode,
    read_texts,
    run_child,
    save_rows,
)
from benchmarks.train_speed import alternate, column, learning_note, share

WARMUP = 3_200
PREDICT_BATCH = 128  # of 512 tokens, and more of shorter rows, on both sides: less keeps a GPU waiting for launches


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1 pair of 12,800 rows: for a look, not for a claim")
    parser.add_argument("--data", default="", help="folder with train.parquet (text, label); default $AGNEWS")
    parser.add_argument("--model", default=ROBERTA_SHAPE, help="roberta-shape, minilm, or a base's folder")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=64_000, help="rows timed on each side")
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        print(
            f"torch {torch.__version__} sees no GPU here\nfix: a machine with one, and torch for CUDA", file=sys.stderr
        )
        return 2
    pairs, count = (1, 12_800) if options.quick else (options.pairs, options.rows)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        try:
            texts, labels = read_texts(data_folder(options.data), WARMUP + count)
        except NoData as error:
            print(error, file=sys.stderr)
            return 2
        base, tokenizer = base_folder(options.model, work)
        save_rows(work / "rows.npz", encode(tokenizer, texts), labels)
        job = TrainJob(str(base), str(work / "rows.npz"), WARMUP, count, batch=options.batch)
        train = alternate(["ours", "expert"], job, pairs, "train")
        predict: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}
        for _ in range(pairs):
            for side, ones in predict.items():
                ones.append(run_child(f"gpu-predict-{side}", asdict(job) | {"batch": PREDICT_BATCH}))
    rows = table_rows(train, predict)
    report.print_rows(rows)
    details = {"options": vars(options), "train": train, "predict": predict}
    print(report.write_results(rows, details, suffix="-gpu-quick" if options.quick else "-gpu"))
    return 0


def table_rows(train: dict[str, list[dict[str, Any]]], predict: dict[str, list[dict[str, Any]]]) -> list[report.Row]:
    """Compares with the goals for one H100: 12,000 rows/s in training, 3x the expert's, 40 % of the roof, and so on."""
    ours, expert = train["ours"], train["expert"]
    rate, theirs = column(ours, "rows_per_second"), column(expert, "rows_per_second")
    predicted = {side: column(ones, "rows_per_second") for side, ones in predict.items()}
    ratio = report.paired_ratios(predicted["ours"], predicted["peer"])
    note = learning_note(ours, expert)
    return [
        report.Row("train, rows/s", "", 12_000, report.spread(rate), note=note),
        report.Row("train, vs Trainer + PEFT, expert", "x", 3.0, report.paired_ratios(rate, theirs), note=note),
        report.Row(
            "train, share of the matmul roof", "%", 40.0, report.spread([100 * share(one, "bf16") for one in ours])
        ),
        report.Row("predict, rows/s", "", 50_000, report.spread(predicted["ours"])),
        report.Row("predict, vs transformers bf16", "x", 1.0, ratio),
    ]


if __name__ == "__main__":
    sys.exit(main())
