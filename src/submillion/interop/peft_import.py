"""Adapters that PEFT wrote, as one of our models: `submillion import`.

Adapters of different ranks and scales become one rank: A and B are padded with zeros, and B takes the scale in, so that
the function is the same. What cannot be the same function is refused by name, never dropped.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from submillion.atomic import check_replaceable, write_folder_atomically
from submillion.config import TARGETS, Config, DataConfig, LoraConfig, ModelConfig, TrainConfig, to_mapping, to_toml
from submillion.data.vocabulary import files_hash
from submillion.errors import ArtefactError
from submillion.inference.files import read_json
from submillion.inference.stock import StockClass, stock_class
from submillion.interop.tokenizer import tokenizer_of_adapter
from submillion.model.base import Base, find_base
from submillion.model.budget import count, head_shapes
from submillion.model.checkpoint import read_checkpoint
from submillion.model.classifier import TextClassifier
from submillion.model.families import layer_modules
from submillion.model.shape import EncoderShape, read_shape
from submillion.training.artefact import Artefact, base_record

FILES = ("model.pt", "config.toml")
# Other functions than y = W x + scale B A x, or other parts of the model: set to anything, they are refused.
_REFUSED = [
    "use_dora",
    "bias",
    "fan_in_fan_out",
    "lora_bias",
    "use_qalora",
    "trainable_token_indices",
    "layer_replication",
    "target_parameters",
    "alora_invocation_tokens",
    "use_bdlora",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "megatron_config",
]
_READ = [
    "peft_type",
    "task_type",
    "base_model_name_or_path",
    "revision",
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "modules_to_save",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
    "init_lora_weights",
]
_TRAINING_ONLY = [
    "auto_mapping",
    "inference_mode",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "velora_config",
    "megatron_core",
    "qalora_group_size",
    "runtime_config",
    "ensure_weight_tying",
    "peft_version",
]
_CHANGES_BASE = ("pissa", "corda", "olora", "loftq", "lora_ga", "mica")  # of init_lora_weights


@dataclass(frozen=True)
class Adapter:
    lora_A: Tensor  # fp32 [rank, in]
    lora_B: Tensor  # fp32 [out, rank], its scale in it


def import_peft(
    folder: Path, output: Path, base: str = "", label_names: Sequence[str] = (), max_length: int = 0
) -> None:
    """Writes the model in a PEFT adapter folder as output/model.pt, whole or not at all, and prints what it found.

    base: the pretrained encoder; empty takes the one that the adapter names. label_names: in the order of the logits;
    empty takes those in our own exports, else the base's. The tokenizer is the one in the adapter's folder, else the
    base's. max_length: tokens a row; 0 takes that tokenizer's model_max_length where the encoder places as many, else
    all that it places. Raises ArtefactError for an adapter that is not whole or that our model cannot represent,
    BaseModelError where the base is not to be found or the tokenizer cannot be read as transformers reads it,
    ConfigError where output holds other files or max_length is more than the base places.
    """
    from rich.console import Console

    check_replaceable(output, FILES)
    if not (folder / "adapter_config.json").is_file():
        raise ArtefactError(
            f"expected a PEFT adapter with adapter_config.json, found none in {folder}\n"
            "fix: give the adapter's folder; a whole checkpoint of transformers opens directly: --model DIR"
        )
    settings = read_json(folder / "adapter_config.json")
    found = find_base(base or str(settings.get("base_model_name_or_path") or ""), "")
    try:
        notes = _check_settings(settings)
        artefact, config, more = _read(folder, settings, found, label_names, max_length)
    except (TypeError, ValueError, AttributeError, re.error) as error:
        raise ArtefactError(
            f"{folder / 'adapter_config.json'} holds a value of a wrong kind: {error}\nfix: copy it again"
        ) from None
    with write_folder_atomically(output, FILES) as part:
        (part / "config.toml").write_text(to_toml(config), encoding="utf-8")
        artefact.save(part)
    lines = [f"{folder} -> {output}  (labels in order: {', '.join(artefact.label_names)})"]
    lines += [f"  note: {note}" for note in notes + more]
    Console().print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)


def _check_settings(settings: dict[str, Any]) -> list[str]:
    """Notes on what is not read. Raises ArtefactError with everything that we cannot represent."""
    problems = [] if settings.get("peft_type") == "LORA" else [f"peft_type {settings.get('peft_type')!r}"]
    for name in _REFUSED:
        if settings.get(name) not in (None, False, "none", [], {}):
            problems.append(f"{name} = {settings[name]!r}")
    start = str(settings.get("init_lora_weights")).lower()
    if start.startswith(_CHANGES_BASE):
        problems.append(f"init_lora_weights = {start!r}, which changes the base's own weights")
    if problems:
        raise ArtefactError(
            "expected plain LoRA, found " + "; ".join(problems) + "\nfix: merge it with peft (merge_and_unload), "
            "save that with transformers and open its folder with --model"
        )
    unknown = [name for name in settings if name not in (*_REFUSED, *_READ, *_TRAINING_ONLY)]
    return [f"adapter_config.json: {name} is not known here and was not read" for name in unknown]


def _read(
    folder: Path, settings: dict[str, Any], base: Base, label_names: Sequence[str], max_length: int
) -> tuple[Artefact, Config, list[str]]:
    path = base.folder / "config.json"
    base_settings, shape = read_json(path), read_shape(base.folder)
    shape.check_length(max_length, base.name, "--max-length")
    stock = stock_class(base_settings.get("model_type"), path)
    state, own_names = _read_tensors(folder)
    adapters, head = _sorted_out(state, settings, shape, stock, read_checkpoint(base.folder))
    rows = len(head["head.out_proj.bias"])
    names, notes = _names(rows, label_names, own_names, base_settings)
    tokenizer, longest, tokenizer_notes = tokenizer_of_adapter(folder, base, shape)
    lora = _lora(adapters, shape, float(settings.get("lora_dropout") or 0.0))
    model = ModelConfig(
        base=base.name,
        revision=base.revision,
        max_length=max_length or longest,
        pooling=stock.pooling(base_settings),
    )
    plan = count(shape, model, lora, rows)
    config = Config(
        model=model,
        lora=lora,
        data=DataConfig(source="unknown: imported from PEFT", label_names=tuple(names)),
        train=TrainConfig(precision="fp32"),
        budget=max(Config().budget, plan.trainable),
    )
    network = TextClassifier(shape, model, lora, rows, torch.Generator())
    _fill(network, adapters, head)
    artefact = Artefact(
        tensors=dict(network.trainable()),
        label_names=names,
        base=base_record(base, shape),
        tokenizer=tokenizer.to_str(),
        tokenizer_sha256=files_hash(base.folder),  # which the base is known by when the model is loaded
        config=to_mapping(config),
        parameters={
            "trainable": plan.trainable,
            "total": plan.total,
            "total_with_adapters": plan.total_with_adapters,
        },
        metrics={},
    )
    return artefact, config, notes + tokenizer_notes


def _read_tensors(folder: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The adapter's tensors in fp32, without `base_model.model.`, and the label names that our exports carry."""
    safe, binary = folder / "adapter_model.safetensors", folder / "adapter_model.bin"
    names: list[str] = []
    try:
        if safe.is_file():
            from safetensors import safe_open

            with safe_open(safe, "pt") as file:
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                names = json.loads((file.metadata() or {}).get("label_names", "[]"))
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
    return state, names


def _sorted_out(
    state: dict[str, Tensor],
    settings: dict[str, Any],
    shape: EncoderShape,
    stock: StockClass,
    base_state: dict[str, Tensor],
) -> tuple[dict[tuple[int, str], Adapter], dict[str, Tensor]]:
    """The adapters by layer and target, and the head by our names; adapters on the head are added to it."""
    places = {
        f"{stock.prefix}{module}": (layer, parts)
        for layer in range(shape.num_layers)
        for module, parts in layer_modules(shape.family, layer).items()
    }
    of_head = [f"head.{name}" for name in head_shapes("stock", shape.hidden_size, 1, shape.stock_head)]
    heads = {f"{stock.head[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": name for name in of_head}
    halves: dict[str, dict[str, Tensor]] = {}
    saved: dict[str, Tensor] = {}
    problems: list[str] = []
    for name, tensor in state.items():
        found = re.fullmatch(r"(.+)\.lora_([AB])(?:\.[^.]+)?\.weight", name)
        plain = _without_wrapper(name, list(heads))
        if found and (found[1] in places or f"{found[1]}.weight" in heads):
            halves.setdefault(found[1], {})[found[2]] = tensor
        elif plain in heads:
            saved[heads[plain]] = tensor
        elif ".original_module." not in name:
            problems.append(f"{name}: this model has no place for it")
    for module in [*places, *(name.removesuffix(".weight") for name in heads if name.endswith(".weight"))]:
        wanted = _targeted(module, settings)
        if module in halves and set(halves[module]) != {"A", "B"}:
            problems.append(f"{module}: expected lora_A and lora_B, found one of them")
        elif module in halves and not wanted:
            problems.append(f"{module}: has an adapter that target_modules does not name")
        elif module in places and wanted and module not in halves:
            problems.append(f"{module}: target_modules names it, found no adapter for it")
    # Of a base saved without its stock class, such as a sentence encoder's, BERT's pooler is pooler.dense.
    names = [(theirs, name) for theirs in heads for name in (theirs.removeprefix(stock.prefix), theirs)]
    of_base = {theirs: base_state[name] for theirs, name in names if name in base_state}
    for theirs, ours in heads.items():
        kept_in_file = any(re.match(rf"(^|.*\.){m}($|\..*)", theirs) for m in settings.get("modules_to_save") or [])
        if ours not in saved and (kept_in_file or theirs not in of_base):
            problems.append(f"{theirs}: expected in the adapter{'' if kept_in_file else ' or the base'}, found nothing")
    _refuse(problems)
    head = {ours: saved.get(ours, of_base.get(theirs, torch.zeros(0))).float() for theirs, ours in heads.items()}
    sizes = shape.linear_sizes()
    expected = head_shapes("stock", shape.hidden_size, len(head["head.out_proj.bias"]), shape.stock_head)
    found_shapes = {name: head[f"head.{name}"].shape for name in expected}
    _refuse(
        [
            f"head.{name}: expected {list(size)}, found {list(found_shapes[name])}"
            for name, size in expected.items()
            if found_shapes[name] != size
        ]
    )
    adapters: dict[tuple[int, str], Adapter] = {}
    for module, half in halves.items():
        ours = heads.get(f"{module}.weight", "")
        if module in places:
            layer, parts = places[module]
            out = [sizes[part][1] for part in parts]
            adapter = _scaled(module, half, sizes[parts[0]][0], sum(out), settings)
            for part, rows in zip(parts, adapter.lora_B.split(out), strict=True):
                if len(parts) == 1 or rows.any():
                    adapters[layer, part] = _without_zeros(adapter.lora_A, rows) if len(parts) > 1 else adapter
        else:
            adapter = _scaled(module, half, head[ours].shape[1], head[ours].shape[0], settings)
            head[ours] = head[ours] + adapter.lora_B @ adapter.lora_A
    return adapters, head


def _scaled(module: str, half: dict[str, Tensor], size_in: int, size_out: int, settings: dict[str, Any]) -> Adapter:
    lora_A, lora_B = half["A"], half["B"]
    rank = int(_pattern(settings.get("rank_pattern"), module, settings.get("r", 8)))
    alpha = float(_pattern(settings.get("alpha_pattern"), module, settings.get("lora_alpha", 8)))
    if lora_A.shape != (rank, size_in) or lora_B.shape != (size_out, rank) or rank < 1:
        _refuse(
            [
                f"{module}: expected lora_A {[rank, size_in]} and lora_B {[size_out, rank]}, "
                f"found {list(lora_A.shape)} and {list(lora_B.shape)}"
            ]
        )
    return Adapter(lora_A, lora_B * (alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)))


def _without_zeros(lora_A: Tensor, lora_B: Tensor) -> Adapter:
    """Of a part's own rows of B: the ranks that do something there. Our exports of several parts give them back."""
    used = lora_B.any(dim=0)
    return Adapter(lora_A[used], lora_B[:, used])


def _without_wrapper(name: str, known: list[str]) -> str:
    """classifier.modules_to_save.default.weight -> classifier.weight; older releases wrote no adapter's name."""
    before, wrapped, after = name.partition(".modules_to_save.")
    if not wrapped:
        return name
    return f"{before}.{after}" if f"{before}.{after}" in known else f"{before}.{after.partition('.')[2]}"


def _pattern(patterns: dict[str, Any] | None, module: str, otherwise: Any) -> Any:
    """The value of the first pattern that ends the module's name, as PEFT matches it."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return otherwise


def _targeted(module: str, settings: dict[str, Any]) -> bool:
    """Whether PEFT puts an adapter on this module: a regular expression, all-linear, suffixes or full names."""
    targets, excluded = settings.get("target_modules") or [], settings.get("exclude_modules") or []
    if any(re.match(rf"(^|.*\.){name}($|\..*)", module) for name in settings.get("modules_to_save") or []):
        return False
    if re.fullmatch(excluded, module) if isinstance(excluded, str) else _ends(module, excluded):
        return False
    if isinstance(targets, str):
        return targets.lower() == "all-linear" or re.fullmatch(targets, module) is not None
    layers = settings.get("layers_to_transform")
    if not _ends(module, targets) or layers in (None, []):
        return _ends(module, targets)
    patterns = settings.get("layers_pattern") or [r"[^.]*"]
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if found := re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", module):
            return int(found[1]) in ([layers] if isinstance(layers, int) else layers)
    return False


def _ends(module: str, names: list[str]) -> bool:
    return any(module == name or module.endswith(f".{name}") for name in names)


def _refuse(problems: list[str]) -> None:
    if problems:
        shown = "\n  ".join(problems[:12]) + (f"\n  and {len(problems) - 12} more" if len(problems) > 12 else "")
        raise ArtefactError(
            f"the adapter does not fit this base's stock class:\n  {shown}\n"
            "fix: --base with the model it was trained on; the adapter's folder as peft saved it"
        )


def _lora(adapters: dict[tuple[int, str], Adapter], shape: EncoderShape, dropout: float) -> LoraConfig:
    """One configuration that holds all adapters: the largest rank, alpha / rank = 1."""
    if not adapters:
        return LoraConfig(rank=0)
    rank = max(len(adapter.lora_A) for adapter in adapters.values())
    layers = tuple(sorted({layer for layer, _ in adapters}))
    targets = tuple(part for part in TARGETS if any(own == part for _, own in adapters))
    every = len(layers) == shape.num_layers
    return LoraConfig(rank=rank, alpha=float(rank), dropout=dropout, targets=targets, layers="all" if every else layers)


@torch.no_grad()
def _fill(network: TextClassifier, adapters: dict[tuple[int, str], Adapter], head: dict[str, Tensor]) -> None:
    for index, layer in enumerate(network.encoder.layer_list()):
        for linear in layer.linears():
            for part in linear.lora_A:
                adapter = adapters.get((index, part))
                if adapter is not None:
                    rank = len(adapter.lora_A)
                    linear.lora_A[part].zero_()[:rank].copy_(adapter.lora_A)
                    linear.lora_B[part][:, :rank].copy_(adapter.lora_B)
    parameters = network.trainable()
    for name, tensor in head.items():
        parameters[name].copy_(tensor)


def _names(
    rows: int, given: Sequence[str], own: list[str], base_settings: dict[str, Any]
) -> tuple[list[str], list[str]]:
    """The label names, and a note where they had to be made up."""
    if rows < 2 or (given and (len(given) != rows or len(set(given)) != rows)):
        raise ArtefactError(
            f"expected {max(rows, 2)} different label names, found {', '.join(given) or 'one logit'}\n"
            "fix: --label-names with one a logit, in order"
        )
    of_base = base_settings.get("id2label")
    of_base = [of_base.get(str(index)) for index in range(len(of_base))] if isinstance(of_base, dict) else []
    for names in (list(given), own, of_base):
        if len(names) == rows == len(set(names)) and all(isinstance(name, str) for name in names):
            return names, []
    made_up = [f"LABEL_{index}" for index in range(rows)]
    return made_up, [f"no label names were found, so they are {', '.join(made_up)}; --label-names gives others"]
