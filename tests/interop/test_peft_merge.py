"""Adapters merged into their base: the checkpoint is what peft's merge_and_unload gives, in transformers and here."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapters import advised, change, save_adapter
from safetensors.torch import load_file, save_file
from test_exports import LABELS, TEXTS, add_token, assert_equal, checkpoints, their_logits  # noqa: F401

from submillion.cli import main
from submillion.inference.classifier import Classifier

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
ALL: dict[str, Any] = {"target_modules": "all-linear"}
# What an adapter of ours cannot hold, and a merged model can.
WIDER: list[tuple[str, dict[str, Any]]] = [
    ("bert", {"target_modules": ["query", "value"], "use_dora": True}),
    ("modernbert", {**ALL, "use_dora": True, "use_rslora": True}),
    ("bert", {"target_modules": ["query", "value"], "bias": "all"}),
    ("roberta", {"target_modules": ["query", "dense"], "bias": "all"}),
    ("distilbert", {"target_modules": ["q_lin", "lin2"], "bias": "lora_only"}),
    ("mpnet", {"target_modules": ["q", "v"], "lora_bias": True, "rank_pattern": {"attn.q": 2}}),
    ("bert", {"target_modules": ["query", "word_embeddings"]}),
    ("roberta", {"target_modules": ["query", "word_embeddings"], "use_dora": True}),
    ("modernbert", {"target_modules": ["Wqkv", "tok_embeddings"], "rank_pattern": {"tok_embeddings": 2}}),
    ("mpnet", {"target_modules": ["q", "relative_attention_bias"]}),
    ("bert", {"target_modules": ["query"], "modules_to_save": ["LayerNorm", "classifier"]}),
    ("bert", {"target_modules": ["query"], "modules_to_save": ["word_embeddings", "pooler"]}),
    ("modernbert", {"target_modules": ["Wqkv"], "modules_to_save": ["final_norm", "head"]}),
    ("electra", {**ALL, "alpha_pattern": {"embeddings_project": 3}}),
    ("camembert", {"target_modules": ["query"], "trainable_token_indices": [9, 5]}),
    ("bert", {"target_modules": ["query"], "trainable_token_indices": {"position_embeddings": [1, 3]}}),
]
PLAIN: list[tuple[str, dict[str, Any]]] = [
    ("bert", ALL),
    ("xlm-roberta", {"target_modules": ["query", "value"]}),
    ("modernbert", ALL),
    ("distilbert", {"target_modules": ["q_lin"], "rank_pattern": {r"layer\.1\..*": 2}, "use_rslora": True}),
]


def merge(folder: Path, output: Path, *flags: str) -> int:
    return main(["import", str(folder), "--merge", "--output.dir", str(output), *flags])


def check_merged(adapter: Path, merged: Path, base: Path, edit: Callable[[Any], object] | None = None) -> Classifier:
    """The checkpoint gives the logits of peft's own merge of the saved adapter, in transformers and here."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    theirs = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(LABELS))
    if edit is not None:
        edit(theirs)
    expected = PeftModel.from_pretrained(theirs, adapter).merge_and_unload()
    opened, info = AutoModelForSequenceClassification.from_pretrained(merged, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    ours = Classifier.from_pretrained(merged)
    logits = their_logits(expected, ours)
    assert_equal(ours.logits(TEXTS), logits)
    assert_equal(their_logits(opened, ours), logits)
    plain = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(LABELS))
    assert np.abs(logits - their_logits(plain, ours)).max() > 0.01, "the adapter changes something"
    return ours


@pytest.mark.parametrize(("family", "config"), [*WIDER, *PLAIN], ids=str)
def test_a_merged_adapter_has_the_logits_of_peft(
    family: str,
    config: dict[str, Any],
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    save_adapter(checkpoints[family], tmp_path / "adapter", **config)
    assert merge(tmp_path / "adapter", tmp_path / "merged", "--label-names", *LABELS) == 0
    ours = check_merged(tmp_path / "adapter", tmp_path / "merged", checkpoints[family])
    assert list(ours.label_names) == LABELS
    settings = json.loads((tmp_path / "merged" / "config.json").read_text("utf-8"))
    assert list(settings["id2label"].values()) == LABELS and settings["label2id"][LABELS[2]] == 2


@pytest.mark.parametrize(("family", "config"), WIDER, ids=str)
def test_what_only_merging_can_hold_says_so_in_a_command_that_works(
    family: str,
    config: dict[str, Any],
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_adapter(checkpoints[family], tmp_path / "the adapter", **config)
    argv = ["import", str(tmp_path / "the adapter"), "--base", str(checkpoints[family])]
    assert main([*argv, "--output.dir", str(tmp_path / "ours")]) == 2
    fix = advised(capsys.readouterr().err)
    assert fix == [*argv, "--merge", "--output.dir", "DIR"] and not (tmp_path / "ours").exists()
    assert main([*fix[:-1], str(tmp_path / "merged")]) == 0
    check_merged(tmp_path / "the adapter", tmp_path / "merged", checkpoints[family])


def larger(model: Any) -> None:
    """Gives the model embeddings for three tokens more; the same ones every time."""
    model.resize_token_embeddings(model.config.vocab_size + 3, mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[-3:] = torch.linspace(-1, 1, 3)[:, None]


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": ["query"]},
        {"target_modules": ["query", "word_embeddings"]},
        {"target_modules": ["query"], "trainable_token_indices": [3, 290]},
    ],
    ids=str,
)
def test_a_larger_vocabulary_goes_along_with_its_tokenizer(
    config: dict[str, Any],
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base, adapter, merged = checkpoints["bert"], tmp_path / "adapter", tmp_path / "merged"
    rows = json.loads((base / "config.json").read_text("utf-8"))["vocab_size"]
    if "trainable_token_indices" in config:
        config = config | {"trainable_token_indices": [3, rows]}
    save_adapter(base, adapter, edit=larger, **config)
    shutil.copy(base / "tokenizer.json", adapter)
    add_token(adapter)  # airport
    assert main(["import", str(adapter), "--output.dir", str(tmp_path / "ours")]) == 2
    assert "--merge --output.dir DIR" in capsys.readouterr().err
    assert merge(adapter, merged) == 0
    assert json.loads((merged / "config.json").read_text("utf-8"))["vocab_size"] == rows + 3
    assert vocabulary(merged) == vocabulary(adapter) != vocabulary(base)
    ours = check_merged(adapter, merged, base, edit=larger)
    assert rows in ours.tokenizer.encode(["the airport"], 40).row(0)


def vocabulary(folder: Path) -> list[Any]:
    """The tokens in a folder's tokenizer.json."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    return [tokenizer["model"]["vocab"], [token["content"] for token in tokenizer["added_tokens"]]]


def test_the_tokenizer_of_the_base_goes_along_where_the_adapter_has_none(
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    base = shutil.copytree(checkpoints["bert"], tmp_path / "base")
    (base / "tokenizer_config.json").write_text('{"do_lower_case": true, "model_max_length": 40}', encoding="utf-8")
    save_adapter(base, tmp_path / "adapter", target_modules=["query"])
    assert merge(tmp_path / "adapter", tmp_path / "merged") == 0
    assert vocabulary(tmp_path / "merged") == vocabulary(base)
    settings = json.loads((tmp_path / "merged" / "tokenizer_config.json").read_text("utf-8"))
    assert settings["do_lower_case"] is True and settings["model_max_length"] == 40
    assert merge(tmp_path / "adapter", tmp_path / "merged", "--max-length", "30") == 0, "an earlier one is replaced"
    assert Classifier.from_pretrained(tmp_path / "merged").config.model.max_length == 30
    settings = json.loads((tmp_path / "merged" / "tokenizer_config.json").read_text("utf-8"))
    assert settings["do_lower_case"] is True and settings["model_max_length"] == 30


def test_a_base_in_half_precision_is_merged_in_fp32(
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    base = shutil.copytree(checkpoints["bert"], tmp_path / "base")
    state = {name: tensor.half() for name, tensor in load_file(base / "model.safetensors").items()}
    save_file(state, base / "model.safetensors", metadata={"format": "pt"})
    save_adapter(base, tmp_path / "adapter", target_modules=["query"], use_dora=True)
    assert merge(tmp_path / "adapter", tmp_path / "merged") == 0
    exact = shutil.copytree(base, tmp_path / "exact")
    save_file({name: t.float() for name, t in state.items()}, exact / "model.safetensors", metadata={"format": "pt"})
    check_merged(tmp_path / "adapter", tmp_path / "merged", exact)


# Refused, with nothing left behind


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"alora_invocation_tokens": [7]}, "an activated LoRA acts only on the tokens after its invocation tokens"),
        ({"layer_replication": [[0, 2]]}, "it repeats layers of the base\nfix: serve it with transformers and peft"),
        ({"megatron_config": {"tensor_model_parallel_size": 2}}, "split over devices by Megatron"),
        ({"target_parameters": ["weight"]}, "parameters that are no module's weight"),
        ({"fan_in_fan_out": True}, 'fix: "fan_in_fan_out": false in adapter_config.json'),
        ({"peft_type": "PREFIX_TUNING"}, "no weights of the model can hold them\nfix: serve it with"),
        ({"use_dora": True}, "expected lora_A, lora_B, lora_magnitude_vector; found lora_A, lora_B"),
        ({"lora_bias": True}, "expected lora_A, lora_B, lora_B.bias; found lora_A, lora_B"),
        ({"r": 9}, "expected lora_A [9, 32] and lora_B [32, 9], found [4, 32] and [32, 4]"),
        ({"r": 0}, "expected a rank of 1 or more"),
        ({"target_modules": ["key"]}, "has an adapter that target_modules does not name"),
        ({"target_modules": ["query", "key"]}, "target_modules names it, found no adapter for it"),
        ({"modules_to_save": ["LayerNorm"]}, "LayerNorm.weight: expected in the adapter, found nothing"),
    ],
    ids=str,
)
@pytest.mark.parametrize("merging", [True, False])
def test_what_cannot_be_merged_is_refused(
    merging: bool,
    changes: dict[str, Any],
    text: str,
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_adapter(checkpoints["bert"], tmp_path / "adapter", target_modules=["query"])
    change(tmp_path / "adapter", **changes)
    if not merging and set(changes) & {"use_dora", "lora_bias"}:  # refused before its tensors are read
        text = "--merge --output.dir DIR"
    argv = ["import", str(tmp_path / "adapter"), "--output.dir", str(tmp_path / "out")]
    assert main(argv + ["--merge"] * merging) == 2
    assert text in capsys.readouterr().err and [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_peft_merges_a_transposed_adapter_as_the_advice_says(
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    save_adapter(checkpoints["bert"], tmp_path / "adapter", target_modules=["query"])
    change(tmp_path / "adapter", fan_in_fan_out=True)
    shutil.copytree(tmp_path / "adapter", tmp_path / "changed")
    change(tmp_path / "changed", fan_in_fan_out=False)
    assert merge(tmp_path / "changed", tmp_path / "merged") == 0
    check_merged(tmp_path / "adapter", tmp_path / "merged", checkpoints["bert"])


def test_a_bias_for_a_base_without_one_is_refused_by_peft_and_by_us(
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    theirs = save_adapter(checkpoints["modernbert"], tmp_path / "adapter", target_modules=["Wqkv"], lora_bias=True)
    with pytest.raises(RuntimeError, match="Impossible to merge"):
        theirs.merge_and_unload()
    assert merge(tmp_path / "adapter", tmp_path / "merged") == 2
    assert "Wqkv: expected a bias that lora_bias could be added to" in capsys.readouterr().err
    assert not (tmp_path / "merged").exists()


def test_rows_beyond_the_vocabulary_are_refused(
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_adapter(checkpoints["bert"], tmp_path / "adapter", target_modules=["query"], trainable_token_indices=[3])
    change(tmp_path / "adapter", trainable_token_indices=[10**6])
    assert merge(tmp_path / "adapter", tmp_path / "merged") == 2
    assert "expected trainable_token_indices below" in capsys.readouterr().err and not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    ("family", "config", "part", "text"),
    [
        (
            "bert",
            {"target_modules": ["query", "word_embeddings"]},
            "embedding_",
            "word_embeddings: target_modules names",
        ),
        ("electra", ALL, "embeddings_project", "embeddings_project: target_modules names it, found no adapter"),
        (
            "bert",
            {"target_modules": ["query"], "trainable_token_indices": [3]},
            "token_adapter",
            "rows of it, found none",
        ),
        (
            "bert",
            {"target_modules": ["query"], "use_dora": True},
            "layer.1.attention.self.query.lora_m",
            "; found lora_A,",
        ),
        ("bert", {"target_modules": ["query"]}, "layer.1.attention.self.query.lora_B", "found lora_A"),
    ],
    ids=str,
)
def test_an_adapter_that_lacks_a_part_is_refused(
    family: str,
    config: dict[str, Any],
    part: str,
    text: str,
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_adapter(checkpoints[family], tmp_path / "adapter", **config)
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    whole = load_file(path)
    kept = {name: tensor for name, tensor in whole.items() if part not in name}
    assert len(kept) < len(whole)
    save_file(kept, path)
    assert merge(tmp_path / "adapter", tmp_path / "merged") == 2
    assert text in capsys.readouterr().err and not (tmp_path / "merged").exists()


@pytest.mark.parametrize("target", ["base", "adapter", "other"])
def test_folders_that_hold_something_else_are_left_alone(
    target: str,
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = shutil.copytree(checkpoints["bert"], tmp_path / "base")
    save_adapter(base, tmp_path / "adapter", target_modules=["query"])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert merge(tmp_path / "adapter", tmp_path / target) == 2
    assert "fix: name another" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
