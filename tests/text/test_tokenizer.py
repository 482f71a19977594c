"""The tokenizer: the ids of transformers' fast tokenizers, from every set of files, whatever the text."""

import hashlib
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from submillion.errors import BaseModelError
from submillion.text.tokenizer import Tokenizer, Tokens
from submillion.text.vocabulary import files_hash

MAX_LENGTH = 128
NASTY = [
    "",
    " ",
    "\n\t \r\n",
    "a" * 3000,
    "word " * 400,
    "Crème brûlée naïve café İstanbul ẞ ǅ",
    "Cre\u0301me combining",
    "日本語のテキスト 中文 한국어",
    "नमस्ते دنیا שלום",
    "👩‍👩‍👧‍👦🏳️‍🌈 emoji 🇩🇪",
    "zero\u200bwidth\u200djoin\ufeffbom",
    "nul\x00 bell\x07 del\x7f soft\u00adhyphen",
    "line\u2028paragraph\u2029next\x85line",
    "private \ue000 astral \U0001f9ff \U000e0001 replacement \ufffd",
    "''quotes'' “curly” --- … $1,000.00 50% @user #tag http://a.b/c?d=e&f",
    "&lt;b&gt;AP&lt;/b&gt; #39;s \\quot;",
    "x\u0300\u0301\u0302\u0303 zalgo",
]
SPECIAL = ["[CLS] [SEP] text[MASK]x [PAD]", "<s></s> a <pad> <mask>b <unk>", " [UNK][unk] <S> ", "a <mask> b [MASK] c"]
Encode = Callable[[list[str]], list[list[int]]]


@pytest.fixture(scope="module")
def rows(agnews_folder: Path) -> list[str]:
    return parquet.read_table(agnews_folder / "train.parquet", columns=["text"])["text"].to_pylist()[:10_000]


@pytest.fixture(scope="module", params=["tokenizer.json", "vocab.txt", "vocab.json + merges.txt"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Encode]:
    """Ours and transformers', read from the same files."""
    from transformers import AddedToken, BertTokenizer, PreTrainedTokenizerFast, RobertaTokenizer

    folder = tmp_path_factory.mktemp("files")
    if request.param == "tokenizer.json":
        shutil.copy(request.getfixturevalue("minilm_folder") / "tokenizer.json", folder)
        theirs = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]")
    elif request.param == "vocab.txt":
        shutil.copy(request.getfixturevalue("minilm_folder") / "vocab.txt", folder)
        theirs = BertTokenizer(vocab=str(folder / "vocab.txt"))
    else:
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(request.getfixturevalue("roberta_tokenizer_folder") / name, folder)
        # roberta-base's own tokenizer_config.json says that <mask> takes the space before it.
        theirs = RobertaTokenizer(
            vocab=str(folder / "vocab.json"),
            merges=str(folder / "merges.txt"),
            mask_token=AddedToken("<mask>", lstrip=True, special=True),
        )

    def encode(texts: list[str]) -> list[list[int]]:
        return theirs(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]

    return Tokenizer.from_folder(folder), encode


def ids(tokenizer: Tokenizer, texts: list[str], max_length: int = MAX_LENGTH) -> list[list[int]]:
    tokens = tokenizer.encode(texts, max_length)
    return [tokens.row(index).tolist() for index in range(len(tokens))]


def test_ids_of_ag_news_equal_transformers(both: tuple[Tokenizer, Encode], rows: list[str]) -> None:
    ours, theirs = both
    assert len(rows) == 10_000 and ids(ours, rows) == theirs(rows)


@pytest.mark.parametrize("text", NASTY + SPECIAL, ids=lambda text: ascii(text[:24]))
def test_ids_of_nasty_text_equal_transformers(both: tuple[Tokenizer, Encode], text: str) -> None:
    ours, theirs = both
    assert ids(ours, [text]) == theirs([text])


@pytest.mark.parametrize("max_length", [3, 4, 9, 50])
def test_rows_are_cut_to_max_length_and_keep_both_ends(tiny_base: Path, max_length: int) -> None:
    tokenizer = Tokenizer.from_folder(tiny_base)
    whole, cut = (ids(tokenizer, ["oil prices climb as opec meets in the city"], n)[0] for n in (128, max_length))
    assert len(whole) == 11 and len(cut) == min(11, max_length)
    assert cut[:-1] == whole[: len(cut) - 1] and cut[-1] == whole[-1]


@pytest.mark.parametrize("max_length", [3, 9, 50, 5000])
@pytest.mark.parametrize("text", NASTY + SPECIAL, ids=lambda text: ascii(text[:24]))
def test_content_is_the_whole_row_between_its_ends_wherever_it_is_cut(
    both: tuple[Tokenizer, Encode], text: str, max_length: int
) -> None:
    ours, _ = both
    tokens = ours.encode([text, "a"], max_length, content=True)
    assert tokens.content is not None and len(tokens.content) == 2
    assert tokens.content.row(0).tolist() == ids(ours, [text], 10_000)[0][1:-1]
    assert [tokens.row(row).tolist() for row in (0, 1)] == ids(ours, [text, "a"], max_length)


def test_content_follows_its_rows(tiny_base: Path) -> None:
    tokenizer = Tokenizer.from_folder(tiny_base)
    first, second = (tokenizer.encode(texts, 4, content=True) for texts in (["oil prices climb"], ["war", "oil"]))
    joined = Tokens.joined([first, second]).take(np.array([1, 0]))
    assert joined.content is not None
    expected = [ids(tokenizer, [text])[0][1:-1] for text in ("war", "oil prices climb")]
    assert [joined.content.row(row).tolist() for row in (0, 1)] == expected
    assert joined.content.packed().tolist() == expected[0] + expected[1]
    assert tokenizer.encode(["war"], 4).content is None
    assert Tokens.joined([first, tokenizer.encode(["war"], 4)]).content is None


def test_longer_rows_are_shared_equally_among_windows(tiny_base: Path) -> None:
    tokens = Tokens.of_rows(
        [np.array(row, np.int32) for row in ([1, 2], [1, *range(10, 17), 2], [1, 9, 2], [1, 5, 6, 7, 2])]
    )
    windows, row_of = replace(tokens, content=tokens).windows(5)
    assert [windows.row(index).tolist() for index in range(len(windows))] == [
        [1, 2],
        [1, 9, 2],
        [1, 5, 6, 7, 2],
        [1, 10, 11, 12, 2],
        [1, 13, 14, 2],
        [1, 15, 16, 2],
    ]
    assert row_of.tolist() == [0, 2, 3, 1, 1, 1] and windows.content is None
    whole, row_of = tokens.windows(0)
    assert row_of.tolist() == [0, 1, 2, 3] and np.array_equal(whole.flat, tokens.flat)
    assert len(tokens.take(np.arange(0)).windows(5)[0]) == 0


def test_threads_cut_each_to_its_own_length(tiny_base: Path) -> None:
    tokenizer = Tokenizer.from_folder(tiny_base)
    texts = ["oil prices climb as opec meets in the city " * 20] * 10
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda length: tokenizer.encode(texts, length).lengths.tolist(), [5, 9, 40, 200] * 50))
    assert found == [[min(length, 182)] * 10 for length in [5, 9, 40, 200] * 50]


def test_tokens_are_ragged_rows_of_one_flat_array(tiny_base: Path) -> None:
    texts = ["oil", "", "oil prices climb as opec meets", "war"]
    tokens = Tokenizer.from_folder(tiny_base).encode(texts, 128)
    assert tokens.lengths.tolist() == [3, 2, 8, 3] and len(tokens) == 4
    assert tokens.flat.dtype == np.int32 and len(tokens.flat) == 16
    assert tokens.starts.tolist() == [0, 3, 5, 13]


def test_no_texts_give_no_rows(tiny_base: Path) -> None:
    tokens = Tokenizer.from_folder(tiny_base).encode([], 128)
    assert len(tokens) == len(tokens.flat) == 0


def test_many_texts_give_what_each_gives_alone(tiny_base: Path) -> None:
    tokenizer = Tokenizer.from_folder(tiny_base)
    texts = [f"oil {number} prices" for number in range(5000)]
    found = ids(tokenizer, texts)
    assert all(found[index] == ids(tokenizer, [texts[index]])[0] for index in (0, 2047, 2048, 4095, 4096, 4999))


def test_pieces_spell_each_token(tiny_base: Path) -> None:
    tokenizer = Tokenizer.from_folder(tiny_base)
    assert tokenizer.pieces(ids(tokenizer, ["Oil up!"])[0]) == ["[CLS]", "oil", "up", "!", "[SEP]"]
    assert tokenizer.pieces([10**6]) == ["?"]


def test_a_tokenizer_read_back_from_its_text_gives_the_same_ids(both: tuple[Tokenizer, Encode]) -> None:
    ours, _ = both
    again = Tokenizer.from_str(ours.to_str(), ours.fingerprint)
    assert ids(again, NASTY + SPECIAL) == ids(ours, NASTY + SPECIAL) and again.fingerprint == ours.fingerprint


def test_the_text_of_a_tokenizer_does_not_depend_on_its_use(tiny_base: Path) -> None:
    tokenizer = Tokenizer.from_folder(tiny_base)
    before = tokenizer.to_str()
    tokenizer.encode(["oil"], 17)
    assert tokenizer.to_str() == before


FILES = [["tokenizer.json"], ["vocab.json", "merges.txt"], ["vocab.txt"], ["vocab.txt", "tokenizer_config.json"]]
FILES += [
    ["vocab.txt", "tokenizer_config.json", "added_tokens.json"],
    ["vocab.json", "merges.txt", "added_tokens.json"],
]


@pytest.mark.parametrize("names", FILES, ids="+".join)
def test_the_fingerprint_changes_with_every_file_that_is_read(names: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_text("{}")
    seen = {files_hash(tmp_path)}
    for name in names:
        (tmp_path / name).write_text('{"do_lower_case": false}')
        seen.add(files_hash(tmp_path))
    assert len(seen) == 1 + len(names)


def test_the_fingerprint_does_not_change_with_a_file_that_is_not_read(tiny_base: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_base, tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").write_text("{}")
    assert files_hash(tmp_path) == files_hash(tiny_base) == Tokenizer.from_folder(tiny_base).fingerprint != ""


def test_the_fingerprint_without_added_tokens_is_what_saved_models_hold(tiny_base: Path, tmp_path: Path) -> None:
    vocab, settings = (tiny_base / "vocab.txt").read_bytes(), b'{"do_lower_case": true}'
    (tmp_path / "vocab.txt").write_bytes(vocab)
    assert files_hash(tmp_path) == hashlib.sha256(vocab).hexdigest()
    (tmp_path / "tokenizer_config.json").write_bytes(settings)
    assert files_hash(tmp_path) == hashlib.sha256(vocab + settings).hexdigest()


def test_no_files_have_no_fingerprint(tmp_path: Path) -> None:
    assert files_hash(tmp_path) == ""


def test_tokenizer_json_goes_before_the_others(minilm_folder: Path, tiny_base: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_base / "vocab.txt", tmp_path)
    shutil.copy(minilm_folder / "tokenizer.json", tmp_path)
    assert Tokenizer.from_folder(tmp_path).fingerprint == Tokenizer.from_folder(minilm_folder).fingerprint


@pytest.mark.parametrize("lower", [True, False])
def test_case_is_kept_where_the_settings_say_so(lower: bool, tiny_base: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_base, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.pieces(ids(tokenizer, ["OIL"])[0])[1] == ("oil" if lower else "[UNK]")


def test_every_line_of_vocab_txt_is_one_token(tiny_base: Path, tmp_path: Path) -> None:
    """A word piece may be a separator that is no newline, such as U+2028: the ids after it stay what they are."""
    lines = (tiny_base / "vocab.txt").read_text("utf-8").split("\n")[:-1]
    lines.insert(lines.index("oil"), "\u2028")
    (tmp_path / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert ids(Tokenizer.from_folder(tmp_path), ["oil"])[0][1] == lines.index("oil")


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("tokenizer.json", "{", "cannot be read"),
        ("tokenizer.json", "{}", "cannot be read"),
        ("vocab.txt", "the\n", r"no \[CLS\]|no <s>"),
        ("vocab.txt", "[CLS]\n[SEP]\n[UNK]\n", r"\[PAD\]"),
        ("README.md", "nothing else", "holds no tokenizer"),
    ],
)
def test_unusable_files_are_an_error_that_says_which(name: str, content: str, found: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(BaseModelError, match=found) as caught:
        Tokenizer.from_folder(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_vocab_json_without_the_special_tokens_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(BaseModelError, match="no <s> and </s>"):
        Tokenizer.from_folder(tmp_path)


def test_more_ids_than_the_encoder_has_embeddings_are_an_error_that_names_both_numbers(tiny_base: Path) -> None:
    size = Tokenizer.from_folder(tiny_base).backend.get_vocab_size()
    assert Tokenizer.from_folder(tiny_base, size).backend.get_vocab_size() == size
    with pytest.raises(BaseModelError, match=f"vocab_size = {size - 1} ids\nfound: {size} ids\nfix: "):
        Tokenizer.from_folder(tiny_base, size - 1)


# Tokens that were added to a vocabulary later, as transformers' slow tokenizers save them

ADDED_TEXTS = [
    "oil [E1] war[E2]x",
    "a [e1]  [e2]  b",
    "[E1][E2][E1]",
    " [E2]",
    "x[E1] y [E2] z",
    "[MASK] a b[SEP]",
]
PLAIN = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": True, "special": False}
TOKEN_SETTINGS: list[dict[str, bool]] = [
    {},
    {"lstrip": True},
    {"rstrip": True},
    {"single_word": True},
    {"normalized": False, "special": True},
]


def slow_folder(kind: str, tiny_base: Path, folder: Path) -> int:
    """A folder of a slow tokenizer's files, BERT's or RoBERTa's. Returns the first id that is free."""
    from tokenizers import pre_tokenizers

    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    if kind == "bert":
        shutil.copy(tiny_base / "vocab.txt", folder)
        return len((tiny_base / "vocab.txt").read_text("utf-8").split("\n")) - 1
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "<mask>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    return len(tokens)


def assert_ids_of_added_tokens_are_those_of_transformers(folder: Path, first: int, *more: str) -> None:
    from transformers import AutoTokenizer

    texts = [*ADDED_TEXTS, *more]
    found = ids(Tokenizer.from_folder(folder), texts)
    assert found == AutoTokenizer.from_pretrained(folder)(texts)["input_ids"]
    assert {first, first + 1} <= {token for row in found for token in row}


@pytest.mark.parametrize("settings", TOKEN_SETTINGS, ids=str)
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_added_tokens_of_the_settings_equal_transformers(
    kind: str, settings: dict[str, bool], tiny_base: Path, tmp_path: Path
) -> None:
    first = slow_folder(kind, tiny_base, tmp_path)
    added = {first + 1: PLAIN | {"content": "[E2]"}, first: PLAIN | settings | {"content": "[E1]"}}
    mask = {"bert": {4: "[MASK]"}, "roberta": {first - 1: "<mask>"}}[kind]
    added |= {index: PLAIN | {"content": token, "normalized": False, "special": True} for index, token in mask.items()}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[E2]": first, "[E1]": first + 1}))  # not what counts
    assert_ids_of_added_tokens_are_those_of_transformers(tmp_path, first, "a <mask> b")


@pytest.mark.parametrize("special", ["", "additional_special_tokens", "extra_special_tokens"])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_added_tokens_of_a_file_of_their_own_equal_transformers(
    kind: str, special: str, tiny_base: Path, tmp_path: Path
) -> None:
    first = slow_folder(kind, tiny_base, tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[E2]": first + 1, "[E1]": first}))
    if special:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({special: ["[E1]"]}))
    assert_ids_of_added_tokens_are_those_of_transformers(tmp_path, first)


@pytest.mark.parametrize("added", [{"[E1]": 1}, {"[E1]": 0, "[E2]": 2}, {"[SEP]": 0}], ids=str)
def test_added_tokens_whose_ids_do_not_follow_on_are_an_error(
    added: dict[str, int], tiny_base: Path, tmp_path: Path
) -> None:
    first = slow_folder("bert", tiny_base, tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({token: first + index for token, index in added.items()}))
    with pytest.raises(
        BaseModelError, match=r"whose ids follow on, found '\[\w+\]' with id \d+ in place of \d+\nfix: "
    ):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{", '{"[E1]": "x"}'])
def test_an_unusable_file_of_added_tokens_is_an_error(content: str, tiny_base: Path, tmp_path: Path) -> None:
    slow_folder("bert", tiny_base, tmp_path)
    (tmp_path / "added_tokens.json").write_text(content)
    with pytest.raises(BaseModelError, match=r"vocab\.txt"):
        Tokenizer.from_folder(tmp_path)


# SentencePiece's unigram model: XLM-R and CamemBERT


def unigram_folder(folder: Path, model_type: str) -> Path:
    """A folder with a tiny Unigram tokenizer between <s> and </s>, which writes spaces as SentencePiece does."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

    backend = Backend(models.Unigram())
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" {2,}", " ")])
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False)
    backend.train_from_iterator(["le prix du pétrole grimpe", "the price of oil climbs", *NASTY[5:17]] * 3, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    backend.save(str(folder / "tokenizer.json"))
    settings = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **settings})
    )
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return folder


@pytest.mark.parametrize("model_type", ["xlm-roberta", "camembert"])
def test_ids_of_a_unigram_tokenizer_equal_transformers(model_type: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = unigram_folder(tmp_path, model_type)
    theirs = AutoTokenizer.from_pretrained(folder)
    texts = [*NASTY, *SPECIAL, "Le prix du pétrole grimpe", "oil  climbs"]
    found = ids(Tokenizer.from_folder(folder), texts)
    assert found == theirs(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
    assert len({token for row in found for token in row}) > 50 and all(row[0] == 0 and row[-1] == 2 for row in found)


def test_a_sentencepiece_file_alone_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"x")
    with pytest.raises(BaseModelError, match=r"found sentencepiece\.bpe\.model alone\nfix: have transformers write"):
        Tokenizer.from_folder(tmp_path)
