"""The files beside an ONNX graph: transformers reads them, and what its tokenizer gives the graph gives our logits."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from news import run_of, write_csv
from saved import LABELS, saved_model, share
from test_exports import DIRTY, TEXTS, byte_level, checkpoints  # noqa: F401
from tiny import MODEL_TYPES
from tokenizers import Tokenizer

from submillion.cli import main
from submillion.commands.train import train
from submillion.inference.classifier import Classifier
from submillion.interop.onnx_folder import FILES

ALL_TEXTS = [*TEXTS, *DIRTY]
FOR_TRANSFORMERS = {"config.json", "tokenizer_config.json"}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "cleaning": {"normalise": ("clean",)},
    "n-grams": {"ngram_buckets": 41, "pooling": "mean", "head": "linear"},
    "windows": {"window": 9, "pooling": "mean"},
}


BASES = [*MODEL_TYPES, "byte level"]


@pytest.fixture(scope="module")
def bases(checkpoints: dict[str, Path], byte_level: Path) -> dict[str, Path]:  # noqa: F811
    return checkpoints | {"byte level": byte_level}


@pytest.fixture(scope="module")
def plain(bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """A plain model on a base and its exported folder, which takes seconds to make: once for each base."""

    @cache
    def model_and_folder(base: str) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp("plain")
        model = saved_model(bases[base], folder)
        return model, exported(model, folder / "onnx")

    return model_and_folder


def exported(model: Path, folder: Path, *flags: str) -> Path:
    assert main(["export", str(model), "--to", "onnx", str(folder), *flags]) == 0
    return folder


def logits_through_transformers(folder: Path, texts: list[str]) -> np.ndarray:
    """The graph's logits of one ragged batch, all of whose inputs AutoTokenizer makes."""
    from transformers import AutoTokenizer

    rows = AutoTokenizer.from_pretrained(folder)(texts, padding=True, truncation=True, return_tensors="np")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    assert set(rows) == {graph_input.name for graph_input in session.get_inputs()}
    return session.run(["logits"], dict(rows))[0]


@pytest.mark.parametrize(
    ("base", "kind"),
    share(
        [(base, kind) for base in BASES for kind in KINDS],
        [(base, "plain") for base in BASES] + [("bert", kind) for kind in KINDS if kind != "plain"],
    ),
)
def test_the_tokenizer_of_transformers_gives_the_graph_what_gives_our_logits(
    base: str, kind: str, bases: dict[str, Path], plain: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    if kind == "plain":
        model, folder = plain(base)
    else:
        model = saved_model(bases[base], tmp_path, **KINDS[kind])
        folder = exported(model, tmp_path / "onnx")
    assert {path.name for path in folder.iterdir()} == set(FILES) - {"words.txt"}
    expected = Classifier.load(model).logits(ALL_TEXTS)
    assert np.ptp(expected, axis=0).max() > 0.1  # logits that differ from text to text
    np.testing.assert_allclose(logits_through_transformers(folder, ALL_TEXTS), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("base", BASES)
def test_transformers_reads_the_task_and_the_labels(base: str, plain: Callable[[str], tuple[Path, Path]]) -> None:
    from transformers import AutoConfig, AutoTokenizer

    _, folder = plain(base)
    config = AutoConfig.from_pretrained(folder)
    assert config.model_type == ("roberta" if base == "byte level" else base)
    assert [config.id2label[index] for index in range(config.num_labels)] == LABELS
    assert config.label2id == {name: index for index, name in enumerate(LABELS)}
    assert config.problem_type == "single_label_classification"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.model_max_length, tokenizer.padding_side, tokenizer.truncation_side) == (40, "right", "right")
    assert tokenizer.pad_token_id == config.pad_token_id
    names = ("<unk>", "<s>", "</s>", "<mask>") if base == "byte level" else ("[UNK]", "[CLS]", "[SEP]", "[MASK]")
    assert tuple(getattr(tokenizer, f"{kind}_token") for kind in ("unk", "cls", "sep", "mask")) == names


def test_a_tokenizer_for_n_grams_cuts_nothing_in_transformers_either(bases: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = exported(saved_model(bases["bert"], tmp_path, **KINDS["n-grams"]), tmp_path / "onnx")
    assert len(AutoTokenizer.from_pretrained(folder)("oil " * 100, truncation=True)["input_ids"]) == 102


def test_an_int8_graph_gets_the_same_inputs_from_transformers(bases: dict[str, Path], tmp_path: Path) -> None:
    rows = write_csv(tmp_path / "rows.csv", [(text, LABELS[at % 3]) for at, text in enumerate(filter(None, ALL_TEXTS))])
    model = saved_model(bases["bert"], tmp_path)
    folder = exported(model, tmp_path / "onnx", "--int8", "--data.source", str(rows))
    encoded = Tokenizer.from_file(str(folder / "tokenizer.json")).encode_batch(ALL_TEXTS)
    inputs = {"input_ids": [row.ids for row in encoded], "attention_mask": [row.attention_mask for row in encoded]}
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    expected = session.run(["logits"], {name: np.array(value) for name, value in inputs.items()})[0]
    np.testing.assert_allclose(logits_through_transformers(folder, ALL_TEXTS), expected, atol=1e-4, rtol=0)
    assert np.abs(expected - Classifier.load(model).logits(ALL_TEXTS)).max() > 1e-4  # it is another graph than fp32's


def test_a_model_that_corrects_spelling_has_no_files_for_tools_that_would_not(
    tiny_base: Path, news_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tiny_base, tmp_path, data__source=str(news_csv), robust__normalise=["spelling"], train__epochs=1)
    folder = exported(train(overrides=run).folder, tmp_path / "onnx")
    assert {path.name for path in folder.iterdir()} == set(FILES) - FOR_TRANSFORMERS
    assert "so there is no config.json for them" in capsys.readouterr().out


def test_the_export_of_another_tool_is_not_replaced(
    bases: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for name in ("model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json"):
        (theirs / name).write_text(json.dumps(name))
    before = {path.name: path.read_bytes() for path in theirs.iterdir()}
    assert main(["export", str(saved_model(bases["bert"], tmp_path)), "--to", "onnx", str(theirs)]) == 2
    assert "expected a new or empty folder, found config.json, model.onnx" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in theirs.iterdir()} == before
