"""Reads a tokenizer's files: which sets of files there are, and the `tokenizers` backend that each set makes."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tokenizers


def no_tokenizer(folder: Path) -> str:
    """Returns the error message for a folder in which no set of tokenizer files is complete."""
    sets = ", or ".join(" + ".join(names) for names in READERS)
    sentencepiece = sorted(path.name for path in folder.glob("*.model"))
    hint = f", found {', '.join(sentencepiece)} alone" if sentencepiece else ""
    return (
        f"{folder} holds no tokenizer\nexpected: {sets}{hint}\nfix: have transformers write a tokenizer.json: "
        "AutoTokenizer.from_pretrained(NAME).save_pretrained(DIR)"
    )


def too_many_ids(folder: Path, ids: int, vocab_size: int) -> str:
    """Returns the error message for a tokenizer with more ids than the encoder has embeddings."""
    return (
        f"the tokenizer in {folder} ({' + '.join(tokenizer_files(folder))}) does not fit the encoder\n"
        f"expected: at most vocab_size = {vocab_size} ids\nfound: {ids} ids\n"
        "fix: copy the tokenizer that belongs to these weights; or, where tokens were added to it, have "
        "transformers make the model larger: resize_token_embeddings(len(tokenizer)), and save_pretrained"
    )


def files_hash(folder: Path) -> str:
    """Returns the SHA-256, in hexadecimal digits, of the tokenizer files that are read; "" if there are none."""
    names = tokenizer_files(folder)
    if not names:
        return ""
    digest = hashlib.sha256()
    if names != WHOLE:
        more = ("tokenizer_config.json", _ADDED)  # casing, added tokens and the like; tokenizer.json holds these itself
        names = (*names, *(name for name in more if (folder / name).is_file()))
    for name in names:
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def tokenizer_files(folder: Path) -> tuple[str, ...]:
    """Returns the first set of files in READERS that is complete in the folder; () if none is."""
    return next((names for names in READERS if all((folder / name).is_file() for name in names)), ())


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def _from_json(folder: Path) -> "tokenizers.Tokenizer":
    from tokenizers import Tokenizer as Backend

    return Backend.from_file(str(folder / "tokenizer.json"))


def add_tokens(backend: "tokenizers.Tokenizer", folder: Path) -> None:
    """Adds the tokens that were added to the vocabulary later. Raises ValueError if an id differs from the folder's."""
    tokens = _added_tokens(folder)
    backend.add_tokens([token for _, token in sorted(tokens.items(), key=lambda item: item[0])])
    for index, token in tokens.items():
        if (found := backend.token_to_id(token.content)) != index:
            raise ValueError(
                f"expected added tokens whose ids follow on, found {token.content!r} with id {index} in place of "
                f"{found}\nfix: copy the tokenizer's files again, all from one folder"
            )


def _added_tokens(folder: Path) -> "dict[int, tokenizers.AddedToken]":
    """Returns the added tokens by id. As in transformers, tokenizer_config.json, which has their settings, comes first.

    Without them there, they are read from added_tokens.json.
    """
    from tokenizers import AddedToken

    settings = _settings(folder)
    if "added_tokens_decoder" in settings:
        return {int(index): AddedToken(**token) for index, token in settings["added_tokens_decoder"].items()}
    if not (folder / _ADDED).is_file():
        return {}
    special = [token for name, token in settings.items() if name.endswith("_token")]
    special += settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []
    added = json.loads((folder / _ADDED).read_text("utf-8"))
    return {index: AddedToken(token, special=token in special) for token, index in added.items()}


def _byte_level_bpe(folder: Path) -> "tokenizers.Tokenizer":
    """Builds RoBERTa's tokenizer: byte-level BPE between <s> and </s>. Raises ValueError if these are missing."""
    from tokenizers import AddedToken, models, pre_tokenizers, processors
    from tokenizers import Tokenizer as Backend

    prefix_space = _settings(folder).get("add_prefix_space", False)
    bpe = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    backend = Backend(bpe)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    cls_id, sep_id = (backend.token_to_id(token) for token in ("<s>", "</s>"))
    if cls_id is None or sep_id is None:
        raise ValueError("vocab.json has no <s> and </s>")
    backend.post_processor = processors.RobertaProcessing(
        ("</s>", sep_id), ("<s>", cls_id), trim_offsets=True, add_prefix_space=prefix_space
    )
    plain = [token for token in ("<s>", "<pad>", "</s>", "<unk>") if backend.token_to_id(token) is not None]
    backend.add_special_tokens([AddedToken(token, special=True) for token in plain])
    if backend.token_to_id("<mask>") is not None:
        backend.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    return backend


def _word_piece(folder: Path) -> "tokenizers.Tokenizer":
    """Builds BERT's tokenizer, word pieces between [CLS] and [SEP], or MPNet's, between <s> and </s>.

    Raises ValueError if a special token is missing.
    """
    from tokenizers import AddedToken, models, normalizers, pre_tokenizers, processors
    from tokenizers import Tokenizer as Backend

    settings = _settings(folder)
    # Not splitlines(), which also splits at characters that vocabularies hold as tokens, such as U+2028.
    lines = (folder / "vocab.txt").read_text("utf-8").removesuffix("\n").split("\n")
    vocab = {token: index for index, token in enumerate(lines)}
    mpnet = "[CLS]" not in vocab
    cls_token, sep_token, pad_token, mask_token = ("<s>", "</s>", "<pad>", "<mask>") if mpnet else (
        "[CLS]", "[SEP]", "[PAD]", "[MASK]",
    )  # fmt: skip
    special = (cls_token, sep_token, pad_token, "[UNK]")
    missing = [token for token in special if token not in vocab]
    if missing:
        raise ValueError(f"vocab.txt has no {', '.join(missing)}")
    backend = Backend(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{cls_token} $A {sep_token}",
        special_tokens=[(cls_token, vocab[cls_token]), (sep_token, vocab[sep_token])],
    )
    backend.add_special_tokens([AddedToken(token, special=True) for token in special])
    if mask_token in vocab:
        backend.add_special_tokens([AddedToken(mask_token, lstrip=mpnet, special=True)])
    return backend


WHOLE = ("tokenizer.json",)
_ADDED = "added_tokens.json"  # older than added_tokens_decoder in tokenizer_config.json
# In order of preference: the files a folder must hold, and what reads them.
READERS: "dict[tuple[str, ...], Callable[[Path], tokenizers.Tokenizer]]" = {
    WHOLE: _from_json,
    ("vocab.json", "merges.txt"): _byte_level_bpe,
    ("vocab.txt",): _word_piece,
}
