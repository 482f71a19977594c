"""What the files of a tokenizer say, as transformers 5.23 puts them together before it builds the tokenizer.

The files are tokenizer.json, tokenizer_config.json, special_tokens_map.json, added_tokens.json and vocabulary files.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from submillion.errors import BaseModelError
from submillion.inference.json_files import read_json_if_there

if TYPE_CHECKING:
    import tokenizers

SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

_FIELDS = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")

_READ_OTHERWISE = "transformers would read texts otherwise with it"
# Settings of tokenizer_config.json that change what a text becomes and that are not read here.
_REFUSED = {
    "split_special_tokens": _READ_OTHERWISE,
    "fix_mistral_regex": _READ_OTHERWISE,
    "fast_tokenizer_files": "transformers would take another file than tokenizer.json",
    "init_inputs": _READ_OTHERWISE,
    "vocab": _READ_OTHERWISE,
    "merges": _READ_OTHERWISE,
    "post_processor": _READ_OTHERWISE,
    "tokenizer_object": _READ_OTHERWISE,
    "tokenizer_truncation": _READ_OTHERWISE,
    "tokenizer_padding": _READ_OTHERWISE,
    "_json_truncation": _READ_OTHERWISE,
    "model_specific_special_tokens": _READ_OTHERWISE,
}


@dataclass(frozen=True)
class TokenizerFiles:
    """The content of a tokenizer's files. A special token is a str, or an AddedToken if the files give its flags."""

    folder: Path
    class_name: str  # as tokenizer_config.json or config.json names it; "" if neither does
    model_type: str  # of config.json; "" if there is none
    settings: dict[str, Any]  # tokenizer_config.json, over which special_tokens_map.json went
    extra: "list[str | tokenizers.AddedToken] | None"  # special tokens without a name; None if no file lists them
    named: "dict[str, str | tokenizers.AddedToken]"  # special tokens with a name that is not in SPECIAL_NAMES
    added: "list[tuple[int, tokenizers.AddedToken]]"  # by id, those with settings in the order of the files
    whole: dict[str, Any]  # tokenizer.json; {} if there is none

    def special(self, defaults: dict[str, Any]) -> "dict[str, str | tokenizers.AddedToken | None]":
        """Returns the special tokens by name, in transformers' order: the files' own first, then the defaults."""
        return {name: self.settings.get(name, defaults.get(name)) for name in SPECIAL_NAMES}


def read_tokenizer_files(folder: Path) -> TokenizerFiles:
    """Reads a folder's tokenizer files and, of config.json, what chooses the tokenizer's class.

    Raises BaseModelError if a file is not JSON, and for settings that change the reading and are not read here.
    """
    settings = read_json_if_there(folder / "tokenizer_config.json")
    config = read_json_if_there(folder / "config.json")
    _refuse_settings(settings, folder / "tokenizer_config.json")
    whole = read_json_if_there(folder / "tokenizer.json")
    try:
        return _put_together(folder, settings, config, whole)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise BaseModelError(
            f"{folder}: the special tokens in the tokenizer's files cannot be read: {error}\n"
            "fix: copy the tokenizer's files again, all from one folder"
        ) from None


def _refuse_settings(settings: dict[str, Any], path: Path) -> None:
    for name, reason in _REFUSED.items():
        harmless = name == "fast_tokenizer_files" and settings.get(name) == ["tokenizer.json"]
        if settings.get(name) and not harmless:
            raise BaseModelError(
                f"{path}: expected no {name}, found {name} = {str(settings[name])[:80]}: {reason}\n"
                f"fix: use the model with transformers; or delete {name} there, where texts are to be read without it"
            )
    auto_map = settings.get("auto_map")
    if auto_map and (not isinstance(auto_map, dict) or auto_map.get("AutoTokenizer")):
        raise BaseModelError(
            f"{path}: expected a tokenizer of transformers' own, found auto_map with code of its own: {auto_map}\n"
            "fix: use the model with transformers and trust_remote_code"
        )


def _put_together(
    folder: Path, settings: dict[str, Any], config: dict[str, Any], whole: dict[str, Any]
) -> TokenizerFiles:
    """Follows transformers' order, which decides which file wins: `PreTrainedTokenizerBase._from_pretrained`."""
    from tokenizers import AddedToken

    class_name = settings.get("tokenizer_class")
    if class_name == "":
        class_name = "TokenizersBackend"  # as AutoTokenizer reads an empty name
    class_name = class_name or config.get("tokenizer_class") or ""
    if not isinstance(class_name, str):
        raise ValueError(f"expected tokenizer_class to be a name, found {class_name!r}")
    if "additional_special_tokens" in settings and not settings.get("extra_special_tokens"):
        settings["extra_special_tokens"] = settings.pop("additional_special_tokens")
    named = {
        name: settings.pop(name)
        for name in list(settings)
        if name.endswith("_token") and name not in SPECIAL_NAMES and isinstance(settings[name], str)
    }
    if isinstance(settings.get("extra_special_tokens"), dict):
        named |= settings.pop("extra_special_tokens")
    if "added_tokens_decoder" in settings:
        added = [(int(index), _added_token(token)) for index, token in settings["added_tokens_decoder"].items()]
    else:
        _merge_special_tokens_map(settings, named, folder / "special_tokens_map.json")
        _refuse_settings(settings, folder / "special_tokens_map.json")
        added = _older_added_tokens(settings, folder / "added_tokens.json")
        added += [
            (token["id"], _added_token({key: value for key, value in token.items() if key != "id"}))
            for token in whole.get("added_tokens", [])
        ]
    settings = {name: _as_token(value) if name.endswith("_token") else value for name, value in settings.items()}
    flags = {token.content: token for _, token in added}
    for name in SPECIAL_NAMES:
        if settings.get(name) is not None:
            settings[name] = flags.get(str(settings[name]), settings[name])
            _check_token(settings[name], name)
    # Those that special_tokens_map.json names, or tokenizer_config.json with flags, go before the others.
    first = {
        name: value
        for name, value in settings.items()
        if name.endswith("_token") and name not in SPECIAL_NAMES and isinstance(value, str | AddedToken)
    }
    named = first | {name: _as_token(value) for name, value in named.items()}
    for name, value in named.items():
        _check_token(value, name)
    return TokenizerFiles(
        folder, class_name, str(config.get("model_type") or ""), settings, _extra(settings), named, added, whole
    )


def _merge_special_tokens_map(settings: dict[str, Any], named: dict[str, Any], path: Path) -> None:
    """Puts special_tokens_map.json over the settings, in place: a file of releases before 5, which wins there too."""
    for name, value in read_json_if_there(path).items():
        if isinstance(value, dict) and name != "extra_special_tokens":
            value = _added_token({key: flag for key, flag in value.items() if key != "special"} | {"special": True})
        elif name == "extra_special_tokens" and isinstance(value, list):
            known = list(settings.get(name) or [])
            tokens = [_special_token(token) if isinstance(token, dict) else token for token in value]
            value = known + [token for token in tokens if token not in known]
        settings[name] = value
    if isinstance(settings.get("extra_special_tokens"), dict):
        named |= settings.pop("extra_special_tokens")


def _older_added_tokens(settings: dict[str, Any], path: Path) -> "list[tuple[int, tokenizers.AddedToken]]":
    """Returns the tokens of added_tokens.json: special and not normalised if the settings name them."""
    from tokenizers import AddedToken

    special = {str(settings[name]) for name in SPECIAL_NAMES if settings.get(name)}
    special |= {str(token) for token in settings.get("extra_special_tokens") or []}
    return [
        (index, AddedToken(token, normalized=token not in special, special=token in special))
        for token, index in read_json_if_there(path).items()
    ]


def _extra(settings: dict[str, Any]) -> "list[str | tokenizers.AddedToken] | None":
    for name in ("extra_special_tokens", "additional_special_tokens"):  # the newer name wins, even with null
        if name in settings:
            tokens = [_as_token(token) for token in settings[name] or []]
            for token in tokens:
                _check_token(token, name)
            # A null list under the older name is as good as none; CamembertTokenizer has a default for it then.
            return tokens if name == "extra_special_tokens" or settings[name] is not None else None
    return None


def _as_token(value: Any) -> Any:
    """Returns an AddedToken for what transformers writes as one, anything else as it is."""
    if isinstance(value, dict) and value.get("__type") == "AddedToken":
        return _added_token({key: flag for key, flag in value.items() if key != "__type"})
    return value


def _added_token(fields: dict[str, Any]) -> "tokenizers.AddedToken":
    from tokenizers import AddedToken

    # The library prints a line on a field that it does not know, and ignores it.
    return AddedToken(**{name: value for name, value in fields.items() if name in _FIELDS})


def _special_token(fields: dict[str, Any]) -> "tokenizers.AddedToken":
    if "special" in fields:
        raise ValueError(f"expected extra_special_tokens in special_tokens_map.json without special, found {fields}")
    return _added_token(fields | {"special": True})


def _check_token(value: Any, name: str) -> None:
    from tokenizers import AddedToken

    if not isinstance(value, str | AddedToken):
        raise TypeError(f"expected {name} to be a text or an AddedToken, found {value!r}")


def check_tokens(tokens: dict[str, Any], names: Iterable[str], path: Path) -> None:
    """Raises BaseModelError if one of these special tokens is null."""
    missing = [name for name in names if tokens[name] is None]
    if missing:
        raise BaseModelError(
            f"{path}: expected a token for {', '.join(missing)}, found null\nfix: name the vocabulary's own token there"
        )
