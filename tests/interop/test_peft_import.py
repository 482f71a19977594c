"""Adapters that peft saved open here with peft's logits; what we cannot represent is refused and leaves nothing."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import advised, as_binary, save_adapter
from safetensors.torch import load_file, save_file
from test_exports import (  # noqa: F401
    FAMILIES,
    LABELS,
    TEXTS,
    add_token,
    assert_equal,
    checkpoints,
    saved_model,
    their_logits,
)

from submillion.cli import main
from submillion.inference.artefact import Artefact
from submillion.inference.classifier import Classifier

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
CONFIGS: dict[str, dict[str, Any]] = {
    "all-linear": {"target_modules": "all-linear", "r": 3},
    "suffix": {"target_modules": ["output.dense"], "r": 2},
    "regular expression": {
        "target_modules": r".*encoder\.layer\.[02]\..*(intermediate\.dense|attention.*)\.?(o|q|dense|query)"
    },
    "some layers": {"target_modules": ["dense"], "layers_to_transform": [1], "layers_pattern": "layer"},
    "patterns": {
        "target_modules": ["dense"],
        "rank_pattern": {"intermediate.dense": 7, r"layer\.1\.output\.dense": 2},
        "alpha_pattern": {r"layer\.2\..*dense": 1},
        "use_rslora": True,
    },
}
# Families whose modules have other names, or that have modules of their own; and what people publish most.
OTHER_CONFIGS: list[tuple[str, dict[str, Any]]] = [
    ("roberta", {"target_modules": ["query", "value"]}),
    ("xlm-roberta", {"target_modules": ["query", "value"], "modules_to_save": ["classifier"]}),
    ("distilbert", {"target_modules": ["q_lin", "v_lin"], "modules_to_save": ["pre_classifier", "classifier"]}),
    ("modernbert", {"target_modules": ["Wqkv"], "modules_to_save": ["head", "classifier"]}),
    ("distilbert", {"target_modules": ["q_lin", "v_lin", "ffn.lin2"], "r": 3}),
    ("distilbert", {"target_modules": ["out_lin"], "layers_to_transform": [1], "layers_pattern": "layer"}),
    ("modernbert", {"target_modules": "all-linear", "r": 3}),
    ("modernbert", {"target_modules": r".*layers\.[02]\.(attn\.Wqkv|mlp\.W.)"}),
    ("modernbert", {"target_modules": ["Wi"], "layers_to_transform": [1], "layers_pattern": "layers"}),
    (
        "modernbert",
        {
            "target_modules": ["Wqkv", "Wo"],
            "rank_pattern": {"attn.Wo": 7, r"layers\.1\.attn\.Wqkv": 2},
            "alpha_pattern": {r"layers\.2\..*": 1},
            "use_rslora": True,
        },
    ),
]
CASES = [(family, config) for family in ("bert", "roberta", "mpnet", "electra") for config in CONFIGS.values()]
CASES = [*CASES, *OTHER_CONFIGS]
CASES.remove(("electra", CONFIGS["all-linear"]))  # refused: `test_an_adapter_on_embeddings_is_refused`
SOME_MODULE = {"distilbert": "lin1", "modernbert": "Wi"}  # the others: intermediate.dense


def take(folder: Path, output: Path, *flags: str) -> int:
    return main(["import", str(folder), "--output.dir", str(output), *flags])


@pytest.fixture
def adapter(checkpoints: dict[str, Path], tmp_path: Path) -> Path:  # noqa: F811
    """On BERT, in the test's own folder."""
    save_adapter(checkpoints["bert"], tmp_path / "adapter", target_modules=["intermediate.dense"])
    return tmp_path / "adapter"


@pytest.mark.parametrize(("family", "config"), CASES, ids=str)
def test_logits_are_those_of_peft(
    family: str,
    config: dict[str, Any],
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    theirs = save_adapter(checkpoints[family], tmp_path / "adapter", **config)
    assert take(tmp_path / "adapter", tmp_path / "ours", "--label-names", *LABELS) == 0
    ours = Classifier.load(tmp_path / "ours")
    assert list(ours.label_names) == LABELS
    assert_equal(ours.logits(TEXTS), their_logits(theirs, ours))


def test_a_pooler_comes_from_a_base_whose_names_have_no_prefix(
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    from transformers import AutoModel

    base = shutil.copytree(checkpoints["bert"], tmp_path / "base")
    AutoModel.from_pretrained(checkpoints["bert"]).save_pretrained(base)
    assert "pooler.dense.weight" in load_file(base / "model.safetensors")
    theirs = save_adapter(base, tmp_path / "adapter", target_modules=["query"])
    assert take(tmp_path / "adapter", tmp_path / "ours") == 0
    ours = Classifier.load(tmp_path / "ours")
    assert_equal(ours.logits(TEXTS), their_logits(theirs, ours))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_we_export_comes_back(family: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:  # noqa: F811
    model = saved_model(checkpoints[family], tmp_path)
    assert main(["export", str(model), "--to", "peft", str(tmp_path / "adapter")]) == 0
    assert take(tmp_path / "adapter", tmp_path / "ours", "--max-length", "40") == 0
    back = Classifier.load(tmp_path / "ours")
    assert list(back.label_names) == LABELS
    assert_equal(back.logits(TEXTS), Classifier.load(model).logits(TEXTS))


@pytest.mark.parametrize("old", ["{}.modules_to_save.default", "{}.modules_to_save"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_old_names_are_read(
    suffix: str,
    family: str,
    old: str,
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    module = SOME_MODULE.get(family, "intermediate.dense")
    theirs = save_adapter(checkpoints[family], tmp_path / "adapter", target_modules=[module])
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    state = {
        name.replace("classifier", old.format("classifier")).replace("lora_A.", "lora_A.default."): tensor
        for name, tensor in load_file(path).items()
    }
    save_file(state, path)
    if suffix == "bin":
        as_binary(tmp_path / "adapter")
    assert take(tmp_path / "adapter", tmp_path / "ours") == 0
    ours = Classifier.load(tmp_path / "ours")
    assert_equal(ours.logits(TEXTS), their_logits(theirs, ours))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"use_dora": True}, "use_dora = True"),
        ({"bias": "lora_only"}, "bias = 'lora_only'"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base's own weights"),
        ({"peft_type": "IA3"}, "peft_type 'IA3'"),
        ({"r": 9}, "expected lora_A [9, 32]"),
        ({"r": "many"}, "a value of a wrong kind"),
        ({"target_modules": ["query"]}, "target_modules"),
        ({"target_modules": "("}, "a value of a wrong kind"),
        ({"modules_to_save": ["classifier", "pooler"]}, "bert.pooler.dense.weight: expected in the adapter"),
    ],
    ids=str,
)
def test_what_we_cannot_represent_is_refused(
    changes: dict[str, Any], text: str, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes), encoding="utf-8")
    assert take(adapter, tmp_path / "ours") == 2
    assert text in capsys.readouterr().err and [p.name for p in tmp_path.iterdir()] == ["adapter"]


@pytest.mark.parametrize(("family", "most"), [("bert", 80), ("roberta", 78)])
def test_longer_rows_than_the_base_places_are_refused(
    family: str,
    most: int,
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_adapter(checkpoints[family], tmp_path / "adapter", target_modules=["intermediate.dense"])
    assert take(tmp_path / "adapter", tmp_path / "ours", "--max-length", str(most + 1)) == 2
    assert f"places at most {most} tokens\nfix: --max-length {most}, or less" in capsys.readouterr().err
    assert not (tmp_path / "ours").exists()
    assert take(tmp_path / "adapter", tmp_path / "ours", "--max-length", str(most)) == 0
    assert Classifier.load(tmp_path / "ours").logits(["war " * 200]).shape == (1, len(LABELS))


def test_an_adapter_on_embeddings_is_refused(
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_adapter(checkpoints["electra"], tmp_path / "adapter", target_modules="all-linear")
    assert take(tmp_path / "adapter", tmp_path / "ours") == 2
    assert "embeddings_project: an adapter\nfix: submillion import" in capsys.readouterr().err


def test_two_targets_of_a_joined_matrix_come_back_as_they_were(
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    model = saved_model(checkpoints["modernbert"], tmp_path)
    assert main(["export", str(model), "--to", "peft", str(tmp_path / "adapter")]) == 0
    assert take(tmp_path / "adapter", tmp_path / "ours") == 0
    before, after = (Artefact.load(folder) for folder in (model, tmp_path / "ours"))
    assert after.config["lora"]["rank"] == 2 and after.config["lora"]["targets"] == ["query", "value"]
    assert after.tensors.keys() == before.tensors.keys()


def test_unknown_fields_are_noted_and_unknown_tensors_refused(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, tensors = (adapter / f"adapter_{name}" for name in ("config.json", "model.safetensors"))
    config.write_text(json.dumps(json.loads(config.read_text()) | {"from_the_future": 1}), encoding="utf-8")
    assert take(adapter, tmp_path / "ours") == 0
    out = capsys.readouterr().out
    assert "from_the_future is not known here" in out and "LABEL_2" in out
    save_file(load_file(tensors) | {"base_model.model.score.weight": torch.zeros(3, 32)}, tensors)
    assert take(adapter, tmp_path / "other") == 2
    assert "score.weight: this model has no place for it" in capsys.readouterr().err
    tensors.write_bytes(tensors.read_bytes()[:300])
    assert take(adapter, tmp_path / "other") == 2 and not (tmp_path / "other").exists()


def test_a_base_whose_tokenizer_does_not_fit_is_refused(
    adapter: Path,
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = shutil.copytree(checkpoints["bert"], tmp_path / "base")
    add_token(base)
    assert take(adapter, tmp_path / "ours", "--base", str(base)) == 2
    assert "expected: at most vocab_size = " in capsys.readouterr().err and not (tmp_path / "ours").exists()


@pytest.mark.parametrize("has_config", [False, True])
def test_an_adapter_given_as_a_model_is_told_how_to_import_it(
    has_config: bool, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if has_config:  # as some trainers leave beside the adapter
        (adapter / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    (tmp_path / "rows.csv").write_text("text,label\noil,LABEL_0\nwar,LABEL_1\n", encoding="utf-8")
    rows, model = str(tmp_path / "rows.csv"), ["--model", str(adapter)]
    for argv in (
        ["predict", rows, *model],
        ["evaluate", "--data.source", rows, *model],
        ["export", str(adapter), str(tmp_path / "out"), "--to", "onnx"],
    ):
        assert main(argv) == 2
        message = capsys.readouterr().err
        assert "expected a saved classifier, found a PEFT adapter" in message
    fix = [str(tmp_path / "ours") if word == "DIR" else word for word in advised(message)]
    assert main(fix) == 0
    assert main(["predict", rows, "--model", str(tmp_path / "ours"), "--output", str(tmp_path / "out.csv")]) == 0
