"""Prediction speed against transformers, ONNX Runtime and OpenVINO: `python -m benchmarks.predict_speed [--quick]`.

Three questions, each with its sides in alternation: a file of texts to a file of labels, process start included; the
steady rate on length-sorted batches of 32 in one process; ten texts, from the shell to the last byte. The model is a
saved one of ours (`--model`), or one trained here first; the peers run its encoder, adapters merged, and its head.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.report import ROOT
from benchmarks.rows import ENCODER_ALONE, NoData, child_environment, data_folder, read_texts, write_texts
from submillion.config.values import flag_name, shown

BATCH = 32
TRAINED_ROWS = 4_000
Engine = Callable[[np.ndarray, np.ndarray], np.ndarray]  # input_ids, mask int64 [batch, length] -> logits
TARGETS = {"file": 8.0, "steady": 1.3, "ten": 2.5}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predict_speed", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 repetitions of 640 rows: for a look, not for a claim")
    parser.add_argument("--model", default="", help="a folder with model.pt: mean pooling, linear head, encoder alone")
    parser.add_argument("--data", default="", help="folder with train.parquet and test.parquet; default $AGNEWS")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=7600)
    parser.add_argument("--only", nargs="+", choices=list(parts()), default=[], help="of the three")
    options = parser.parse_args()
    pairs, count = (2, 640) if options.quick else (options.pairs, options.rows)
    try:
        rows, details = measure(options.model, options.data, pairs, count, options.only)
    except NoData as error:
        print(error, file=sys.stderr)
        return 2
    report.print_rows(rows)
    details["options"] = vars(options)
    print(report.write_results(rows, details, suffix="-predict-quick" if options.quick else "-predict"))
    return 0


def parts() -> dict[str, Callable[[Path, Path, list[str], int], tuple[report.Row, dict[str, Any]]]]:
    """Returns the three questions by name."""
    return {part.__name__: part for part in (steady, from_file, ten_texts)}


def measure(
    model: str, data: str, pairs: int, count: int, only: Sequence[str] = ()
) -> tuple[list[report.Row], dict[str, Any]]:
    """Returns the table's rows, and every measurement, of the `parts` that `only` names, or of all.

    Without a model, one is trained first on a few thousand rows.
    """
    folder = data_folder(data)
    texts, _ = read_texts(folder, count, "test.parquet")
    rows, details = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        saved = Path(model).resolve() if model else trained(folder, work)
        export(saved, work / "merged")
        export_adapter(saved, work / "adapter")
        for name in only or parts():
            row, details[name] = parts()[name](saved, work, texts, pairs)
            rows.append(row)
    return rows, details


def trained(folder: Path, work: Path) -> Path:
    """Trains on TRAINED_ROWS rows: agreement of labels means nothing for a model that has learned nothing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts, labels = read_texts(folder, TRAINED_ROWS)
    pq.write_table(pa.table({"text": texts, "label": labels}), work / "train.parquet")
    settings = ["--data.source", str(work / "train.parquet"), "--output.dir", str(work / "model")]
    settings += ["--train.epochs", "1"]
    for key, value in ENCODER_ALONE.items():  # the engines that it is compared with have neither n-grams nor spelling
        settings += [flag_name(key), *shown(value).split()]
    command = [sys.executable, "-m", "submillion", "train", "--recipe", str(ROOT / "recipes" / "agnews-minilm.toml")]
    done = subprocess.run([*command, *settings], cwd=ROOT, env=child_environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"training failed ({done.returncode}):\n{done.stderr[-3000:]}")
    return work / "model"


def steady(model: Path, work: Path, texts: list[str], pairs: int) -> tuple[report.Row, dict[str, Any]]:
    """Measures rows/s of every engine in this process, without tokenization, and how many labels equal fp32's."""
    from submillion.inference.classifier import Classifier
    from submillion.runtime.forward import compute_logits

    ours = Classifier.load(model)
    tokens = ours.tokenizer.encode(texts, ours.config.model.max_length)
    ids = [tokens.row(row) for row in range(len(tokens))]
    order = sorted(range(len(ids)), key=lambda row: -len(ids[row]))
    batches = [padded([ids[row] for row in order[at : at + BATCH]]) for at in range(0, len(order), BATCH)]

    def in_turn(logits: Engine) -> Callable[[], np.ndarray]:
        def labels() -> np.ndarray:
            answers = np.empty(len(order), dtype=np.int64)
            answers[order] = np.concatenate([logits(input_ids, mask).argmax(axis=1) for input_ids, mask in batches])
            return answers

        return labels

    # Ours sorts and pads each time too, because it computes some rows again, in batches of their own.
    sides = {"submillion": lambda: compute_logits(ours.network, ours.task, tokens, BATCH, ours.compute).argmax(axis=1)}
    sides |= {name: in_turn(logits) for name, logits in peer_engines(work).items()}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    labels: dict[str, np.ndarray] = {}
    for pair in range(pairs + 1):  # the first, not counted, meets every shape once
        for name, side in sides.items():
            start = time.perf_counter()
            labels[name] = side()
            if pair:
                rates[name].append(len(texts) / (time.perf_counter() - start))
                print(f"steady, {name}: {rates[name][-1]:.1f} rows/s", file=sys.stderr, flush=True)
    agreement = {name: float((answers == labels["transformers fp32"]).mean()) for name, answers in labels.items()}
    report.print_rates("steady prediction", rates)
    for name, share in agreement.items():
        print(f"{name}: the labels of transformers fp32 on {share:.2%} of {len(texts):,} rows")
    best = max((name for name in sides if name != "submillion"), key=lambda name: report.spread(rates[name]).median)
    ratio = report.paired_ratios(rates["submillion"], rates[best])
    note = f"best: {best}; ours agrees with fp32 on {agreement['submillion']:.2%}, it on {agreement[best]:.2%}"
    row = report.Row("predict, steady, vs the best engine", "x", TARGETS["steady"], ratio, note=note)
    return row, {"rates": rates, "agreement": agreement}


def peer_engines(work: Path) -> dict[str, Engine]:
    """Returns the peers' engines, by name, on the model that `export` wrote."""
    import onnxruntime
    import openvino
    import torch
    from onnxruntime.quantization import quantize_dynamic

    exact = load_merged(work / "merged", torch.float32)
    example = torch.ones(2, 8, dtype=torch.int64)
    dynamic = {name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask")}
    onnx, small = str(work / "model.onnx"), str(work / "int8.onnx")
    torch.onnx.export(
        exact, (example, example), onnx, input_names=list(dynamic), dynamic_axes=dynamic, opset_version=17, dynamo=False
    )
    quantize_dynamic(onnx, small)
    threads = torch.get_num_threads()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads

    def of_torch(module: torch.nn.Module) -> Engine:
        @torch.inference_mode()
        def logits(input_ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
            return module(torch.from_numpy(input_ids), torch.from_numpy(mask)).float().numpy()

        return logits

    def of_onnx(path: str) -> Engine:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda input_ids, mask: session.run(None, {"input_ids": input_ids, "attention_mask": mask})[0]

    compiled = openvino.Core().compile_model(onnx, "CPU", {"INFERENCE_NUM_THREADS": threads})
    return {
        "ONNX Runtime fp32": of_onnx(onnx),
        "ONNX Runtime int8": of_onnx(small),
        "OpenVINO": lambda input_ids, mask: compiled([input_ids, mask])[0],
        "transformers bf16": of_torch(load_merged(work / "merged", torch.bfloat16)),
        "transformers fp32": of_torch(exact),
    }


def padded(ids: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    length = max(map(len, ids))
    mask = np.arange(length) < np.array([len(row) for row in ids])[:, None]
    input_ids = np.zeros(mask.shape, dtype=np.int64)
    input_ids[mask] = np.concatenate(ids)
    return input_ids, mask.astype(np.int64)


def from_file(model: Path, work: Path, texts: list[str], pairs: int) -> tuple[report.Row, dict[str, Any]]:
    write_texts(work / "texts.csv", texts)
    seconds = alternate(commands(model, work, "texts.csv", "pipeline"), work, pairs, "file to file")
    ratio = report.paired_ratios(seconds["transformers"], seconds["submillion"])
    name = f"predict {len(texts):,} rows, file to file, vs pipeline in fp32"
    return report.Row(name, "x", TARGETS["file"], ratio), {"seconds": seconds}


def ten_texts(model: Path, work: Path, texts: list[str], pairs: int) -> tuple[report.Row, dict[str, Any]]:
    write_texts(work / "ten.csv", texts[:10])
    seconds = alternate(commands(model, work, "ten.csv", "adapter"), work, pairs, "ten texts")
    ratio = report.paired_ratios(seconds["transformers"], seconds["submillion"])
    row = report.Row("predict 10 texts from the shell, vs transformers + peft", "x", TARGETS["ten"], ratio)
    return row, {"seconds": seconds}


def commands(model: Path, work: Path, texts: str, script: str) -> dict[str, list[str]]:
    peer = [sys.executable, "-m", "benchmarks.predict_peer", script, str(work), str(work / texts), str(work / "p.csv")]
    ours = [sys.executable, "-m", "submillion", "predict", str(work / texts), "--model", str(model)]
    return {"submillion": [*ours, "--output", str(work / "o.csv")], "transformers": peer}


def alternate(sides: dict[str, list[str]], work: Path, pairs: int, title: str) -> dict[str, list[float]]:
    """Times each command from start to end, in seconds; a first run, not counted, brings its files into memory."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for pair in range(pairs + 1):
        for name, command in sides.items():
            start = time.perf_counter()
            subprocess.run(command, cwd=ROOT, env=child_environment(), check=True, capture_output=True)
            if pair:
                seconds[name].append(time.perf_counter() - start)
                print(f"{title}, {name}: {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)
    return seconds


def export(model: Path, folder: Path) -> None:
    """Writes the encoder with the adapters merged, as transformers saves it, the tokenizer, and the head's tensors."""
    import torch

    from submillion.inference.classifier import Classifier

    ours = Classifier.load(model, precision="fp32")
    theirs = _base(ours)
    with torch.no_grad():
        state = theirs.state_dict()
        for name, tensor in ours.network.encoder.published_tensors().items():
            state[name].copy_(tensor)
    theirs.save_pretrained(folder)
    head = ours.network.head.out_proj
    torch.save({"weight": head.weight.detach(), "bias": head.bias.detach()}, folder / "head.pt")
    (folder / "tokenizer.json").write_text(ours.tokenizer.to_str(), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}'
    )


def export_adapter(model: Path, folder: Path) -> None:
    """Writes random adapters of the stock classifier, as peft saves them: only its time counts."""
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForSequenceClassification

    base = folder.parent / "merged"
    theirs = AutoModelForSequenceClassification.from_pretrained(base, num_labels=4)
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=2, lora_alpha=4, target_modules=["query", "value"])
    get_peft_model(theirs, config).save_pretrained(str(folder))


def _base(ours: Any) -> Any:
    from transformers import AutoModel

    from submillion.model.base import find_base

    return AutoModel.from_pretrained(find_base(ours.config.model.base).folder)


def load_merged(folder: Path, dtype: Any) -> Any:
    """Returns encoder, mean pooling and head that `export` wrote, in dtype; the head in fp32."""
    import torch
    from transformers import AutoModel

    class Merged(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = AutoModel.from_pretrained(folder, dtype=dtype).eval()
            state = torch.load(folder / "head.pt")
            self.head = torch.nn.Linear(state["weight"].shape[1], len(state["bias"]))
            self.head.load_state_dict(state)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
            weights = attention_mask.unsqueeze(-1).float()
            return self.head((hidden * weights).sum(dim=1) / weights.sum(dim=1))

    return Merged().eval()


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.exit(main())
