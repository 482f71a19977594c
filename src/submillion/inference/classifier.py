"""The object a user holds: a saved model, ready to predict."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from submillion.config.schema import Config
from submillion.data.columns import NO_COLUMNS, Columns
from submillion.data.texts import texts_of
from submillion.errors import ArtefactError, ConfigError, DataError
from submillion.inference.artefact import FILE_NAME, Artefact, is_adapter, shape_to_json
from submillion.inference.pretrained import read_transformers
from submillion.model.base import Base, find_base
from submillion.model.checkpoint import read_checkpoint
from submillion.model.classifier import TextClassifier
from submillion.model.config_json import read_shape
from submillion.model.spec import NetworkSpec
from submillion.process.forks import piece_of_work
from submillion.process.settings import own_settings
from submillion.runtime.batches import EVALUATION_ROWS
from submillion.runtime.device import Compute, choose_compute
from submillion.runtime.distributed import ALONE, World
from submillion.runtime.forward import compute_logits
from submillion.runtime.progress import Advance
from submillion.tasks.saved import task_from, task_of
from submillion.tasks.task import Task
from submillion.text.spelling import Spelling
from submillion.text.tokenizer import Tokenizer
from submillion.text.vocabulary import files_hash


class Classifier:
    """A trained text classifier.

    model = Classifier.load("best_model")
    model.predict(["Oil prices climb as OPEC meets"])    # ["Business"]
    model.predict_proba(texts)                           # float32 [rows, labels]

    Threads may share one: each gets the answers that it would get alone.
    """

    def __init__(
        self,
        network: TextClassifier,
        task: Task,
        tokenizer: Tokenizer,
        spec: NetworkSpec,
        config: Config,
        compute: Compute,
        temperature: float = 1.0,
        trained_rows: Mapping[str, Any] | None = None,
        columns: Columns = NO_COLUMNS,
    ) -> None:
        """Keeps the merged network alone: each pass uses it as it is.

        config: as asked. spec: what it came to. trained_rows: `Artefact.rows`. columns: the columns of those rows.
        """
        self.network = network.merged()
        self.task = task
        self.tokenizer = tokenizer
        self.spec = spec
        self.config = config
        self.compute = compute
        self.temperature = temperature
        self.trained_rows = dict(trained_rows or {})
        self.columns = columns

    @property
    def label_names(self) -> tuple[str, ...]:
        """Returns the label names in the order of the logits."""
        return self.task.label_names

    @classmethod
    @piece_of_work()
    @own_settings()
    def load(
        cls,
        path: str | Path = "best_model",
        *,
        base: str | Path = "",
        precision: str = "auto",
        adapter_scale: float = 1.0,
    ) -> "Classifier":
        """Loads a folder with model.pt, or a .pt file.

        base: where the pretrained encoder is now, if not where it was in training. precision: "auto" is fp32 for a
        model that was trained in it; else int8 if the model was measured in that, is not scaled since, and the
        processor gains by it, else bf16 if it is fast, else fp32; "bf16", "fp32" and "int8" insist. In int8, rows
        that are close between two labels are computed in bf16; of a model that was not measured in it, none are.
        adapter_scale: 1 is the model as saved, 0 the pretrained encoder under the trained head, and between them lies
        a model that gives up some accuracy on rows like those trained on for rows unlike them, at no cost (WiSE-FT,
        Wortsman et al., 2022, arXiv:2109.01903).
        Raises ConfigError for a scale outside 0 to 2, and for one other than 1 if encoder layers trained in full;
        ArtefactError if the file is not whole, or the base or its tokenizer is not the one it was trained on;
        BaseModelError if the base is not to be found.
        """
        artefact = Artefact.load(Path(path))
        config, (spec, _) = artefact.configuration(), artefact.specs()
        found = own_base(artefact, str(base))
        if not 0 <= adapter_scale <= 2:
            raise ConfigError(f"--adapter-scale: expected 0 to 2 (1: as saved), found {adapter_scale:g}")
        if spec.unfreeze_layers and adapter_scale != 1:
            raise ConfigError(
                "--adapter-scale: expected 1 for a model whose last encoder layers trained in full "
                f"(model.unfreeze_layers = {spec.unfreeze_layers}), found {adapter_scale:g}\n"
                "what they learned is in no adapter that could be scaled\nfix: leave it out"
            )
        network = load_network(artefact, found)
        network.scale_adapters(adapter_scale)
        if precision == "auto" and artefact.precision == "fp32":
            precision = "fp32"
        compute, margin = choose_compute(precision), artefact.calibration.get("int8_margin")
        if precision == "auto" and (margin is None or adapter_scale != 1):
            compute = replace(compute, int8=False)
        network.to_compute(compute.dtype, compute.device)
        network.use_int8((margin or 0.0) if compute.int8 else None)
        spelling = Spelling(artefact.words) if artefact.words else None
        tokenizer = Tokenizer.from_str(artefact.tokenizer, artefact.tokenizer_sha256, spelling)
        temperature = artefact.calibration["temperature"]
        columns = artefact.trained_columns()
        task = task_from(artefact.task)
        return cls(network, task, tokenizer, spec, config, compute, temperature, artefact.rows, columns)

    @classmethod
    @piece_of_work()
    @own_settings()
    def from_pretrained(cls, name: str | Path, *, precision: str = "auto") -> "Classifier":
        """Opens a fine-tuned sequence classifier that transformers saved, of any family that trains here.

        name: a folder or a hub id. precision: "auto" is fp32 here, so that the logits are those of transformers; "bf16"
        is faster if the machine has it, and "int8" again. Raises BaseModelError if it is another kind of model,
        not whole, or one whose texts transformers would read otherwise.
        """
        opened = read_transformers(find_base(str(name)))
        compute = choose_compute("fp32" if precision == "auto" else precision)
        opened.network.to_compute(compute.dtype, compute.device, compute.int8)
        return cls(opened.network, task_of(opened.label_names), opened.tokenizer, opened.spec, opened.config, compute)

    def logits(
        self, texts: Sequence[str], batch_size: int = 0, advance: Advance | None = None, world: World = ALONE
    ) -> np.ndarray:
        """Returns float32 [rows, labels], before the softmax and uncalibrated.

        texts: a sequence of str: a list, a tuple, a column of pandas, polars, pyarrow or datasets, an array of numpy.
        batch_size 0: that of training's evaluations. world: the processes that share the work; each calls this with
        the same texts and gets all logits. Raises TypeError if texts are no sequence, DataError naming the rows that
        are no text, or of which the tokenizer makes no token, and ValueError for a batch_size below 0.
        """
        if batch_size < 0:
            raise ValueError(f"batch_size: expected at least 0, found {batch_size}")
        return self.logits_of_checked(texts_of(texts), batch_size, advance, world)

    @own_settings()
    def logits_of_checked(
        self, texts: list[str], batch_size: int = 0, advance: Advance | None = None, world: World = ALONE
    ) -> np.ndarray:
        """Returns what `logits` does, for texts that were checked when their file was."""
        tokens = self.tokenizer.encode(texts, self.spec.max_length, content=self.spec.ngram_buckets > 0)
        _check_rows(tokens.lengths)
        batch_size = batch_size or EVALUATION_ROWS
        return compute_logits(self.network, self.task, tokens, batch_size, self.compute, advance, world)

    def predict_proba(self, texts: Sequence[str], batch_size: int = 0) -> np.ndarray:
        """Returns calibrated probabilities, float32 [rows, labels], each row summing to 1."""
        return self.probabilities(self.logits(texts, batch_size))

    def predict(self, texts: Sequence[str], batch_size: int = 0) -> list[str]:
        """Returns the label name of each text."""
        return self.task.names(self.task.decode(self.logits(texts, batch_size)))

    @own_settings()
    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Returns calibrated probabilities, float32 [rows, labels]."""
        return self.task.probabilities(logits, self.temperature)


def is_checkpoint(path: Path) -> bool:
    """Returns whether the folder is a checkpoint of transformers, and neither one of our models nor a PEFT adapter."""
    ours = (path / FILE_NAME).exists() or is_adapter(path)
    return path.is_dir() and not ours and (path / "config.json").is_file()


def open_classifier(
    path: Path, base: str = "", precision: str = "auto", adapter_scale: float = 1.0, world: World = ALONE
) -> Classifier:
    """Opens one of our models, or a folder that transformers saved.

    It predicts in int8 only if it would in every process of `world`: they take the same steps. Raises ConfigError for
    an adapter_scale with a folder that transformers saved, and what `Classifier.load` and `Classifier.from_pretrained`
    raise.
    """
    if is_checkpoint(path):
        if adapter_scale != 1:
            raise ConfigError(f"--adapter-scale: {path} has no adapters of ours to scale\nfix: leave it out")
        opened = Classifier.from_pretrained(path, precision=precision)
    else:
        opened = Classifier.load(path, base=base, precision=precision, adapter_scale=adapter_scale)
    if not world.all(opened.network.int8_margin is not None):
        opened.network.use_int8(None)
    return opened


def load_network(artefact: Artefact, base: Base) -> TextClassifier:
    """Returns the network of an artefact on its base, fp32. Raises ArtefactError if its tensors do not fit."""
    spec, adapters = artefact.specs()
    unused = torch.Generator()  # the initialisation is overwritten; a load leaves torch's own generator alone
    network = TextClassifier(read_shape(base.folder), spec, adapters, task_from(artefact.task).num_outputs, unused)
    network.load(read_checkpoint(base.folder))
    _load_tensors(network, artefact)
    return network


def _check_rows(lengths: np.ndarray) -> None:
    """Raises DataError for rows without a token: those of a tokenizer that puts no special tokens around a text.

    lengths: tokens of each row, int64 [rows].
    """
    empty = np.flatnonzero(lengths == 0).tolist()
    if empty:
        raise DataError(
            f"expected at least one token in each text, found none in {len(empty)}, the first in row {empty[0]}: this "
            "model's tokenizer puts no special tokens around a text\nfix: leave out texts without a word"
        )


def own_base(artefact: Artefact, name: str = "") -> Base:
    """Returns the base that the model was trained on.

    name: where the base is now; "" if it is still under its name then. Raises BaseModelError if it cannot be found,
    ArtefactError if its weights, shape or tokenizer are others.
    """
    expected = artefact.base
    base = find_base(name or expected["name"], "" if name else expected["revision"])
    weights = base.weights_hash()
    problems = []
    if weights != expected["weights_sha256"]:
        problems.append(
            f"the weights in {base.folder} are not those it was trained on\n"
            f"  expected SHA-256 {expected['weights_sha256']} ({expected['name']}), found {weights}"
        )
    if shape_to_json(read_shape(base.folder)) != expected["shape"]:
        problems.append(
            f"{base.folder / 'config.json'} has changed\n"
            f"  expected {expected['shape']}\n  found    {shape_to_json(read_shape(base.folder))}"
        )
    tokenizer = files_hash(base.folder)
    if tokenizer and tokenizer != artefact.tokenizer_sha256:
        problems.append(
            f"the tokenizer in {base.folder} has changed\n"
            f"  expected SHA-256 {artefact.tokenizer_sha256}, found {tokenizer}"
        )
    if problems:
        raise ArtefactError(
            "the model does not fit this base:\n"
            + "\n".join(problems)
            + f"\nfix: --base DIR with the files of {expected['name']}"
        )
    return base


@torch.no_grad()
def _load_tensors(network: TextClassifier, artefact: Artefact) -> None:
    parameters = network.trainable()
    problems = [f"missing: {name}" for name in parameters if name not in artefact.tensors]
    problems += [f"not expected: {name}" for name in artefact.tensors if name not in parameters]
    problems += [
        f"{name}: expected {list(p.shape)}, found {list(artefact.tensors[name].shape)}"
        for name, p in parameters.items()
        if name in artefact.tensors and artefact.tensors[name].shape != p.shape
    ]
    if problems:
        raise ArtefactError("the tensors of the model do not fit its own configuration:\n  " + "\n  ".join(problems))
    for name, parameter in parameters.items():
        parameter.copy_(artefact.tensors[name])
