"""The files of a PEFT adapter, in a folder or on the hub, and the base that they name."""

import json
import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from submillion.errors import ArtefactError, encodable
from submillion.inference.json_files import read_json
from submillion.inference.pretrained import label_texts
from submillion.interop.peft_settings import check_settings
from submillion.lfs import check_no_pointers
from submillion.model.base import TOKENIZER_FILES, Base, find_base, hub_folder
from submillion.text.tokenizer import files_hash

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")  # in the order in which peft takes them


@dataclass(frozen=True)
class PeftAdapter:
    name: str  # as it was given: a folder or a hub id
    folder: Path
    settings: dict[str, Any]  # adapter_config.json
    base: Base
    notes: list[str]
    merge_fix: str  # the line that tells how to merge it


def open_adapter(name: str, base: str = "", merging: bool = False) -> PeftAdapter:
    """Finds an adapter and its base, and checks that its kind can be taken.

    name: a folder, or a hub id, taken from the hub's cache first. base: a folder, package:NAME or hub id; "" takes the
    base, and the revision, that the adapter names. merging: see `check_settings`. Raises ArtefactError if there is
    no adapter, if it names no base or cannot be taken, and BaseModelError if the base cannot be had.
    """
    folder, notes = _find_adapter(name)
    weights = [file for file in WEIGHTS if (folder / file).is_file()][:1]
    check_no_pointers([folder / file for file in (CONFIG, *weights, *TOKENIZER_FILES)], ArtefactError)
    settings = read_json(folder / CONFIG)
    given_base = f" --base {shlex.quote(base)}" if base else ""
    merge_fix = f"fix: submillion import {shlex.quote(name)}{given_base} --merge --output.dir DIR, then --model DIR"
    notes += check_settings(
        settings, merging, merge_fix, _peft_fix(name, base or settings.get("base_model_name_or_path"))
    )
    found_base, base_notes = _find_base(settings, base)
    return PeftAdapter(name, folder, settings, found_base, notes + base_notes, merge_fix)


def _peft_fix(name: str, base: object) -> str:
    base = base or "BASE"
    return (
        "fix: merge it with peft, N being the number of its labels, and open the result: --model DIR\n"
        "  from peft import AutoPeftModelForSequenceClassification\n"
        "  from transformers import AutoTokenizer\n"
        f"  model = AutoPeftModelForSequenceClassification.from_pretrained({name!r}, num_labels=N)\n"
        "  model.merge_and_unload().save_pretrained('DIR')\n"
        f"  AutoTokenizer.from_pretrained({base!r}).save_pretrained('DIR')"
    )


def _find_adapter(name: str) -> tuple[Path, list[str]]:
    """Returns the adapter's folder, and a note if not all of it could be looked for.

    Raises ArtefactError if there is no adapter of that name.
    """
    folder = Path(name).expanduser()
    if name.strip() and (folder / CONFIG).is_file():
        return folder, []
    if name.strip() and folder.exists():
        raise ArtefactError(
            f"expected a PEFT adapter with {CONFIG}, found none in {name}\n"
            "fix: give the adapter's folder; a whole checkpoint of transformers opens directly: --model DIR"
        )
    if not re.fullmatch(r"\w[\w.-]*/[\w.-]+", name):
        raise ArtefactError(
            f"expected a PEFT adapter, found no folder {name!r}\n"
            "fix: give the folder that holds adapter_config.json, or a hub id such as someone/adapter"
        )
    return _find_on_hub(name)


def _find_on_hub(name: str) -> tuple[Path, list[str]]:
    def has_weights(folder: Path) -> bool:
        return (folder / CONFIG).is_file() and any((folder / file).is_file() for file in WEIGHTS)

    def has_all(folder: Path) -> bool:
        return has_weights(folder) and files_hash(folder) != ""

    def wanted(files: Collection[str]) -> list[str]:
        weights = next((file for file in WEIGHTS if file in files), "")
        return [file for file in (CONFIG, weights, *TOKENIZER_FILES) if file]

    try:
        return hub_folder(name, "", has_all, wanted), []
    except ValueError as error:
        raise ArtefactError(f"{name!r} is neither a folder nor a hub id: {error}") from None
    except LookupError:  # what peft downloads is an adapter without its tokenizer: it may be in the cache alone
        pass
    try:
        folder = hub_folder(name, "", has_weights, wanted)
    except LookupError as error:
        raise ArtefactError(
            f"the adapter {name!r} is no local folder, is not in the hub's cache, and {error}\n"
            "fix: copy its files into a folder, and give that"
        ) from None
    return folder, [f"{name} is in the hub's cache without a tokenizer, and the hub could not be asked for one"]


def _find_base(settings: dict[str, Any], given: str) -> tuple[Base, list[str]]:
    """Returns the base, at the revision that the adapter names, and a note if that could not be checked.

    Raises ArtefactError if no base is named, or if the revision is not a text.
    """
    named, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    if not given and not (isinstance(named, str) and named.strip()):
        raise ArtefactError(
            f"the adapter names no base: base_model_name_or_path is {named!r} in {CONFIG}\n"
            "fix: --base with the model it was trained on, a folder or a hub id"
        )
    if revision is not None and not isinstance(revision, str):
        raise ArtefactError(f"{CONFIG}: expected revision to be a text, found {revision!r}\nfix: copy it again")
    name = given or str(named)
    base = find_base(name, (revision or "") if name == named else "")
    if not revision or (name == named and base.revision):
        return base, []
    return base, [f"the adapter names revision {revision} of {named}; whether {name} is that one was not checked"]


def read_tensors(folder: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Returns the adapter's tensors in fp32, without `base_model.model.`, and the label names that our exports carry.

    Raises ArtefactError if there are none, or if they cannot be read or are not finite.
    """
    safe, binary = (folder / name for name in WEIGHTS)
    label_names: list[str] = []
    try:
        if safe.is_file():
            from safetensors import safe_open

            with safe_open(safe, "pt") as file:
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                label_names = json.loads((file.metadata() or {}).get("label_names", "[]"))
        else:
            state = torch.load(binary, map_location="cpu", weights_only=True)
        state = {re.sub(r"^(module\.)?(base_model\.model\.)*", "", name): t.float() for name, t in state.items()}
    except FileNotFoundError:
        raise ArtefactError(
            f"expected {safe.name} or {binary.name}, found neither in {folder}\nfix: copy the whole folder"
        ) from None
    except Exception as error:  # cut, altered and hostile files fail in many ways inside both libraries
        raise ArtefactError(f"the adapter in {folder} cannot be read: {error}\nfix: copy it again") from None
    wrong = [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    if wrong:
        raise ArtefactError(f"expected finite numbers, found others in {', '.join(wrong[:8])}\nfix: train it again")
    return state, label_names


def choose_label_names(
    number: int, given: Sequence[str], beside: list[str], base_settings: dict[str, Any]
) -> tuple[list[str], list[str]]:
    """Returns a name for each logit, and a note if the names had to be made up.

    given: by the user, and they must fit. beside: in the adapter's file. Else those of the base are taken. Raises
    ArtefactError for a single logit, and for names of another number or that are not different.
    """
    if number < 2:
        raise ArtefactError(
            "expected a head with two logits or more, found one: a regression head, which gives a number and no label"
            "\nfix: use it with transformers and peft"
        )
    if given and (len(given) != number or len(set(given)) != number or not all(map(encodable, given))):
        raise ArtefactError(
            f"expected {number} different label names, found {', '.join(given)}\n"
            "fix: --label-names with one a logit, in order"
        )
    for names in (list(given), beside, label_texts(base_settings.get("id2label"))):
        if len(names) == number == len(set(names)) and all(isinstance(name, str) and encodable(name) for name in names):
            return names, []
    made_up = [f"LABEL_{index}" for index in range(number)]
    return made_up, [f"no label names were found, so they are {', '.join(made_up)}; --label-names gives others"]


@contextmanager
def values_checked(adapter: PeftAdapter) -> Iterator[None]:
    """Turns what a value of a wrong kind in adapter_config.json raises into an ArtefactError."""
    try:
        yield
    except (TypeError, ValueError, AttributeError, re.error) as error:
        raise ArtefactError(
            f"{adapter.folder / CONFIG} holds a value of a wrong kind: {error}\nfix: copy it again"
        ) from None
