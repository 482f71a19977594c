"""Configurations and folders as real repositories hold them: opened with the logits of transformers, or refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import change, save_adapter
from safetensors.torch import load_file, save_file
from saved import LABELS, saved_model
from test_exports import TEXTS, assert_equal, checkpoints, their_logits  # noqa: F401

from submillion.cli import main
from submillion.inference.classifier import Classifier

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
REMOVED = "(removed)"


def with_settings(checkpoint: Path, folder: Path, **changes: Any) -> Path:
    """A copy of the checkpoint whose config.json has these values, or lacks a key."""
    shutil.copytree(checkpoint, folder)
    path = folder / "config.json"
    settings = json.loads(path.read_text("utf-8")) | changes
    kept = {key: value for key, value in settings.items() if value != REMOVED}
    path.write_text(json.dumps(kept), encoding="utf-8")
    return folder


OPENED: list[tuple[str, dict[str, Any]]] = [
    ("modernbert", {"position_embedding_type": "sans_pos"}),  # mmBERT's
    ("distilbert", {"position_embedding_type": "relative_key"}),
    ("mpnet", {"pad_token_id": 0}),
    ("mpnet", {"pad_token_id": 5}),
    ("modernbert", {"sliding_window": 2}),
    ("modernbert", {"sliding_window": 1, "local_attention": 12}),
    ("distilbert", {"layer_norm_eps": 0.01}),
    ("distilbert", {"layer_norm_eps": None}),
    ("bert", {"type_vocab_size": REMOVED}),
    ("bert", {"hidden_act": "gelu_python"}),
    ("bert", {"pad_token_id": None}),
    ("electra", {"pad_token_id": None}),
    ("distilbert", {"dim": REMOVED, "hidden_size": 32, "n_heads": REMOVED, "num_attention_heads": 2}),
]


@pytest.mark.parametrize(("family", "changes"), OPENED, ids=str)
def test_a_configuration_opens_with_the_logits_of_transformers(
    family: str,
    changes: dict[str, Any],
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    from transformers import AutoModelForSequenceClassification

    folder = with_settings(checkpoints[family], tmp_path / "model", **changes)
    ours = Classifier.from_pretrained(folder)
    theirs = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert_equal(ours.logits(TEXTS), their_logits(theirs, ours))


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type = 'relative_key'"),
    ("bert", {"layer_norm_eps": None}, "layer_norm_eps = None (expected a number, 0 to 1)"),
    ("bert", {"layer_norm_eps": "1e-12"}, "layer_norm_eps = '1e-12'"),
    ("modernbert", {"norm_eps": "1e-5"}, "norm_eps = '1e-5'"),
    ("roberta", {"pad_token_id": None}, "pad_token_id = None"),
    ("modernbert", {"classifier_activation": "silu"}, "classifier_activation = 'silu'"),
    ("bert", {"hidden_act": "gelu_new"}, "hidden_act = 'gelu_new'"),
    ("bert", {"vocab_size": 4_000}, "the checkpoint does not fit its config.json"),
    ("bert", {"hidden_size": REMOVED}, "lacks the key 'hidden_size'"),
    ("bert", {"id2label": {"0": "a", "1": "\ud83d", "2": "c"}}, "id2label"),
]


@pytest.mark.parametrize(("family", "changes", "text"), REFUSED, ids=str)
def test_a_configuration_that_is_refused_says_why_and_what_to_do(
    family: str,
    changes: dict[str, Any],
    text: str,
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = with_settings(checkpoints[family], tmp_path / "model", **changes)
    (tmp_path / "rows.csv").write_text("text\noil\n", encoding="utf-8")
    assert main(["predict", str(tmp_path / "rows.csv"), "--model", str(folder)]) == 2
    message = capsys.readouterr().err
    assert text in message and "\nfix: " in message and "Traceback" not in message


@pytest.mark.parametrize("task", ["TOKEN_CLS", "FEATURE_EXTRACTION", "SEQ_2_SEQ_LM"])
@pytest.mark.parametrize("flags", [(), ("--merge",)], ids=str)
def test_an_adapter_for_another_task_is_refused(
    task: str,
    flags: tuple[str, ...],
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_adapter(checkpoints["bert"], tmp_path / "adapter", target_modules=["query"])
    change(tmp_path / "adapter", task_type=task)
    assert main(["import", str(tmp_path / "adapter"), "--output.dir", str(tmp_path / "out"), *flags]) == 2
    assert f"found task_type '{task}'" in capsys.readouterr().err and not (tmp_path / "out").exists()


def two_adapters(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As torch.save(model.state_dict()) leaves them, with the adapters' names."""
    named = {}
    for name, tensor in state.items():
        for number, adapter in enumerate(("default", "second")):
            named[name.replace(".weight", f".{adapter}.weight") if "lora_" in name else name] = tensor + number
    return named


def two_heads(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    plain = {name: tensor for name, tensor in state.items() if "classifier" not in name}
    heads = {name: tensor for name, tensor in state.items() if "classifier" in name}
    for number, adapter in enumerate(("default", "second")):
        for name, tensor in heads.items():
            plain[name.replace("classifier.", f"classifier.modules_to_save.{adapter}.")] = tensor + number
    return plain


@pytest.mark.parametrize("made", [two_adapters, two_heads])
def test_two_adapters_in_one_file_are_refused(
    made: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]],
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_adapter(checkpoints["bert"], tmp_path / "adapter", target_modules=["query"])
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file(made(load_file(path)), path)
    assert main(["import", str(tmp_path / "adapter"), "--output.dir", str(tmp_path / "out")]) == 2
    assert "a second adapter's" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": ["bert.encoder.layer.1.attention.self.query"], "layers_to_transform": [0]},
        {"target_modules": ["query"], "lora_dropout": 1.0},
    ],
    ids=str,
)
def test_what_peft_opens_opens_here(
    changes: dict[str, Any],
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    changes = dict(changes)
    dropout = changes.pop("lora_dropout", 0.0)
    theirs = save_adapter(checkpoints["bert"], tmp_path / "adapter", **changes)
    change(tmp_path / "adapter", lora_dropout=dropout)
    assert main(["import", str(tmp_path / "adapter"), "--output.dir", str(tmp_path / "ours")]) == 0
    ours = Classifier.load(tmp_path / "ours")
    assert_equal(ours.logits(TEXTS), their_logits(theirs, ours))


@pytest.mark.parametrize("name", ['"\\ud83d"', '"a", "\\ud83d"'])
def test_label_names_that_no_file_can_hold_are_not_taken(
    name: str,
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    save_adapter(checkpoints["bert"], tmp_path / "adapter", target_modules=["query"])
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file(load_file(path), path, metadata={"format": "pt", "label_names": f'["x", "y", {name}]'})
    assert main(["import", str(tmp_path / "adapter"), "--output.dir", str(tmp_path / "ours")]) == 0
    assert Classifier.load(tmp_path / "ours").label_names == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_no_other_program_s_model_is_replaced(
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its files have the names of an export, for transformers and peft wrote them."""
    stock = {"head": "stock", "pooling": "first"}
    ours, other = saved_model(checkpoints["bert"], tmp_path, **stock), tmp_path / "other"
    save_adapter(checkpoints["bert"], tmp_path / "adapter", target_modules=["query"])
    other.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copy(checkpoints["bert"] / name, other)
    (tmp_path / "theirs").mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        shutil.copy(tmp_path / "adapter" / name, tmp_path / "theirs")
    before = {path: path.read_bytes() for folder in (other, tmp_path / "theirs") for path in folder.iterdir()}
    commands = [
        ["import", str(tmp_path / "adapter"), "--merge", "--output.dir", str(other)],
        ["export", str(ours), "--to", "transformers", str(other)],
        ["export", str(ours), "--to", "peft", str(tmp_path / "theirs")],
    ]
    for command in commands:
        assert main(command) == 2
        assert "a model in it that another program wrote" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in before}
    for to in ("transformers", "peft"):  # an earlier export is replaced
        for _ in range(2):
            assert main(["export", str(ours), "--to", to, str(tmp_path / to)]) == 0


def test_one_text_with_another_token_type_is_refused(
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = with_settings(checkpoints["bert"], tmp_path / "model", id2label=dict(enumerate(LABELS)))
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text("utf-8"))
    for step in tokenizer["post_processor"]["single"]:
        for part in step.values():
            part["type_id"] = 1
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "token_type_ids"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (tmp_path / "rows.csv").write_text("text\noil\n", encoding="utf-8")
    assert main(["predict", str(tmp_path / "rows.csv"), "--model", str(folder)]) == 2
    assert "expected token type 0 for a single text" in capsys.readouterr().err
