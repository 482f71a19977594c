"""The peer without a budget: full fine-tuning by transformers, in which every parameter of the encoder trains.

Rows, splits, pooling, batches, schedule and the step that is kept are as in submillion's recipes, so only what trains
differs. Parameters are in fp32, products in bf16 by autocast, as most run it.
"""

import copy
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.rows import LABELS
from submillion.config.schema import Config
from submillion.data.columns import NO_COLUMNS
from submillion.data.corpus import Corpus
from submillion.model.base import find_base
from submillion.runtime.batches import evaluation_batches, pad_batch, training_batches
from submillion.seeds import numpy_generator
from submillion.tasks.one_label import OneLabel
from submillion.text.tokenizer import Tokenizer, Tokens
from submillion.training.schedule import learning_rate_factor
from submillion.training.state import adamw
from submillion.training.step import MAX_GRAD_NORM

HEAD_DROPOUT = 0.1
LENGTH_MULTIPLE = 8


class FullFineTuned(nn.Module):
    """transformers' encoder, mean-pooled, and a linear head, with the part of the Classifier that measuring reads."""

    task, label_names, columns = OneLabel(LABELS), LABELS, NO_COLUMNS

    def __init__(self, base: str, max_length: int) -> None:
        from transformers import AutoModel

        super().__init__()
        folder = find_base(base).folder
        self.encoder = AutoModel.from_pretrained(folder, dtype=torch.float32)
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None  # it does not take part, and is not counted
        self.head = nn.Linear(self.encoder.config.hidden_size, len(LABELS))
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.temperature = 1.0
        self._tokenizer, self._max_length = Tokenizer.from_folder(folder), max_length
        self.to("cuda" if torch.cuda.is_available() else "cpu")

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Returns logits, fp32 [batch, labels], of int64 [batch, length] each."""
        with torch.autocast(input_ids.device.type, torch.bfloat16):
            hidden_states = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0].float()
        mask = attention_mask[:, :, None].float()
        pooled = (hidden_states * mask).sum(dim=1) / mask.sum(dim=1)
        return self.head(F.dropout(pooled, HEAD_DROPOUT, self.training))

    def encode(self, texts: Sequence[str]) -> Tokens:
        return self._tokenizer.encode(texts, self._max_length)

    def inputs(self, tokens: Tokens, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Returns input_ids and attention_mask on the model's device."""
        pad_id, device = self.encoder.config.pad_token_id, self.head.weight.device
        input_ids, attention_mask = pad_batch(tokens, rows, pad_id, self._max_length, LENGTH_MULTIPLE)
        return input_ids.to(device, non_blocking=True), attention_mask.to(device, non_blocking=True)

    @torch.inference_mode()
    def logits(self, texts: Sequence[str] | Tokens, *_: object) -> np.ndarray:
        """Returns fp32 [rows, labels], of texts or of their tokens."""
        self.eval()
        tokens = texts if isinstance(texts, Tokens) else self.encode(texts)
        logits = np.zeros((len(tokens), len(LABELS)), dtype=np.float32)
        for rows in evaluation_batches(tokens.lengths, 256):
            logits[rows] = self(*self.inputs(tokens, rows)).cpu().numpy()
        return logits

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        return self.task.probabilities(logits.astype(np.float64), self.temperature)


def fine_tune(config: Config, corpus: Corpus) -> tuple[FullFineTuned, dict[str, Any]]:
    """Trains every parameter. Returns the model of the epoch with the lowest validation loss, and metrics as `train`'s.

    config gives the base, the longest row, the seed, the batch size, the learning rate and the epochs.
    """
    torch.manual_seed(config.seed)
    settings, order = config.train, numpy_generator(config.seed, "order")
    model = FullFineTuned(config.model.base, config.model.max_length)
    tokens, validation = model.encode(corpus.train.texts), model.encode(corpus.validation.texts)
    labels = torch.from_numpy(corpus.train.labels).to(model.head.weight.device)
    optimizer = adamw(list(model.parameters()), settings.learning_rate)
    total, step = -(-len(tokens) // settings.batch_size) * settings.epochs, 0
    best: dict[str, Any] = {"loss": float("inf")}
    start = time.perf_counter()
    for _ in range(settings.epochs):
        model.train()
        for rows in training_batches(tokens.lengths, settings.batch_size, order):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * learning_rate_factor(step, total)
            logits = model(*model.inputs(tokens, rows))
            F.cross_entropy(logits, labels[torch.from_numpy(rows).to(labels.device)]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
        validation_logits = model.logits(validation)
        metrics = model.task.metrics(validation_logits, corpus.validation.labels)
        if metrics["loss"] < best["loss"]:
            best = metrics
            best_step, best_logits, best_state = step, validation_logits, copy.deepcopy(model.state_dict())
    seconds = time.perf_counter() - start
    model.load_state_dict(best_state)
    model.temperature = model.task.fit_temperature(best_logits, corpus.validation.labels)
    count = sum(parameter.numel() for parameter in model.parameters())
    return model, {
        "parameters": {"trainable": count, "total": count},
        "training_seconds": seconds,
        "temperature": model.temperature,
        "validation": best,
        "best_step": best_step,
        "steps": step,
    }
