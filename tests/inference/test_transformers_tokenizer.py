"""Other people's tokenizers: the ids are those of AutoTokenizer, or the folder is refused; never others in silence."""

import base64
import json
import string
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import MODEL_TYPES

from submillion.errors import BaseModelError
from submillion.inference.transformers_tokenizer import longest_row, read_tokenizer, reads_as
from submillion.text.tokenizer import Tokenizer

TEXTS = [
    "",
    " ",
    "oil prices rise",
    "  oil  prices\trise\n",
    "Oil PRICES Rise",
    "café Élan naïve Cafe\u0301",
    "日本語のテキスト 中文",
    "👩‍👩‍👧 emoji 🇩🇪",
    "nul\x00 bell\x07 soft\u00adhyphen zero\u200bwidth",
    "line\u2028paragraph\u00a0nbsp\u3000wide",
    "a <mask> b",
    "a<mask>b",
    "a [MASK] b[MASK] c",
    "<s>oil</s> <pad> <unk>",
    "[CLS] oil [SEP] [PAD] [UNK]",
    "<S> [cls] <MASK>",
    "NEW new <new> <x> <extra>xy <extra>",
    "<|endoftext|> oil <s>NOTUSED",
    "don't stop-me now!!! (ok) 1,000.50%",
    "x" * 300,
]
NAMES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
ANGLES, SQUARES = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [*string.ascii_letters, *string.digits, *string.punctuation, "é", "日", "本"]
WORDS = ["oil", "prices", "rise", "cafe", "café", "new", "NEW"]
VOCAB_SIZE = 1000
CUT = 6  # tokens


def pieces(special: list[str]) -> dict[str, int]:
    tokens = [*special, *LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS]
    return {token: index for index, token in enumerate(dict.fromkeys(tokens))}


def byte_pairs(special: list[str]) -> tuple[dict[str, int], list[str]]:
    from tokenizers import pre_tokenizers

    merges = ["o i", "oi l", "Ġ oil", "Ġ p", "Ġp r", "i s", "Ġ oi"]
    tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in merges)]
    return {token: index for index, token in enumerate(dict.fromkeys(tokens))}, merges


def unigrams(special: list[str]) -> list[list[Any]]:
    scores = [[token, 0.0] for token in special] + [["▁", -2.0]] + [[letter, -3.0] for letter in LETTERS]
    return scores + [[f"▁{word}", -1.0] for word in WORDS] + [["oil", -1.5]]


def model(kind: str, special: list[str]) -> dict[str, Any]:
    """The model of a tokenizer.json."""
    if kind == "WordPiece":
        unk = {"unk_token": special[1] if "[UNK]" not in special else "[UNK]", "continuing_subword_prefix": "##"}
        return {"type": kind, "max_input_chars_per_word": 100, "vocab": pieces(special), **unk}
    if kind == "BPE":
        vocab, merges = byte_pairs(special)
        return {"type": kind, "vocab": vocab, "merges": merges}
    return {"type": kind, "unk_id": min(3, len(special) - 1), "vocab": unigrams(special), "byte_fallback": False}


def charsmap() -> str:
    """A table of SentencePiece that maps N to n: the size of its double array, the array, the texts."""
    units = [0] * 768
    units[0] = 256 << 10  # the root's children are 256 ^ byte
    child = 256 ^ ord("N")
    units[child] = ord("N") | 1 << 8 | (child ^ 512) << 10  # a leaf, whose value is unit 512: the text at 0
    array = b"".join(unit.to_bytes(4, "little") for unit in units)
    return base64.b64encode(len(array).to_bytes(4, "little") + array + b"n\0").decode()


LIMIT = {"max_length": 9, "strategy": "LongestFirst", "stride": 0}
SPACES = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
BERT = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None}
NORMALIZERS: list[Any] = [
    None,
    BERT | {"lowercase": True},
    BERT | {"lowercase": False},
    BERT | {"lowercase": False, "strip_accents": True, "clean_text": False},
    {"type": "Lowercase"},
    {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Precompiled", "precompiled_charsmap": charsmap()}]},
]
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
PRE_TOKENIZERS: list[Any] = [
    None,
    {"type": "BertPreTokenizer"},
    {"type": "Whitespace"},
    BYTES,
    BYTES | {"add_prefix_space": True},
    SPACES,
    {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, SPACES]},
]


def post_processors(special: list[str]) -> list[Any]:
    first, last = special[0], special[-1]
    ends = {"sep": [last, len(special) - 1], "cls": [first, 0]}
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": first, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {first: {"id": first, "ids": [0], "tokens": [first]}},
    }
    roberta = {"type": "RobertaProcessing", "trim_offsets": True, "add_prefix_space": False}
    return [None, {"type": "BertProcessing"} | ends, roberta | ends, template]


def write(folder: Path, files: dict[str, Any]) -> Path:
    """Writes JSON; for vocab.txt and the like, the vocabulary that has these special tokens."""
    for name, content in files.items():
        if name == "vocab.txt":
            text = "\n".join(pieces(content)) + "\n"
        elif name == "merges.txt":
            text = "\n".join(["#version: 0.2", *byte_pairs(content)[1]]) + "\n"
        elif name == "vocab.json":
            text = json.dumps(byte_pairs(content)[0])
        elif name == "tokenizer.json":
            text = json.dumps(content | {"model": model(*content["model"])})
        else:
            text = json.dumps(content)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def whole(kind: str, special: list[str], **parts: Any) -> dict[str, Any]:
    """A tokenizer.json that says nothing but its model and these parts."""
    empty = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"))
    return {"version": "1.0", "added_tokens": [], **empty, "model": (kind, special), **parts}


def flags(**changes: bool) -> dict[str, bool]:
    return {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} | changes


def added(tokens: list[str], special: list[str], **changes: bool) -> list[dict[str, Any]]:
    """The added tokens of a tokenizer.json, those out of the vocabulary's first ones."""
    return [{"id": special.index(token), "content": token, **flags(**changes)} for token in tokens]


def their_ids(folder: Path) -> list[list[int]]:
    """The ids of TEXTS, whole and then cut."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer(TEXTS)["input_ids"] + tokenizer(TEXTS, truncation=True, max_length=CUT)["input_ids"]


def our_ids(folder: Path) -> list[list[int]]:
    """The same of the tokenizer as it is read, which a saved model gives back."""
    tokenizer = read_tokenizer(folder, VOCAB_SIZE)
    ids = ids_of(tokenizer)
    assert ids_of(Tokenizer.from_str(tokenizer.to_str(), "")) == ids and reads_as(folder, tokenizer)
    return ids


def ids_of(tokenizer: Tokenizer) -> list[list[int]]:
    tokens = [tokenizer.encode(TEXTS, max_length) for max_length in (10**6, CUT)]
    return [rows.row(index).tolist() for rows in tokens for index in range(len(TEXTS))]


# Any combination of what the files can say


TOKEN_FLAGS = st.builds(
    flags,
    single_word=st.booleans(),
    lstrip=st.booleans(),
    rstrip=st.booleans(),
    normalized=st.booleans(),
    special=st.booleans(),
)
TOKEN_TEXTS = st.sampled_from([*ANGLES, *SQUARES, "<new>", "NEW", "<x>", "<|endoftext|>", "<s>NOTUSED", "oil"])
NO_TYPE = {"content": "<x>", "lstrip": True}
CONTENTS = st.builds(lambda text, values: {"content": text, **values}, TOKEN_TEXTS, TOKEN_FLAGS)
FLAGGED = CONTENTS.map(lambda token: {"__type": "AddedToken", **token})
TOKENS = st.one_of(TOKEN_TEXTS, TOKEN_TEXTS, FLAGGED, st.none(), st.just(NO_TYPE))
TOKEN_LISTS = st.one_of(st.lists(st.one_of(TOKEN_TEXTS, FLAGGED), max_size=3), st.none())
CLASSES = [
    "BertTokenizer",
    "BertTokenizerFast",
    "DistilBertTokenizer",
    "DistilBertTokenizerFast",
    "ElectraTokenizerFast",
    "MPNetTokenizer",
    "MPNetTokenizerFast",
    "RobertaTokenizer",
    "RobertaTokenizerFast",
    "XLMRobertaTokenizer",
    "XLMRobertaTokenizerFast",
    "CamembertTokenizer",
    "CamembertTokenizerFast",
    "PreTrainedTokenizerFast",
    "PreTrainedTokenizer",
    "TokenizersBackend",
    "BartTokenizer",
    "LongformerTokenizerFast",
    "GPT2Tokenizer",
    "GPT2TokenizerFast",
    "LayoutLMTokenizerFast",
    "MobileBertTokenizer",
    "DebertaV2Tokenizer",
    "BertJapaneseTokenizer",
    "NoSuchTokenizer",
]
# A class that reads the kind, most of the time: most of the folders are to be read, not refused.
CLASS_OF_KIND = {
    "WordPiece": ["BertTokenizer", "DistilBertTokenizerFast", "MPNetTokenizer", "ElectraTokenizer"],
    "BPE": ["RobertaTokenizer", "RobertaTokenizerFast", "BartTokenizerFast", "GPT2Tokenizer"],
    "Unigram": ["XLMRobertaTokenizer", "CamembertTokenizer", "XLMRobertaTokenizerFast"],
}
GENERAL = ["PreTrainedTokenizerFast", "TokenizersBackend", "PreTrainedTokenizer"]
SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "add_prefix_space": st.booleans(),
    "do_lower_case": st.booleans(),
    "strip_accents": st.sampled_from([None, True, False]),
    "tokenize_chinese_chars": st.booleans(),
    "trim_offsets": st.booleans(),
    "truncation_side": st.sampled_from(["right", "left", None]),
    "split_special_tokens": st.sampled_from([False, False, True]),
    "add_bos_token": st.booleans(),
    "add_eos_token": st.booleans(),
    "additional_special_tokens": TOKEN_LISTS,
    "extra_special_tokens": st.one_of(TOKEN_LISTS, st.dictionaries(st.just("image_token"), TOKEN_TEXTS)),
    "image_token": TOKENS,
    **{f"{name}_token": TOKENS for name in NAMES},
}
MAPPED = ["additional_special_tokens", "extra_special_tokens", "image_token", *(f"{name}_token" for name in NAMES)]
ADDED = st.dictionaries(st.integers(0, 6).map(str), CONTENTS)


@st.composite
def folders(draw: st.DrawFn) -> dict[str, Any]:
    """The files of a folder, by name."""
    special = draw(st.sampled_from([ANGLES, SQUARES, SQUARES[::-1], [*ANGLES, *SQUARES], ["<s>", "</s>", "[UNK]"]]))
    kind = draw(st.sampled_from(["WordPiece", "BPE", "Unigram"]))
    files: dict[str, Any] = {}
    if draw(st.integers(0, 3)):
        tokens = draw(st.dictionaries(st.sampled_from([*special, "<new>"]), TOKEN_FLAGS, max_size=4))
        size = len(model(kind, special)["vocab"])
        files["tokenizer.json"] = whole(
            kind,
            special,
            normalizer=draw(st.sampled_from(NORMALIZERS)),
            pre_tokenizer=draw(st.sampled_from(PRE_TOKENIZERS)),
            post_processor=draw(st.sampled_from(post_processors(special))),
            added_tokens=[
                {"id": special.index(text) if text in special else size, "content": text, **values}
                for text, values in tokens.items()
            ],
        )
        if draw(st.integers(0, 3)) == 0:
            side = draw(st.sampled_from(["Left", "Right"]))
            files["tokenizer.json"]["truncation"] = LIMIT | {"direction": side}
        if draw(st.integers(0, 3)) == 0:
            files["tokenizer.json"]["padding"] = {
                "strategy": "BatchLongest",
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": draw(TOKEN_TEXTS),
            }
    if draw(st.booleans()) or not files:
        if kind == "BPE":
            files |= {"vocab.json": special, "merges.txt": special}
        else:
            files["vocab.txt"] = special
    config = {"model_type": draw(st.sampled_from(MODEL_TYPES))}
    names = st.sampled_from([*CLASS_OF_KIND[kind] * 4, *GENERAL, *CLASSES])
    if draw(st.integers(0, 4)) == 0:
        config["tokenizer_class"] = draw(names)
    if draw(st.integers(0, 4)):
        files["config.json"] = config
    if draw(st.integers(0, 4)):
        chosen = draw(st.sets(st.sampled_from(sorted(SETTINGS)), max_size=4))
        files["tokenizer_config.json"] = {name: draw(SETTINGS[name]) for name in sorted(chosen)}
        if draw(st.integers(0, 3)):
            files["tokenizer_config.json"]["tokenizer_class"] = draw(names)
        if draw(st.integers(0, 3)) == 0:
            files["tokenizer_config.json"]["added_tokens_decoder"] = draw(ADDED)
    if draw(st.integers(0, 3)) == 0:
        chosen = draw(st.sets(st.sampled_from(MAPPED), max_size=3))
        tokens = st.one_of(
            TOKEN_TEXTS, st.builds(lambda text, said: {"content": text, **said}, TOKEN_TEXTS, TOKEN_FLAGS)
        )
        files["special_tokens_map.json"] = {
            name: draw(TOKEN_LISTS if name.endswith("_tokens") else tokens) for name in sorted(chosen)
        }
    if draw(st.integers(0, 4)) == 0:
        files["added_tokens.json"] = {draw(TOKEN_TEXTS): draw(st.integers(0, 500))}
    return files


@settings(max_examples=250)
@given(folders())
def test_any_files_give_the_ids_of_transformers_or_are_refused(files: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = write(Path(name), files)
        try:
            ours = our_ids(folder)
        except BaseModelError as error:
            assert "\nfix: " in str(error)
            return
        assert ours == their_ids(folder)


# Each class, and each way to differ


BPE_FILES = {"vocab.json": ANGLES, "merges.txt": ANGLES}
FILES: dict[str, dict[str, Any]] = {  # by the kind of vocabulary: as transformers itself writes them, nearly
    "WordPiece": {
        "tokenizer.json": whole(
            "WordPiece",
            SQUARES,
            added_tokens=added(SQUARES, SQUARES),
            normalizer=NORMALIZERS[1],
            pre_tokenizer={"type": "BertPreTokenizer"},
            post_processor={"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        )
    },
    "BPE": {
        "tokenizer.json": whole(
            "BPE",
            ANGLES,
            added_tokens=[*added(ANGLES[:4], ANGLES), *added(["<mask>"], ANGLES, lstrip=True)],
            pre_tokenizer=BYTES,
            post_processor={
                "type": "RobertaProcessing",
                "sep": ["</s>", 2],
                "cls": ["<s>", 0],
                "trim_offsets": True,
                "add_prefix_space": False,
            },
        )
    },
    "Unigram": {
        "tokenizer.json": whole(
            "Unigram",
            [*ANGLES, "<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"],
            added_tokens=added(ANGLES, ANGLES),
            normalizer=NORMALIZERS[-1],
            pre_tokenizer=PRE_TOKENIZERS[-1],
        )
    },
    "vocab.txt": {"vocab.txt": SQUARES},
    "vocab.json": BPE_FILES,
}
TYPES = {"WordPiece": "bert", "vocab.txt": "bert", "BPE": "roberta", "vocab.json": "roberta", "Unigram": "xlm-roberta"}
MASK = {"__type": "AddedToken", "content": "<mask>", **flags(lstrip=True)}
CHANGES: dict[str, dict[str, Any]] = {  # of the files by name; None takes a part of tokenizer.json away
    "nothing": {},
    "a prefix space": {"tokenizer_config.json": {"add_prefix_space": True}},
    "no prefix space": {"tokenizer_config.json": {"add_prefix_space": False}},
    "a prefix space in tokenizer.json": {"tokenizer.json": {"pre_tokenizer": BYTES | {"add_prefix_space": True}}},
    "case kept": {"tokenizer_config.json": {"do_lower_case": False}},
    "accents kept": {"tokenizer_config.json": {"strip_accents": False}},
    "Chinese characters together": {"tokenizer_config.json": {"tokenize_chinese_chars": False}},
    "case kept in tokenizer.json": {"tokenizer.json": {"normalizer": NORMALIZERS[2]}},
    "no post-processor": {"tokenizer.json": {"post_processor": None}},
    "no normalizer": {"tokenizer.json": {"normalizer": None}},
    "another pre-tokenizer": {"tokenizer.json": {"pre_tokenizer": {"type": "Whitespace"}}},
    "no added tokens": {"tokenizer.json": {"added_tokens": []}},
    "a mask with a flag": {"tokenizer_config.json": {"mask_token": MASK}},
    "another mask": {"tokenizer_config.json": {"mask_token": "x"}},
    "another end": {"tokenizer_config.json": {"sep_token": "oil", "eos_token": "oil"}},
    "more special tokens": {"tokenizer_config.json": {"additional_special_tokens": ["NEW", "e"]}},
    "special_tokens_map.json": {"special_tokens_map.json": {"mask_token": {"content": "rise", **flags(rstrip=True)}}},
    "added_tokens_decoder": {
        "tokenizer_config.json": {"added_tokens_decoder": {"4": {"content": "e", **flags(normalized=True)}}}
    },
    "added_tokens.json beside tokenizer.json": {
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"},
        "added_tokens.json": {"<mask>": 0},
        "tokenizer.json": {"added_tokens": added(["<mask>"], ANGLES, rstrip=True)},
    },
    "the end of a long text": {"tokenizer_config.json": {"truncation_side": "left"}},
    "the end in tokenizer.json": {"tokenizer.json": {"truncation": LIMIT | {"direction": "Left"}}},
    "the general class": {"tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"}},
}


def changed(kind: str, change: dict[str, Any], class_name: str = "") -> dict[str, Any]:
    files = {"config.json": {"model_type": TYPES[kind]}, "tokenizer_config.json": {}, **FILES[kind]}
    if class_name:
        files["tokenizer_config.json"] = {"tokenizer_class": class_name}
    for name, content in change.items():
        if name != "tokenizer.json" or name in files:
            files[name] = {**files.get(name, {}), **content}
    return files


READ_BY = [
    *(("WordPiece", name) for name in ("", "BertTokenizer", "DistilBertTokenizerFast", "ElectraTokenizer")),
    *(("BPE", name) for name in ("", "RobertaTokenizerFast", "BartTokenizer", "GPT2Tokenizer")),
    *(("Unigram", name) for name in ("", "XLMRobertaTokenizerFast", "CamembertTokenizer")),
    ("vocab.txt", "BertTokenizer"),
    ("vocab.json", "RobertaTokenizer"),
]


BUILT = [
    (kind, class_name, change)
    for kind, class_name in READ_BY
    for change in CHANGES
    # The general class reads no other file than tokenizer.json: refused below.
    if "tokenizer.json" in FILES[kind] or "tokenizer_class" not in CHANGES[change].get("tokenizer_config.json", {})
]


@pytest.mark.parametrize(("kind", "class_name", "change"), BUILT)
def test_what_transformers_builds_is_built(kind: str, class_name: str, change: str, tmp_path: Path) -> None:
    folder = write(tmp_path, changed(kind, CHANGES[change], class_name))
    assert our_ids(folder) == their_ids(folder)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("BPE", "a prefix space"),
        ("BPE", "the end of a long text"),
        ("BPE", "the end in tokenizer.json"),
        ("BPE", "another end"),
        ("Unigram", "no prefix space"),
        ("WordPiece", "case kept"),
        ("WordPiece", "accents kept"),
        ("WordPiece", "more special tokens"),
        ("WordPiece", "added_tokens_decoder"),
        ("vocab.txt", "case kept"),
        ("vocab.json", "a mask with a flag"),
        ("vocab.json", "special_tokens_map.json"),
    ],
)
def test_a_setting_that_is_honoured_changes_ids(kind: str, change: str, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "changed").mkdir()
    plain = read_tokenizer(write(tmp_path / "plain", changed(kind, {})), VOCAB_SIZE)
    folder = write(tmp_path / "changed", changed(kind, CHANGES[change]))
    assert our_ids(folder) != ids_of(plain) and not reads_as(folder, plain)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_class_is_the_one_that_auto_tokenizer_takes(model_type: str, tmp_path: Path) -> None:
    kinds = {"roberta": "BPE", "xlm-roberta": "Unigram", "camembert": "Unigram", "mpnet": "WordPiece"}
    files = changed(kinds.get(model_type, "WordPiece"), {}) | {"config.json": {"model_type": model_type}}
    folder = write(tmp_path, files)
    assert our_ids(folder) == their_ids(folder)
    write(folder, {"config.json": {"model_type": model_type, "tokenizer_class": "PreTrainedTokenizerFast"}})
    assert our_ids(folder) == their_ids(folder)
    (folder / "config.json").unlink()
    assert our_ids(folder) == their_ids(folder)


@pytest.mark.parametrize(
    ("kind", "files", "message"),
    [
        ("BPE", {"tokenizer_config.json": {"tokenizer_class": "BertJapaneseTokenizer"}}, "expected a tokenizer_class"),
        ("BPE", {"tokenizer_config.json": {"tokenizer_class": "DebertaV2Tokenizer"}}, "found DebertaV2Tokenizer"),
        ("BPE", {"tokenizer_config.json": {"tokenizer_class": ["x"]}}, "to be a name"),
        ("WordPiece", {"config.json": {"model_type": "roberta"}}, "expected a BPE model, which RobertaTokenizer reads"),
        ("BPE", {"config.json": {"model_type": "electra"}}, "expected a WordPiece model, which BertTokenizer reads"),
        ("BPE", {"config.json": {"model_type": "t5"}}, "expected a model_type out of bert"),
        ("vocab.txt", {"config.json": {"model_type": "roberta"}}, "vocab.json [+] merges.txt for RobertaTokenizer"),
        ("vocab.txt", {"config.json": {"model_type": "modernbert"}}, "expected tokenizer.json for TokenizersBackend"),
        ("vocab.txt", {"tokenizer.model": {}}, "found vocab.txt, tokenizer.model"),
        ("BPE", {"tokenizer_config.json": {"split_special_tokens": True}}, "expected no split_special_tokens"),
        ("BPE", {"tokenizer_config.json": {"truncation_side": "middle"}}, "right or left, found 'middle'"),
        ("BPE", {"tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["x.Y", None]}}}, "code of its own"),
        ("BPE", {"tokenizer_config.json": {"mask_token": {"content": "<mask>"}}}, "expected mask_token to be a text"),
        ("BPE", {"tokenizer_config.json": {"cls_token": None}}, "expected a token for cls_token, found null"),
        ("WordPiece", {"tokenizer_config.json": {"unk_token": "<unk>"}}, "expected an unk_token that the vocabulary"),
        ("BPE", {"tokenizer.json": {"model": 3}}, "tokenizer.json"),
    ],
    ids=str,
)
def test_what_cannot_be_built_is_refused_by_name(
    kind: str, files: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model_file = files.get("tokenizer.json")
    folder = write(tmp_path, changed(kind, {} if model_file else files))
    if model_file:
        (folder / "tokenizer.json").write_text(json.dumps(model_file), encoding="utf-8")
    with pytest.raises(BaseModelError, match=message) as caught:
        read_tokenizer(folder, VOCAB_SIZE)
    assert "\nfix: " in str(caught.value) and str(folder) in str(caught.value)


def test_tokens_that_the_class_adds_to_a_vocabulary_without_them_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path, changed("WordPiece", {}, "MPNetTokenizer"))
    size = len(pieces(SQUARES))
    with pytest.raises(BaseModelError, match=rf"(?s)at most vocab_size = {size} ids.*other names for <s>") as caught:
        read_tokenizer(folder, size)
    assert "mask_token" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 80),
        ({"model_max_length": 40}, 40),
        ({"model_max_length": 80}, 80),
        ({"model_max_length": 81}, 80),
        ({"model_max_length": 2}, 80),
        ({"model_max_length": int(1e30)}, 80),
        ({"model_max_length": None}, 80),
        ({"max_len": 50}, 50),
        ({"model_max_length": 40, "max_len": 50}, 40),
    ],
    ids=str,
)
def test_the_longest_row_is_the_tokenizers_limit_where_the_encoder_places_it(
    settings: dict[str, Any], expected: int, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    folder = write(tmp_path, changed("BPE", {"tokenizer_config.json": settings}))
    assert longest_row(folder, 80) == expected
    assert min(80, AutoTokenizer.from_pretrained(folder).model_max_length) in (expected, 2)
