"""The artefact: one file with the trained tensors, the tokenizer, the task and where all of it came from.

Loadable with torch.load(weights_only=True): tensors, strings, numbers, lists and dicts alone, no code. Written whole or
not at all. A checksum over every field and tensor refuses a file that was cut or altered.
"""

import hashlib
import json
import shlex
import zlib
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from submillion.atomic import write_atomically
from submillion.config.checks import range_problems
from submillion.config.mapping import from_mapping, overlay
from submillion.config.schema import Config
from submillion.config.values import refuse
from submillion.data.columns import Columns
from submillion.errors import ArtefactError, ConfigError
from submillion.lfs import check_no_pointers
from submillion.model.base import Base
from submillion.model.shape import EncoderShape
from submillion.model.spec import AdapterSpec, NetworkSpec
from submillion.tasks.saved import task_from
from submillion.text.spelling import MOST_LETTERS, MOST_WORDS

SCHEMA = 2
FILE_NAME = "model.pt"
PACKED = ("tokenizer", "words")  # texts that are kept compressed
MAY_BE_ABSENT = {"words", "rows", "columns"}  # a model that has none of these is a smaller file without them
LATER_FIX = "fix: update submillion, if a later version trained the model"
EARLIER_FIX = "train again, for the settings have changed since; or use submillion 0.1.0, which made the model"
_MAX_PACKED_BYTES = 64 * 2**20  # they unpack to a few megabytes; a bomb does not get further than this


@dataclass(frozen=True)
class Artefact:
    tensors: dict[str, Tensor]  # exactly the trainable parameters, fp32
    task: dict[str, Any]  # as `task_record`: kind, and label_names in the order of the logits
    base: dict[str, str]  # name, revision, weights_sha256, shape (JSON)
    tokenizer: str  # the tokenizer's own JSON
    tokenizer_sha256: str  # of the base's tokenizer files
    config: dict[str, Any]  # the whole configuration, as asked
    network: dict[str, dict[str, Any]]  # what it came to: "spec" (NetworkSpec) and "adapters" (AdapterSpec)
    precision: str  # that it was trained in: int8, bf16 or fp32
    parameters: dict[str, int]  # trainable, total, total_with_adapters
    metrics: dict[str, Any]  # of the validation and test rows; no timings, so that equal runs give equal files
    # temperature, of the probabilities; if the model predicts in int8, int8_margin: see `compute_logits`
    calibration: dict[str, float] = field(default_factory=lambda: {"temperature": 1.0})
    words: list[str] = field(default_factory=list)  # that spelling is corrected to, if any are
    # Of the source: sha256 of its training rows (`Corpus.sha256`), test_cut (whether the test rows were cut from them),
    # first_label (`Corpus.first_label`). Empty if they are not known.
    rows: dict[str, Any] = field(default_factory=dict)
    # That the training rows were read from: text and label, as in `Columns`. Empty if they are not known.
    columns: dict[str, str] = field(default_factory=dict)

    def save(self, folder: Path) -> Path:
        """Writes folder/model.pt: a temporary file, flushed, renamed. Returns its path."""
        path = folder / FILE_NAME
        with write_atomically(path, "wb") as file:
            file.write(self.content())
        return path

    @property
    def label_names(self) -> list[str]:
        """Returns the label names in the order of the logits."""
        return list(self.task["label_names"])

    def specs(self) -> tuple[NetworkSpec, AdapterSpec]:
        """Returns what the network is made of. Raises ArtefactError for parts that this version does not know."""
        where = "the network in the model's file"
        try:
            spec = overlay(NetworkSpec(), self.network["spec"], where)
            adapters = overlay(AdapterSpec(), self.network["adapters"], where)
            settings = {f"model.{key}": value for key, value in asdict(spec).items()}
            settings |= {f"lora.{key}": value for key, value in asdict(adapters).items()}
            refuse([f"{key}: {problem}" for key, problem in range_problems(settings).items()], where)
        except ConfigError as error:
            raise ArtefactError(f"{error}\n{LATER_FIX}") from None
        return spec, adapters

    def configuration(self) -> Config:
        """Returns the run's configuration. Raises ArtefactError for settings that this version does not know."""
        try:
            return from_mapping(self.config, "the configuration in the model's file")
        except ConfigError as error:
            raise ArtefactError(f"{error}\n{LATER_FIX}") from None

    def trained_columns(self) -> Columns:
        """Returns the columns of the training rows; of a file that holds none, those that its configuration names."""
        if self.columns:
            return Columns(**self.columns)
        data = self.configuration().data
        return Columns(data.text_column, data.label_column)

    def content(self) -> bytes:
        """Returns the bytes of the file."""
        fields: dict[str, Any] = {"schema": SCHEMA} | {key: getattr(self, key) for key in self.__dataclass_fields__}
        fields["tensors"] = {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()}
        fields["tokenizer"] = _pack(self.tokenizer)
        fields = {key: value for key, value in fields.items() if key not in MAY_BE_ABSENT or value}
        if self.words:
            fields["words"] = _pack("\n".join(self.words))
        fields["checksum"] = _checksum(fields)
        content = BytesIO()
        torch.save(fields, content)
        return content.getvalue()

    @classmethod
    def load(cls, path: Path) -> "Artefact":
        """Reads a folder or a .pt file. Raises ArtefactError: missing, cut, altered, hostile or of another schema."""
        path = find_artefact(path)
        check_no_pointers([path], ArtefactError)
        try:
            fields = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises a dozen kinds for files that are cut or that ask for code
            with path.open("rb") as file:
                first = file.read(1)
            if first not in (b"P", b"\x80", b""):  # of a zip, a pickle, nothing
                raise ArtefactError(
                    f"{path} is no PyTorch file\nfix: give the folder that `submillion train` wrote, or its model.pt"
                ) from None
            reason = str(error).split("\n")[0]
            raise ArtefactError(f"{path} is cut, altered or hostile; nothing in it was run\nfound: {reason}") from None
        if not isinstance(fields, dict) or not isinstance(fields.get("schema"), int):
            raise ArtefactError(f"{path} is a PyTorch file, but no submillion model")
        if fields["schema"] != SCHEMA:
            fix = "update submillion" if fields["schema"] > SCHEMA else EARLIER_FIX
            raise ArtefactError(
                f"{path}: expected a model of schema {SCHEMA}, found schema {fields['schema']}\nfix: {fix}"
            )
        expected = {"schema", "checksum", *cls.__dataclass_fields__}
        if set(fields) | MAY_BE_ABSENT != expected:
            raise ArtefactError(f"{path}: expected the fields {sorted(expected)}, found {sorted(map(str, fields))}")
        try:
            intact = fields.pop("checksum") == _checksum(fields)
            del fields["schema"]
            words = _unpack(fields.pop("words"), "words").split("\n") if "words" in fields else []
            artefact = cls(tokenizer=_unpack(fields.pop("tokenizer"), "tokenizer"), words=words, **fields)
            _check_types(artefact)
        except Exception as error:  # fields of a wrong type fail in as many ways as there are types
            raise ArtefactError(f"{path} was altered: {error}") from None
        if not intact:
            raise ArtefactError(f"{path} was altered after it was written: its checksum does not match")
        return artefact


def model_file(path: Path) -> Path:
    """Returns where the .pt file of a model is, or would be: in the folder `path`, or that file itself."""
    return path / FILE_NAME if path.is_dir() else path


def find_artefact(path: Path) -> Path:
    """Returns the .pt file at `path`, a folder or the file itself. Raises ArtefactError if there is none."""
    file = model_file(path)
    if not file.is_file() and is_adapter(path):
        raise ArtefactError(
            f"{path}: expected a saved classifier, found a PEFT adapter (adapter_config.json)\n"
            f"fix: submillion import {shlex.quote(str(path))} --output.dir DIR, then --model DIR"
        )
    if not file.is_file():
        raise ArtefactError(
            f"no model at {file}\nfix: train one first (submillion train), or give the folder that holds one"
        )
    return file


def is_adapter(folder: Path) -> bool:
    """Returns whether the folder holds a PEFT adapter."""
    return (folder / "adapter_config.json").is_file()


def _pack(text: str) -> Tensor:
    return torch.frombuffer(bytearray(zlib.compress(text.encode(), 9)), dtype=torch.uint8)


def _unpack(packed: Tensor, name: str) -> str:
    inflate = zlib.decompressobj()
    text = inflate.decompress(packed.numpy().tobytes(), _MAX_PACKED_BYTES)
    if inflate.unconsumed_tail:
        raise ValueError(f"field {name!r} unpacks to more than {_MAX_PACKED_BYTES:,} bytes")
    return text.decode()


def _check_types(artefact: Artefact) -> None:
    """Raises ValueError, or whatever the first look at a wrong type raises, if a field is not what `save` writes."""
    named = all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in artefact.tensors.items())
    labelled = len(artefact.label_names) > 1 and all(isinstance(name, str) for name in artefact.label_names)
    labelled = labelled and isinstance(task_from(artefact.task).kind, str)
    based = all(isinstance(artefact.base[key], str) for key in ("name", "revision", "weights_sha256", "shape"))
    calibrated = float(artefact.calibration["temperature"]) > 0 and artefact.calibration.get("int8_margin", 0.0) >= 0
    configured = isinstance(artefact.config, dict) and isinstance(artefact.tokenizer_sha256, str)
    configured = configured and artefact.precision in ("int8", "bf16", "fp32")
    configured = configured and set(artefact.network) == {"spec", "adapters"}
    configured = configured and all(isinstance(part, dict) for part in artefact.network.values())
    read = isinstance(artefact.rows, dict) and isinstance(artefact.rows.get("sha256", ""), str)
    read = read and artefact.rows.get("first_label") in (None, 0, 1)
    Columns(**artefact.columns)  # no other keys
    read = read and all(isinstance(name, str) for name in artefact.columns.values())
    # In lower case a letter can be two.
    spelled = len(artefact.words) <= MOST_WORDS and all(0 < len(word) <= 2 * MOST_LETTERS for word in artefact.words)
    if not (named and labelled and based and calibrated and configured and spelled and read):
        raise ValueError("a field does not hold what it should")


def _checksum(fields: dict[str, Any]) -> str:
    """Returns the SHA-256 of every tensor's name, type, shape and bytes, and of the rest as sorted JSON."""
    digest = hashlib.sha256()
    plain = {key: value for key, value in fields.items() if key not in ("tensors", *PACKED)}
    digest.update(json.dumps(plain, sort_keys=True).encode())
    for name, tensor in (fields["tensors"] | {name: fields[name] for name in PACKED if name in fields}).items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    return digest.hexdigest()


def base_record(base: Base, shape: EncoderShape) -> dict[str, str]:
    """Returns what an artefact says of the base it belongs to. Raises BaseModelError if a file of it is missing."""
    return {
        "name": base.name,
        "revision": base.revision,
        "weights_sha256": base.weights_hash(),
        "shape": shape_to_json(shape),
    }


def network_record(spec: NetworkSpec, adapters: AdapterSpec) -> dict[str, dict[str, Any]]:
    """Returns what an artefact says of its network: plain values, with lists for tuples."""
    records = {"spec": asdict(spec), "adapters": asdict(adapters)}
    return {
        name: {key: list(value) if isinstance(value, tuple) else value for key, value in record.items()}
        for name, record in records.items()
    }


def shape_to_json(shape: EncoderShape) -> str:
    """Returns the shape as sorted JSON, without unused fields that came later, so that earlier artefacts fit."""
    later = ("embedding_size", "modernbert")
    return json.dumps({key: value for key, value in asdict(shape).items() if value or key not in later}, sort_keys=True)
