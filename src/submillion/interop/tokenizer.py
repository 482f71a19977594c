"""Tokenizers beside the models that come and go: an adapter's own, and files for AutoTokenizer that read the same."""

from pathlib import Path
from typing import Any

from submillion.errors import ArtefactError, BaseModelError
from submillion.inference.transformers_tokenizer import (
    bert_settings,
    holds_tokenizer,
    longest_row,
    read_tokenizer,
    reads_as,
)
from submillion.interop.transformers_files import write_json
from submillion.model.base import Base
from submillion.model.shape import EncoderShape
from submillion.text.tokenizer import Tokenizer

FILES = ("tokenizer.json", "tokenizer_config.json")
# What the encoders here call their special tokens.
_SPECIAL = {
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
}


def tokenizer_of_adapter(folder: Path, base: Base, shape: EncoderShape) -> tuple[Tokenizer, int, list[str]]:
    """Returns an adapter's tokenizer, its limit of tokens a row, and a note if it is not the base's.

    folder: the adapter's. The tokenizer in it is taken, as AutoTokenizer.from_pretrained(folder) does; the base's if
    it holds none. shape: the base's. Raises BaseModelError if `read_tokenizer` refuses the tokenizer.
    """
    if not holds_tokenizer(folder):
        return read_tokenizer(base.folder, shape.vocab_size), longest_row(base.folder, shape.max_tokens), []
    try:
        tokenizer = read_tokenizer(folder, shape.vocab_size)
    except BaseModelError as error:
        raise BaseModelError(
            f"{error}; or, where the adapter was trained with the base's tokenizer, delete the tokenizer's files in "
            f"{folder}"
        ) from None
    notes = ["the tokenizer is the one in the adapter's folder, which reads texts otherwise than the base's"]
    return tokenizer, longest_row(folder, shape.max_tokens), [] if reads_as(base.folder, tokenizer) else notes


def write_tokenizer(
    tokenizer: Tokenizer, pad_id: int, max_length: int, folder: Path, settings: dict[str, Any] | None = None
) -> None:
    """Writes the files for AutoTokenizer, whose ids are then those of this tokenizer, cut to max_length.

    settings: a tokenizer_config.json to start from. It is kept if transformers reads the same with it; else, and
    if it is None, transformers' general class is named, which takes tokenizer.json as it is. Raises ArtefactError
    if transformers would read otherwise all the same.
    """
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    path = folder / "tokenizer_config.json"
    limits = {"model_max_length": max_length, "truncation_side": "left" if tokenizer.keeps_end else "right"}
    if settings is not None:
        write_json(path, settings | bert_settings(tokenizer) | limits)
    if settings is None or not reads_as(folder, tokenizer):
        write_json(path, general_settings(tokenizer, pad_id) | limits)
        if not reads_as(folder, tokenizer):
            raise ArtefactError(
                "transformers cannot read texts as this model's tokenizer does, and would give other logits\n"
                "fix: --to onnx, whose tokenizer.json is read by the tokenizers library alone"
            )


def general_settings(tokenizer: Tokenizer, pad_id: int) -> dict[str, Any]:
    """Returns the tokenizer_config.json of the general class, with which transformers takes tokenizer.json as it is.

    A family's own class builds its parts anew, and takes few of those in tokenizer.json.
    """
    tokens = {token.content: token.special for token in tokenizer.backend.get_added_tokens_decoder().values()}
    named = {name: next((token for token in known if tokens.get(token)), None) for name, known in _SPECIAL.items()} | {
        "pad_token": tokenizer.backend.id_to_token(pad_id)
    }
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        # Naming a token makes transformers look for it in texts: only those that are looked for already.
        **{name: token for name, token in named.items() if token in tokens},
    }
