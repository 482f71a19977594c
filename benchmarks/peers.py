"""The peers: Trainer over peft, as most use it, as its documentation speeds it up, and as an expert would."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.rows import LABELS, MAX_LENGTH, load_rows
from submillion.runtime.batches import evaluation_batches
from submillion.runtime.gpu import FULL_LENGTH
from submillion.training.schedule import WARMUP

SIDES = {
    "usual": "Trainer + PEFT, padded to 128, fp32",
    "flags": "Trainer + PEFT, grouped by length, bf16 autocast",
    "expert": "Trainer + PEFT, base in bf16, grouped by length; attention eager on a CPU, sdpa on a GPU",
}
# A name matches a module's whole path or its end; "attention.output.dense" would end in "output.dense" as well.
_BERT_ALL = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
_MPNET_ALL = ["attn.q", "attn.k", "attn.v", "attn.o", "intermediate.dense", "output.dense"]


def train(side: str, job: dict[str, Any]) -> dict[str, Any]:
    """Runs a Trainer on the warm-up rows, then another on the timed rows with the same model. Reports the second."""
    torch.manual_seed(job["seed"])
    model = _model(side, job)
    pad_id = model.config.pad_token_id
    end = job["warmup"] + job["timed"]
    warm, timed = (_examples(job["rows"], first, last) for first, last in ((0, job["warmup"]), (job["warmup"], end)))
    _fit(side, job, model, warm, pad_id, epochs=1)
    clock, losses = _fit(side, job, model, timed, pad_id, job["epochs"])
    rate = len(timed) * job["epochs"] / clock.seconds
    return {
        "rows_per_second": rate,
        "real_tokens_per_second": rate * float(np.mean([len(row["input_ids"]) for row in timed])),
        "first_loss": losses[0] if losses else float("nan"),
        "final_loss": losses[-1] if losses else float("nan"),
        "steps": clock.steps,
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "rss_mb_after_epoch": clock.rss,
    }


def predict(job: dict[str, Any]) -> dict[str, Any]:
    """Times transformers in bf16 on length-sorted batches of as many tokens as ours; for the GPU."""
    from transformers import AutoModelForSequenceClassification

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        job["base"], num_labels=len(LABELS), dtype=torch.bfloat16, attn_implementation="sdpa"
    )
    model = model.eval().to(device)
    rows = _examples(job["rows"], 0, job["warmup"] + job["timed"])
    _predict_all(model, rows, job["batch"], device)  # every shape once
    start = time.perf_counter()
    _predict_all(model, rows, job["batch"], device)
    return {"rows_per_second": len(rows) / (time.perf_counter() - start)}


@torch.inference_mode()
def _predict_all(model: Any, rows: list[dict[str, Any]], batch: int, device: str) -> None:
    lengths = np.array([len(row["input_ids"]) for row in rows])
    for chosen in evaluation_batches(lengths, batch, FULL_LENGTH):
        inputs = pad([rows[index] for index in chosen], model.config.pad_token_id)
        inputs.pop("labels")
        model(**{name: tensor.to(device) for name, tensor in inputs.items()}).logits.float().cpu()


def _model(side: str, job: dict[str, Any]) -> Any:
    """Returns the stock classifier with adapters and head in fp32; BERT's pretrained pooler stays frozen."""
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForSequenceClassification

    how: dict[str, Any] = {"dtype": torch.float32}
    if side == "expert":
        attention = "sdpa" if torch.cuda.is_available() else "eager"  # eager is the faster on a CPU
        how = {"dtype": torch.bfloat16, "attn_implementation": attention}
    model = AutoModelForSequenceClassification.from_pretrained(job["base"], num_labels=len(LABELS), **how)
    mpnet = model.config.model_type == "mpnet"
    two = ["attn.q", "attn.v"] if mpnet else ["query", "value"]
    targets = (_MPNET_ALL if mpnet else _BERT_ALL) if job["all_linear"] else two
    lora = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=job["rank"],
        lora_alpha=job["alpha"],
        lora_dropout=0.0,
        # peft matches names by their end, so the pooler and the head never match these; listed by name to be sure.
        target_modules=[
            name
            for name, _ in model.named_modules()
            if ".layer." in name and any(name.endswith("." + end) for end in targets)
        ],
        modules_to_save=["classifier"],
    )
    adapted = get_peft_model(model, lora)
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # the expert's head too: in bf16 its small updates would be lost
        elif side == "expert" and "classifier" in name:
            parameter.data = parameter.data.float()
    if side == "expert":
        _feed_head_fp32(adapted)
    return adapted


def _feed_head_fp32(model: Any) -> None:
    """Casts the head's input to fp32: its parameters are fp32, and the encoder computes in bf16."""
    for name, module in model.named_modules():
        if name.endswith("classifier.modules_to_save.default"):
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(), *inputs[1:]))


def _examples(path: str, start: int, stop: int) -> list[dict[str, Any]]:
    ids, labels = load_rows(path, start, stop)
    return [{"input_ids": row.tolist(), "labels": int(label)} for row, label in zip(ids, labels, strict=True)]


def pad(rows: list[dict[str, Any]], pad_id: int, length: int = 0) -> dict[str, Tensor]:
    """Returns input_ids, attention_mask, labels, padded to `length`, or to the longest row if it is 0."""
    width = length or max(len(row["input_ids"]) for row in rows)
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row["input_ids"])] = row["input_ids"]
        mask[place, : len(row["input_ids"])] = 1
    labels = torch.tensor([row["labels"] for row in rows])
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask), "labels": labels}


def _clock() -> Any:
    from transformers import TrainerCallback

    from benchmarks.ours import resident_mb

    class Clock(TrainerCallback):
        """Takes the seconds from the start of the first epoch, before its first batch, to the end of the last step."""

        def __init__(self) -> None:
            self.start = self.seconds = 0.0
            self.steps = 0
            self.rss: list[float] = []

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.start = self.start or time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if args.device.type == "cuda" and state.global_step == state.max_steps:
                torch.cuda.synchronize()
            self.seconds = time.perf_counter() - self.start
            self.steps = state.global_step

        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.rss.append(resident_mb())

    return Clock()


def _fit(
    side: str, job: dict[str, Any], model: Any, rows: list[dict[str, Any]], pad_id: int, epochs: int
) -> tuple[Any, list[float]]:
    """Trains, and returns the clock and the mean loss of every ten steps (of all steps if there are fewer)."""
    from transformers import Trainer, TrainingArguments

    grouped = side != "usual"
    steps = -(-len(rows) // job["batch"]) * epochs
    clock = _clock()
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=str(Path(folder)),
            per_device_train_batch_size=job["batch"],
            learning_rate=job["learning_rate"],
            lr_scheduler_type="linear",
            warmup_steps=WARMUP,  # a share of the steps, and so of ours: the last losses are compared
            num_train_epochs=epochs,
            weight_decay=0.01,
            optim="adamw_torch_fused",
            train_sampling_strategy="group_by_length" if grouped else "random",
            bf16=side == "flags",
            use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=torch.cuda.is_available(),
            logging_steps=min(10, steps),
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            seed=job["seed"],
        )
        length = 0 if grouped else MAX_LENGTH
        trainer = Trainer(
            model=model,
            args=args,
            train_dataset=rows,  # type: ignore[arg-type]
            data_collator=lambda batch: pad(batch, pad_id, length),
            callbacks=[clock],
        )
        _silence(trainer)
        trainer.train()
    return clock, [record["loss"] for record in trainer.state.log_history if "loss" in record]


def _silence(trainer: Any) -> None:
    """Stops the Trainer from printing: standard output is for the one JSON line."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
