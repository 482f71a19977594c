"""What adapter_config.json says of an adapter: which modules it changes and how, and what cannot be done with it."""

import math
import re
from typing import Any

from submillion.errors import ArtefactError

# Settings that only a merged model can hold: other parts of the model train, or another function of W, A and B.
_NEEDS_MERGING = ("use_dora", "bias", "lora_bias", "trainable_token_indices")
# Settings whose adapter no single set of weights equals, or that are not merged here; and why.
_UNMERGEABLE = {
    "alora_invocation_tokens": "an activated LoRA acts only on the tokens after its invocation tokens",
    "layer_replication": "it repeats layers of the base",
    "arrow_config": "it chooses among adapters token by token",
    "megatron_config": "its layers are split over devices by Megatron",
    "target_parameters": "it adapts parameters that are no module's weight",
    "use_qalora": "it reads the inputs of a quantised weight in groups",
    "use_bdlora": "its matrices are block-diagonal",
    "kasa_config": "it computes something else than LoRA",
    "monteclora_config": "it computes something else than LoRA",
}
_READ = (
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
    "fan_in_fan_out",
)
_TRAINING_ONLY = (
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
)
_KNOWN = (*_NEEDS_MERGING, *_UNMERGEABLE, *_READ, *_TRAINING_ONLY)
_CHANGES_BASE = ("pissa", "corda", "olora", "loftq", "lora_ga", "mica")  # of init_lora_weights
_PROMPTS = ("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "ADAPTION_PROMPT", "CARTRIDGE")
_SERVE = "\nfix: serve it with transformers and peft: PeftModel.from_pretrained(MODEL, FOLDER)"


def check_settings(settings: dict[str, Any], merging: bool, merge_fix: str, peft_fix: str) -> list[str]:
    """Returns notes on settings that are not read. Raises ArtefactError for an adapter that cannot be taken.

    merging: whether the adapter is to be merged into its base, which takes more kinds. merge_fix, peft_fix: the lines
    that tell how to merge it, here and with peft.
    """
    kind = settings.get("peft_type")
    if kind in _PROMPTS:
        raise ArtefactError(
            f"expected a LoRA adapter, found peft_type {kind!r}: its trained vectors stand beside the text's tokens, "
            f"and no weights of the model can hold them{_SERVE}"
        )
    if kind != "LORA":
        raise ArtefactError(f"expected a LoRA adapter, found peft_type {kind!r}\n{peft_fix}")
    task = settings.get("task_type")
    if task not in (None, "SEQ_CLS"):
        raise ArtefactError(
            f"expected an adapter for sequence classification (task_type SEQ_CLS), found task_type {task!r}: it has no "
            f"label for a whole text{_SERVE}"
        )
    unmergeable = [
        f"{name} = {settings[name]!r}: {why}" for name, why in _UNMERGEABLE.items() if _is_set(settings, name)
    ]
    if unmergeable:
        raise ArtefactError(f"expected LoRA that can be merged, found {'; '.join(unmergeable)}{_SERVE}")
    start = str(settings.get("init_lora_weights")).lower()
    if start.startswith(_CHANGES_BASE):
        raise ArtefactError(
            f"expected an adapter on the base as it is, found init_lora_weights = {start!r}, which changes the base's "
            f"own weights\n{peft_fix}"
        )
    if _is_set(settings, "fan_in_fan_out"):
        raise ArtefactError(
            "expected fan_in_fan_out false, found true: all layers here are nn.Linear, for which peft sets it to false"
            '\nfix: "fan_in_fan_out": false in adapter_config.json'
        )
    needs_merging = [f"{name} = {settings[name]!r}" for name in _NEEDS_MERGING if _is_set(settings, name)]
    if needs_merging and not merging:
        raise ArtefactError(f"expected plain LoRA, found {'; '.join(needs_merging)}\n{merge_fix}")
    return [
        f"adapter_config.json: {name} is not known here and was not read" for name in settings if name not in _KNOWN
    ]


def _is_set(settings: dict[str, Any], name: str) -> bool:
    return settings.get(name) not in (None, False, "none", [], {})


def is_targeted(module: str, settings: dict[str, Any], is_linear: bool = True) -> bool:
    """Returns whether peft puts an adapter on this module.

    Modules are named by a regular expression, all-linear, suffixes or full names.
    """
    targets, excluded = settings.get("target_modules") or [], settings.get("exclude_modules") or []
    if is_saved(module, settings):
        return False
    if re.fullmatch(excluded, module) if isinstance(excluded, str) else _ends(module, excluded):
        return False
    if isinstance(targets, str) and targets.lower() == "all-linear":
        return is_linear
    if isinstance(targets, str):
        return re.fullmatch(targets, module) is not None
    layers = settings.get("layers_to_transform")
    if module in targets or not _ends(module, targets) or layers in (None, []):
        return _ends(module, targets)
    patterns = settings.get("layers_pattern") or [r"[^.]*"]
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if match := re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", module):
            return int(match[1]) in ([layers] if isinstance(layers, int) else layers)
    return False


def is_saved(name: str, settings: dict[str, Any]) -> bool:
    """Returns whether modules_to_save names this module, one that holds it, or the module of this tensor."""
    return any(re.match(rf"(^|.*\.){module}($|\..*)", name) for module in settings.get("modules_to_save") or [])


def rank_and_scale(module: str, settings: dict[str, Any]) -> tuple[int, float]:
    """Returns the rank of a module's adapter and the scale of its B A. Raises ValueError for a rank below 1."""
    rank = int(_pattern(settings.get("rank_pattern"), module, settings.get("r", 8)))
    alpha = float(_pattern(settings.get("alpha_pattern"), module, settings.get("lora_alpha", 8)))
    if rank < 1:
        raise ValueError(f"expected a rank of 1 or more for {module}, found {rank}")
    return rank, alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def token_indices(module: str, settings: dict[str, Any], is_word_embedding: bool) -> list[int]:
    """Returns the rows of an embedding that trained, in the order of the adapter's tensor."""
    indices = settings.get("trainable_token_indices") or []
    if isinstance(indices, list):
        return indices if is_word_embedding else []
    return next((rows for name, rows in indices.items() if _ends(module, [name])), [])


def _pattern(patterns: dict[str, Any] | None, module: str, otherwise: Any) -> Any:
    """Returns the value of the first pattern that ends the module's name, as peft matches it, else `otherwise`."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return otherwise


def _ends(module: str, names: list[str]) -> bool:
    return any(module == name or module.endswith(f".{name}") for name in names)
