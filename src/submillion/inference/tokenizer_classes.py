"""The tokenizer classes of transformers 5.23 that our encoders' checkpoints name, each as the backend that it builds.

All but the general class build their backend anew from the vocabulary and their settings, and take nothing else of
tokenizer.json than the added tokens. Releases before 5 read tokenizer.json as it is, and put over it add_prefix_space
and, for BERT, the case, the accents and the Chinese characters.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from submillion.errors import BaseModelError
from submillion.inference.tokenizer_files import TokenizerFiles, check_tokens

if TYPE_CHECKING:
    import tokenizers

_BERT_TOKENS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_ROBERTA_TOKENS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "cls_token": "<s>",
    "mask_token": "<mask>",
}
_MPNET_TOKENS = _ROBERTA_TOKENS | {"unk_token": "[UNK]"}
_GPT2_TOKENS = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
_CAMEMBERT_EXTRA = ["<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"]


@dataclass(frozen=True)
class TokenizerClass:
    build: "Callable[[TokenizerFiles], tokenizers.Tokenizer]"
    model: str = ""  # kind of its model; "" takes that of tokenizer.json
    vocabulary: tuple[str, ...] = ()  # files that it reads if there is no tokenizer.json; () reads none


def _bert(files: TokenizerFiles) -> "tokenizers.Tokenizer":
    from tokenizers import processors

    tokens = files.special(_BERT_TOKENS)
    check_tokens(tokens, ("unk_token", "cls_token", "sep_token"), files.folder)
    backend = _word_piece(files, str(tokens["unk_token"]))
    _add_tokens(backend, files, tokens)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{tokens['cls_token']}:0 $A:0 {tokens['sep_token']}:0",
        special_tokens=[_with_id(backend, tokens[name]) for name in ("cls_token", "sep_token")],
    )
    return backend


def _mpnet(files: TokenizerFiles) -> "tokenizers.Tokenizer":
    from tokenizers import AddedToken, processors

    tokens = files.special(_MPNET_TOKENS)
    check_tokens(tokens, ("unk_token", "cls_token", "sep_token"), files.folder)
    backend = _word_piece(files, str(tokens["unk_token"]))
    flagged = {
        name: AddedToken(token, lstrip=name == "mask_token", rstrip=False) if isinstance(token, str) else token
        for name, token in tokens.items()
    }
    _add_tokens(backend, files, flagged)
    sep, cls = (_with_id(backend, tokens[name]) for name in ("sep_token", "cls_token"))
    backend.post_processor = processors.RobertaProcessing(sep, cls, add_prefix_space=False)
    return backend


def _roberta(files: TokenizerFiles) -> "tokenizers.Tokenizer":
    from tokenizers import processors

    tokens = files.special(_ROBERTA_TOKENS)
    check_tokens(tokens, ("cls_token", "sep_token"), files.folder)
    backend = _byte_level(files)
    _add_tokens(backend, files, tokens)
    sep, cls = (_with_id(backend, tokens[name]) for name in ("sep_token", "cls_token"))
    prefix_space = files.settings.get("add_prefix_space", False)
    backend.post_processor = processors.RobertaProcessing(sep, cls, add_prefix_space=prefix_space)
    return backend


def _gpt2(files: TokenizerFiles) -> "tokenizers.Tokenizer":
    backend = _byte_level(files)
    backend.post_processor = _as_saved(files).post_processor
    _add_tokens(backend, files, files.special(_GPT2_TOKENS))
    return backend


def _xlm_roberta(files: TokenizerFiles) -> "tokenizers.Tokenizer":
    return _unigram(files, unk_id=3)


def _camembert(files: TokenizerFiles) -> "tokenizers.Tokenizer":
    from tokenizers import AddedToken

    unk_token = str(files.special(_ROBERTA_TOKENS)["unk_token"])
    vocab = [token for token, _ in files.whole["model"]["vocab"]]
    unk_id = vocab.index(unk_token) if unk_token in vocab else 0
    mask_token = AddedToken("<mask>", lstrip=True, special=True)
    return _unigram(files, unk_id, mask_token, _CAMEMBERT_EXTRA)


def _general(files: TokenizerFiles) -> "tokenizers.Tokenizer":
    """Returns tokenizer.json as it is, and the special tokens that the other files name beside it."""
    backend = _as_saved(files)
    padding = files.whole.get("padding") or {}
    _add_tokens(backend, files, files.special({"pad_token": padding.get("pad_token")}))
    return backend


_BERT = TokenizerClass(_bert, "WordPiece", ("vocab.txt",))
_ROBERTA = TokenizerClass(_roberta, "BPE", ("vocab.json", "merges.txt"))
GENERAL = TokenizerClass(_general)
# By the name in the files, without the ending Fast.
CLASSES = {
    "BertTokenizer": _BERT,
    "DistilBertTokenizer": _BERT,
    "ElectraTokenizer": _BERT,
    "LayoutLMTokenizer": _BERT,
    "LxmertTokenizer": _BERT,
    "MobileBertTokenizer": _BERT,
    "SqueezeBertTokenizer": _BERT,
    "MPNetTokenizer": TokenizerClass(_mpnet, "WordPiece", ("vocab.txt",)),
    "RobertaTokenizer": _ROBERTA,
    "BartTokenizer": _ROBERTA,
    "LEDTokenizer": _ROBERTA,
    "LongformerTokenizer": _ROBERTA,
    "MvpTokenizer": _ROBERTA,
    "GPT2Tokenizer": TokenizerClass(_gpt2, "BPE"),
    "XLMRobertaTokenizer": TokenizerClass(_xlm_roberta, "Unigram"),
    "CamembertTokenizer": TokenizerClass(_camembert, "Unigram"),
    "PreTrainedTokenizer": GENERAL,
    "PythonBackend": GENERAL,
    "TokenizersBackend": GENERAL,
}
# What AutoTokenizer takes if no file names a class. For a ModernBERT it takes this one whatever they name.
CLASS_OF_MODEL_TYPE = {
    "": "TokenizersBackend",
    "bert": "BertTokenizer",
    "camembert": "CamembertTokenizer",
    "distilbert": "BertTokenizer",
    "electra": "BertTokenizer",
    "modernbert": "TokenizersBackend",
    "mpnet": "MPNetTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
}


def tokenizer_class(files: TokenizerFiles) -> tuple[str, TokenizerClass]:
    """Returns the name and the class that AutoTokenizer takes for these files.

    Raises BaseModelError for a class, or a model_type, that is not in the tables.
    """
    if files.model_type not in CLASS_OF_MODEL_TYPE:
        raise BaseModelError(
            f"{files.folder / 'config.json'}: expected a model_type out of "
            f"{', '.join(filter(None, CLASS_OF_MODEL_TYPE))}, found {files.model_type!r}\n"
            "fix: give the tokenizer of one of these"
        )
    usual = CLASS_OF_MODEL_TYPE[files.model_type]
    keeps_usual = files.model_type and usual == "TokenizersBackend"
    name = usual if keeps_usual or not files.class_name else files.class_name.removesuffix("Fast")
    if name not in CLASSES:
        raise BaseModelError(
            f"{files.folder}: expected a tokenizer_class out of {', '.join(CLASSES)}, found {files.class_name}\n"
            "fix: where AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) writes a tokenizer.json, set "
            '"tokenizer_class": "PreTrainedTokenizerFast" in tokenizer_config.json beside it; else use the model with '
            "transformers"
        )
    return name, CLASSES[name]


# Parts


def _as_saved(files: TokenizerFiles) -> "tokenizers.Tokenizer":
    from tokenizers import Tokenizer as Backend

    return Backend.from_file(str(files.folder / "tokenizer.json"))


def _word_piece(files: TokenizerFiles, unk_token: str) -> "tokenizers.Tokenizer":
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, normalizers, pre_tokenizers

    if files.whole:
        vocab = files.whole["model"]["vocab"]
    else:
        vocab = models.WordPiece.read_file(str(files.folder / "vocab.txt"))
    backend = Backend(models.WordPiece(vocab, unk_token=unk_token))
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=files.settings.get("tokenize_chinese_chars", True),
        strip_accents=files.settings.get("strip_accents"),
        lowercase=files.settings.get("do_lower_case", True),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return backend


def _byte_level(files: TokenizerFiles) -> "tokenizers.Tokenizer":
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers

    if files.whole:
        vocab, merges = files.whole["model"]["vocab"], files.whole["model"]["merges"]
        merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in merges]
    else:
        vocab, merges = models.BPE.read_file(*(str(files.folder / name) for name in ("vocab.json", "merges.txt")))
    backend = Backend(models.BPE(vocab, merges, continuing_subword_prefix="", end_of_word_suffix=""))
    prefix_space = files.settings.get("add_prefix_space", False)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    return backend


def _unigram(
    files: TokenizerFiles, unk_id: int, mask_token: Any = "<mask>", extra: "list[str] | None" = None
) -> "tokenizers.Tokenizer":
    """Returns SentencePiece's unigram model between bos_token and eos_token, which are these classes' ends of a text.

    extra: special tokens without a name, if the files list none.
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, normalizers, pre_tokenizers, processors

    tokens = files.special(_ROBERTA_TOKENS | {"mask_token": mask_token})
    check_tokens(tokens, ("bos_token", "eos_token", "unk_token"), files.folder)
    vocab = [tuple(pair) for pair in files.whole["model"]["vocab"]]
    backend = Backend(models.Unigram(vocab, unk_id=unk_id, byte_fallback=False))
    charsmap = _charsmap(files.whole.get("normalizer"))
    if charsmap is not None:
        backend.normalizer = normalizers.Precompiled(charsmap)
    scheme = "always" if files.settings.get("add_prefix_space", True) else "never"
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme)]
    )
    _add_tokens(backend, files, tokens, extra)
    ends = [_with_id(backend, tokens[name]) for name in ("bos_token", "eos_token")]
    backend.post_processor = processors.TemplateProcessing(single=[ends[0][0], "$A", ends[1][0]], special_tokens=ends)
    return backend


def _with_id(backend: "tokenizers.Tokenizer", token: Any) -> tuple[str, int]:
    """Returns a special token's text and id."""
    index = backend.token_to_id(str(token))
    if index is None:
        raise ValueError(f"the vocabulary has no {str(token)!r}")
    return str(token), index


def _charsmap(normalizer: dict[str, Any] | None) -> bytes | None:
    """Returns SentencePiece's table of characters out of tokenizer.json's normalizer, the one part that is kept."""
    if not normalizer:
        return None
    steps = normalizer["normalizers"] if normalizer.get("type") == "Sequence" else [normalizer]
    tables = [step["precompiled_charsmap"] for step in steps if step.get("type") == "Precompiled"]
    return base64.b64decode(tables[0]) if tables else None


def _add_tokens(
    backend: "tokenizers.Tokenizer", files: TokenizerFiles, tokens: dict[str, Any], extra: "list[str] | None" = None
) -> None:
    """Adds the files' added tokens and the special tokens, in transformers' order: it decides the ids of new ones."""
    from tokenizers import AddedToken

    by_id = dict(files.added)
    to_add: list[Any] = [by_id[index] for index in sorted(by_id)]  # over those that the backend has already
    contents = {token.content for token in [*backend.get_added_tokens_decoder().values(), *to_add]}
    named = [token for token in (tokens | files.named).values() if token is not None]
    for token in [*named, *((files.extra if files.extra is not None else extra) or [])]:
        if str(token) not in contents and token not in to_add:
            to_add.append(token)
    names = {str(token) for token in named}
    added: list[AddedToken] = []
    for token in to_add:
        if isinstance(token, str):
            token = AddedToken(token, special=True)
        elif str(token) in names:
            token.special = True
        added.append(token)
    backend.add_tokens(added)
