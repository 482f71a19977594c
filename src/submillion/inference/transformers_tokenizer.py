"""The tokenizer of somebody else's checkpoint or adapter: texts become the ids that transformers gives them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from submillion.errors import BaseModelError
from submillion.inference.json_files import read_json_if_there
from submillion.inference.tokenizer_classes import TokenizerClass, tokenizer_class
from submillion.inference.tokenizer_files import TokenizerFiles, read_tokenizer_files
from submillion.text.tokenizer import Tokenizer
from submillion.text.vocabulary import files_hash, no_tokenizer, tokenizer_files, too_many_ids

if TYPE_CHECKING:
    import tokenizers

# Any of these makes transformers 5.23 pass over a vocabulary file, if there is no tokenizer.json.
_OTHER_VOCABULARIES = ("tekken.json", "tokenizer.model*", "tiktoken.model")


def read_tokenizer(folder: Path, vocab_size: int) -> Tokenizer:
    """Returns the tokenizer that AutoTokenizer.from_pretrained(folder) of transformers 5.23 makes of these files.

    vocab_size: that of the encoder which reads the ids. The ids are equal for every text, special tokens in it
    included; padding is no part of it. Raises BaseModelError if a file is missing or cannot be read, for a
    tokenizer class or a setting that is not known here, and if the encoder has no embedding for an id.
    """
    tokenizer = _tokenizer(read_tokenizer_files(folder))
    ids = max(tokenizer.backend.get_vocab().values(), default=-1) + 1
    if ids > vocab_size:
        raise BaseModelError(too_many_ids(folder, ids, vocab_size) + _new_tokens_hint(tokenizer.backend))
    return tokenizer


def reads_as(folder: Path, tokenizer: Tokenizer) -> bool:
    """Returns whether transformers would read every text with the folder's files as this tokenizer does.

    It compares the tokenizers' parts, not texts: two spellings of one function may count as different.
    """
    try:
        theirs = _tokenizer(read_tokenizer_files(folder))
    except BaseModelError:
        return False
    return theirs.keeps_end == tokenizer.keeps_end and _what_reads(theirs) == _what_reads(tokenizer)


def longest_row(folder: Path, most: int) -> int:
    """Returns the tokenizer's own limit of tokens a row if the encoder can place as many, else `most`."""
    settings = read_json_if_there(folder / "tokenizer_config.json")
    limit = settings.get("model_max_length", settings.get("max_len"))
    return limit if isinstance(limit, int) and 3 <= limit <= most else most


def holds_tokenizer(folder: Path) -> bool:
    """Returns whether the folder holds a vocabulary: without one, its other tokenizer files describe no tokenizer."""
    return bool(tokenizer_files(folder)) or any(folder.glob("*.model"))


def bert_settings(tokenizer: Tokenizer) -> dict[str, bool | None]:
    """Returns what tokenizer_config.json has to say of a BERT-like normalizer; {} for any other."""
    from tokenizers.normalizers import BertNormalizer

    normalizer = tokenizer.backend.normalizer
    if not isinstance(normalizer, BertNormalizer) or not normalizer.clean_text:
        return {}
    strip_accents = normalizer.lowercase if normalizer.strip_accents is None else normalizer.strip_accents
    return {
        "do_lower_case": normalizer.lowercase,
        "strip_accents": strip_accents,
        "tokenize_chinese_chars": normalizer.handle_chinese_chars,
    }


def _tokenizer(files: TokenizerFiles) -> Tokenizer:
    return Tokenizer(_build(files), files_hash(files.folder), keeps_end=_keeps_end(files))


def _build(files: TokenizerFiles) -> "tokenizers.Tokenizer":
    name, made_by = tokenizer_class(files)
    _check_files(files, name, made_by)
    try:
        backend = made_by.build(files)
    except BaseModelError:
        raise
    except Exception as error:  # `tokenizers` raises bare Exception for anything it cannot read
        raise BaseModelError(
            f"the tokenizer in {files.folder} cannot be read as {name}: {error}\n"
            "fix: copy the tokenizer's files again, all from one folder"
        ) from None
    _check_unknown(backend, files.folder)
    _check_token_types(backend, files)
    return backend


def _check_files(files: TokenizerFiles, name: str, made_by: TokenizerClass) -> None:
    """Raises BaseModelError if the class would find no vocabulary, or one of another kind of model.

    transformers 5 raises no error there: it makes a tokenizer of five tokens, or cuts the texts to pieces that the
    vocabulary does not have. Releases before 5 read such a tokenizer.json as it is.
    """
    if not files.whole and not tokenizer_files(files.folder):
        raise BaseModelError(no_tokenizer(files.folder))
    if files.whole:
        model = files.whole.get("model")
        kind = _kind(model if isinstance(model, dict) else {})
        if made_by.model and kind != made_by.model:
            raise BaseModelError(
                f"{files.folder / 'tokenizer.json'}: expected a {made_by.model} model, which {name} reads, found "
                f"{kind}: transformers 5 would make other tokens of every text\n"
                'fix: "tokenizer_class": "PreTrainedTokenizerFast" in tokenizer_config.json, which takes '
                "tokenizer.json as it is"
            )
        return
    missing = [file for file in made_by.vocabulary or ("tokenizer.json",) if not (files.folder / file).is_file()]
    others = [path.name for pattern in _OTHER_VOCABULARIES for path in sorted(files.folder.glob(pattern))]
    if missing or others:
        raise BaseModelError(
            f"{files.folder}: expected {' + '.join(made_by.vocabulary) or 'tokenizer.json'} for {name}, found "
            f"{', '.join([*tokenizer_files(files.folder), *others])}\n"
            "fix: name the class that these files belong to, as tokenizer_class in tokenizer_config.json; or have "
            "transformers write a tokenizer.json: AutoTokenizer.from_pretrained(NAME).save_pretrained(DIR)"
        )


def _check_unknown(backend: "tokenizers.Tokenizer", folder: Path) -> None:
    """Raises BaseModelError if the model has no token for what its vocabulary lacks: such a text would raise."""
    model = json.loads(backend.to_str())["model"]
    if model["type"] == "Unigram":
        known = model["unk_id"] is not None or model["byte_fallback"]
    else:
        known = model["unk_token"] in model["vocab"] or (model["type"] == "BPE" and model["unk_token"] is None)
    if not known:
        raise BaseModelError(
            f"{folder}: expected an unk_token that the vocabulary holds, found {model.get('unk_token')!r}, which it "
            'does not\nfix: name the vocabulary\'s own in tokenizer_config.json: "unk_token"'
        )


def _check_token_types(backend: "tokenizers.Tokenizer", files: TokenizerFiles) -> None:
    """Raises BaseModelError if one text gets a token type other than 0: the encoders here add type 0 alone."""
    inputs = files.settings.get("model_input_names") or ["token_type_ids"]
    if "token_type_ids" in inputs and any(backend.encode("a").type_ids):
        raise BaseModelError(
            f"{files.folder / 'tokenizer.json'}: expected token type 0 for a single text, found another in its "
            'post_processor\nfix: "type_id": 0 there, if the model was trained so; else use it with transformers'
        )


def _kind(model: dict[str, Any]) -> str:
    """Returns the kind of a model in tokenizer.json; older files do not name it."""
    if "type" in model:
        return str(model["type"])
    if "merges" in model:
        return "BPE"
    return "Unigram" if isinstance(model.get("vocab"), list) else "WordPiece"


def _keeps_end(files: TokenizerFiles) -> bool:
    """Returns whether a long text loses its beginning.

    If tokenizer_config.json does not say, transformers takes the side that tokenizer.json cuts on. Raises
    BaseModelError if truncation_side is neither right nor left.
    """
    if "truncation_side" not in files.settings:
        truncation = files.whole.get("truncation")
        return isinstance(truncation, dict) and truncation.get("direction") == "Left"
    side = files.settings["truncation_side"]
    if side not in ("right", "left"):
        raise BaseModelError(
            f"{files.folder / 'tokenizer_config.json'}: expected truncation_side right or left, found {side!r}\n"
            'fix: "truncation_side": "right" there, which keeps the beginning of a long text'
        )
    return bool(side == "left")


def _new_tokens_hint(backend: "tokenizers.Tokenizer") -> str:
    """Returns a further fix if the vocabulary lacks tokens that the class adds to it."""
    vocab = backend.get_vocab(with_added_tokens=False)
    new = [token.content for token in backend.get_added_tokens_decoder().values() if token.content not in vocab]
    if not new:
        return ""
    return (
        f"; or, where the vocabulary has other names for {', '.join(new[:5])}, name them in tokenizer_config.json: "
        '"mask_token", "pad_token" and so on'
    )


def _what_reads(tokenizer: Tokenizer) -> dict[str, Any]:
    """Returns the tokenizer's JSON without what decides no ids, and with one spelling for what has several."""
    state: dict[str, Any] = json.loads(tokenizer.to_str())
    for name in ("decoder", "truncation", "padding"):
        state.pop(name, None)
    normalizer = state["normalizer"]
    if normalizer and normalizer["type"] == "BertNormalizer" and normalizer["strip_accents"] is None:
        state["normalizer"] = normalizer | {"strip_accents": normalizer["lowercase"]}
    state["post_processor"] = _around(state["post_processor"])
    return state


def _around(processor: dict[str, Any] | None) -> Any:
    """Returns the ids that a post-processor puts around a text, [] for the text; what is not known as it is."""
    kind = processor["type"] if processor else None
    if processor is None or kind == "ByteLevel":  # which changes offsets alone
        return [[]]
    if kind in ("BertProcessing", "RobertaProcessing"):
        return [processor["cls"][1], [], processor["sep"][1]]
    if kind != "TemplateProcessing":
        return processor
    around: list[Any] = []
    for step in processor["single"]:
        special = step.get("SpecialToken")
        around += processor["special_tokens"][special["id"]]["ids"] if special else [[]]
    return around
