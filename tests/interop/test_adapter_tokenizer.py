"""A tokenizer in an adapter's folder is the one that is read, here and in every export of the imported model."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from saved import LABELS
from test_exports import add_token, assert_equal, byte_level, checkpoints  # noqa: F401
from test_peft_import import save_adapter, take

from submillion.cli import main
from submillion.inference.artefact import Artefact
from submillion.inference.classifier import Classifier

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
TEXTS = [
    "Oil prices climb",
    " oil  prices",
    "a <mask> b",
    "café 日本 👩",
    "",
    "war " * 40 + "final",
    "oil " * 40 + "bank",
]
NOTE = "the tokenizer is the one in the adapter's folder"


@pytest.fixture
def adapter(byte_level: Path, tmp_path: Path) -> Path:  # noqa: F811
    """On a RoBERTa with a tokenizer of bytes; the folder holds no tokenizer yet."""
    save_adapter(byte_level, tmp_path / "adapter", target_modules=["query", "value"])
    return tmp_path / "adapter"


def add_tokenizer(adapter: Path, base: Path, **settings: Any) -> None:
    """Saves the base's tokenizer with these settings in the adapter's folder, as transformers does after a training."""
    from tokenizers import AddedToken
    from transformers import AutoTokenizer

    values = {name: AddedToken(**value) if isinstance(value, dict) else value for name, value in settings.items()}
    AutoTokenizer.from_pretrained(base, **values).save_pretrained(adapter)


@torch.no_grad()
def logits_of(model: Any, tokenizer_folder: Path, max_length: int) -> np.ndarray:
    """transformers' logits of TEXTS, a row at a time."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    rows = [tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt") for text in TEXTS]
    return torch.cat([model.eval()(**row).logits for row in rows]).numpy()


def peft_logits(adapter: Path, base: Path, max_length: int) -> np.ndarray:
    """peft's logits with the tokenizer in the adapter's folder."""
    return peft_logits_with(adapter, adapter, base, max_length)


def peft_logits_with(tokenizer: Path, adapter: Path, base: Path, max_length: int) -> np.ndarray:
    """peft's logits with the tokenizer in another folder."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(LABELS))
    return logits_of(PeftModel.from_pretrained(model, adapter), tokenizer, max_length)


@pytest.mark.parametrize(
    "settings",
    [
        {"add_prefix_space": True},
        {"truncation_side": "left"},
        {"add_prefix_space": True, "truncation_side": "left", "model_max_length": 20},
        {"mask_token": {"content": "<mask>", "lstrip": True, "special": True}},
    ],
    ids=str,
)
def test_the_adapters_tokenizer_is_read_and_goes_along_in_every_export(
    settings: dict[str, Any],
    adapter: Path,
    byte_level: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from transformers import AutoModelForSequenceClassification

    add_tokenizer(adapter, byte_level, **settings)
    model, merged, back = tmp_path / "ours", tmp_path / "merged", tmp_path / "back"
    assert take(adapter, model) == 0
    assert NOTE in capsys.readouterr().out
    most = settings.get("model_max_length", 78)
    classifier = Classifier.load(model)
    assert classifier.config.model.max_length == most
    expected = peft_logits(adapter, byte_level, most)
    ours = classifier.logits(TEXTS)
    assert_equal(ours, expected)
    plain = tmp_path / "plain"
    add_tokenizer(plain, byte_level)
    assert np.abs(peft_logits_with(plain, adapter, byte_level, most) - expected).max() > 1e-3  # it matters

    assert main(["export", str(model), "--to", "transformers", str(merged)]) == 0
    theirs = AutoModelForSequenceClassification.from_pretrained(merged)
    assert_equal(ours, logits_of(theirs, merged, most))
    assert_equal(ours, Classifier.from_pretrained(merged).logits(TEXTS))

    assert main(["export", str(model), "--to", "peft", str(tmp_path / "again")]) == 0
    assert_equal(ours, peft_logits(tmp_path / "again", byte_level, most))
    assert take(tmp_path / "again", back) == 0
    assert Classifier.load(back).config.model.max_length == most
    assert_equal(ours, Classifier.load(back).logits(TEXTS))


@pytest.mark.parametrize("settings", [{"add_prefix_space": True}, {"truncation_side": "left"}], ids=str)
def test_the_tokenizer_beside_an_onnx_export_reads_the_same(
    settings: dict[str, Any],
    adapter: Path,
    byte_level: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from tokenizers import Tokenizer

    add_tokenizer(adapter, byte_level, **settings)
    assert take(adapter, tmp_path / "ours", "--max-length", "20") == 0
    assert main(["export", str(tmp_path / "ours"), "--to", "onnx", str(tmp_path / "onnx")]) == 0
    tokenizer = Tokenizer.from_file(str(tmp_path / "onnx" / "tokenizer.json"))
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    rows = tokenizer.encode_batch(TEXTS)
    inputs = {
        "input_ids": np.array([row.ids for row in rows], dtype=np.int64),
        "attention_mask": np.array([row.attention_mask for row in rows], dtype=np.int64),
    }
    assert_equal(session.run(["logits"], inputs)[0], peft_logits(adapter, byte_level, 20))


def test_a_tokenizer_that_is_the_bases_is_not_told_of_and_stays_at_home(
    adapter: Path,
    byte_level: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_tokenizer(adapter, byte_level)
    assert (adapter / "tokenizer.json").is_file() and not (byte_level / "tokenizer.json").exists()
    assert take(adapter, tmp_path / "ours") == 0
    assert NOTE not in capsys.readouterr().out
    assert main(["export", str(tmp_path / "ours"), "--to", "peft", str(tmp_path / "again")]) == 0
    names = {path.name for path in (tmp_path / "again").iterdir()}
    assert names == {"adapter_model.safetensors", "adapter_config.json"}


def test_the_base_is_known_by_its_own_tokenizer(
    adapter: Path,
    byte_level: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = shutil.copytree(byte_level, tmp_path / "base")
    add_tokenizer(adapter, byte_level, add_prefix_space=True)
    assert take(adapter, tmp_path / "ours", "--base", str(base)) == 0
    shutil.rmtree(adapter)
    expected = Classifier.load(tmp_path / "ours").logits(TEXTS)
    (tmp_path / "rows.csv").write_text("text\noil prices\n", encoding="utf-8")
    answers = ["--model", str(tmp_path / "ours"), "--output", str(tmp_path / "answers.csv")]
    assert main(["predict", str(tmp_path / "rows.csv"), *answers]) == 0
    (base / "merges.txt").write_text("#version: 0.2\no i\n", encoding="utf-8")
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "rows.csv"), *answers]) == 2
    assert f"the tokenizer in {base} has changed" in capsys.readouterr().err
    for name in ("vocab.json", "merges.txt"):
        (base / name).unlink()
    assert np.array_equal(Classifier.load(tmp_path / "ours").logits(TEXTS), expected)


def test_a_base_without_a_tokenizer_takes_the_adapters(
    adapter: Path,
    byte_level: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    base = shutil.copytree(byte_level, tmp_path / "base")
    add_tokenizer(adapter, byte_level)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (base / name).unlink()
    assert take(adapter, tmp_path / "ours", "--base", str(base)) == 0
    assert Artefact.load(tmp_path / "ours").tokenizer_sha256 == ""
    assert_equal(Classifier.load(tmp_path / "ours").logits(TEXTS), peft_logits(adapter, byte_level, 78))


def test_tokenizer_settings_without_a_vocabulary_are_no_tokenizer(
    adapter: Path,
    byte_level: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (adapter / "tokenizer_config.json").write_text('{"add_prefix_space": true}', encoding="utf-8")
    assert take(adapter, tmp_path / "ours") == 0
    assert NOTE not in capsys.readouterr().out
    assert_equal(
        Classifier.load(tmp_path / "ours").logits(TEXTS), peft_logits_with(byte_level, adapter, byte_level, 78)
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer_config.json": {"tokenizer_class": "BertJapaneseTokenizer"}}, "expected a tokenizer_class out of"),
        ({"tokenizer_config.json": {"split_special_tokens": True}}, "expected no split_special_tokens"),
        ({"config.json": {"model_type": "bert"}, "tokenizer_config.json": {}}, "expected a WordPiece model"),
        ({"sentencepiece.bpe.model": {}, "tokenizer.json": None}, "found sentencepiece.bpe.model alone"),
    ],
    ids=str,
)
def test_a_tokenizer_that_cannot_be_read_is_refused_and_nothing_is_written(
    files: dict[str, Any],
    message: str,
    adapter: Path,
    byte_level: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_tokenizer(adapter, byte_level)
    for name, content in files.items():
        (adapter / name).write_text(json.dumps(content), encoding="utf-8")
        if content is None:
            (adapter / name).unlink()
    assert take(adapter, tmp_path / "ours") == 2
    error = capsys.readouterr().err
    assert message in error and "\nfix: " in error and "delete the tokenizer's files in" in error
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_an_adapters_tokenizer_with_more_ids_than_the_base_embeds_is_refused(
    adapter: Path,
    byte_level: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_tokenizer(adapter, byte_level)
    add_token(adapter)
    assert take(adapter, tmp_path / "ours") == 2
    assert "expected: at most vocab_size = " in capsys.readouterr().err and not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    ("of_adapter", "of_base", "flags", "expected"),
    [
        (None, None, (), 78),
        (None, 30, (), 30),
        (None, 30, ("--max-length", "50"), 50),
        (20, 30, (), 20),
        (20, 30, ("--max-length", "9"), 9),
        (512, 30, (), 78),
    ],
    ids=str,
)
def test_the_length_is_that_of_the_tokenizer_that_is_read(
    of_adapter: int | None,
    of_base: int | None,
    flags: tuple[str, ...],
    expected: int,
    adapter: Path,
    byte_level: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    base = shutil.copytree(byte_level, tmp_path / "base")
    if of_adapter:
        add_tokenizer(adapter, byte_level, model_max_length=of_adapter)
    if of_base:
        limit = {"tokenizer_class": "RobertaTokenizer", "model_max_length": of_base}
        (base / "tokenizer_config.json").write_text(json.dumps(limit), encoding="utf-8")
    assert take(adapter, tmp_path / "ours", "--base", str(base), *flags) == 0
    assert Classifier.load(tmp_path / "ours").config.model.max_length == expected
