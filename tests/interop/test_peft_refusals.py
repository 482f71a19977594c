"""What `import` refuses says why, and its advice works: each followed here with peft and transformers themselves."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapters import save_adapter
from saved import LABELS
from test_exports import TEXTS, assert_equal, change_config, checkpoints, their_logits  # noqa: F401
from tiny import scatter

from submillion.cli import main
from submillion.inference.classifier import Classifier

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def refusal(adapter: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """The message of an import that is refused, with and without --merge alike, and leaves nothing."""
    output = adapter.parent / "refused"
    messages = []
    for more in ([], ["--merge"]):
        assert main(["import", str(adapter), "--output.dir", str(output), *flags, *more]) == 2
        messages.append(capsys.readouterr().err)
    assert messages[0].rpartition("submillion: error")[2] == messages[1].rpartition("submillion: error")[2]
    assert not output.exists()
    return messages[1]


def save_other(base: Path, folder: Path, config: Any) -> Any:
    """A random adapter of another kind than LoRA on a sequence classifier."""
    from peft import get_peft_model
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(LABELS))
    model = get_peft_model(model, config).eval()
    scatter([parameter for parameter in model.parameters() if parameter.requires_grad], seed=8, std=0.1)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_an_adapter_beside_the_text_s_tokens_is_for_peft_alone(
    kind: str,
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from peft import PeftModel, PrefixTuningConfig, PromptTuningConfig
    from transformers import AutoModelForSequenceClassification

    config = {"prompt": PromptTuningConfig, "prefix": PrefixTuningConfig}[kind]
    save_other(checkpoints["bert"], tmp_path / "adapter", config(task_type="SEQ_CLS", num_virtual_tokens=3))
    message = refusal(tmp_path / "adapter", capsys)
    assert "stand beside the text's tokens, and no weights of the model can hold them" in message
    assert "fix: serve it with transformers and peft: PeftModel.from_pretrained(MODEL, FOLDER)" in message
    base = AutoModelForSequenceClassification.from_pretrained(checkpoints["bert"], num_labels=len(LABELS))
    PeftModel.from_pretrained(base, tmp_path / "adapter")


@pytest.mark.parametrize("kind", ["IA3", "LOHA", "pissa"])
def test_an_adapter_that_peft_can_merge_comes_with_the_lines_that_do_it(
    kind: str,
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from peft import IA3Config, LoHaConfig, LoraConfig

    configs: dict[str, Any] = {
        "IA3": IA3Config(
            task_type="SEQ_CLS", target_modules=["key", "output.dense"], feedforward_modules=["output.dense"]
        ),
        "LOHA": LoHaConfig(task_type="SEQ_CLS", target_modules=["key"]),
        "pissa": LoraConfig(task_type="SEQ_CLS", target_modules=["key"], init_lora_weights="pissa"),
    }
    theirs = save_other(checkpoints["bert"], tmp_path / "adapter", configs[kind])
    message = refusal(tmp_path / "adapter", capsys)
    assert (f"found peft_type '{kind}'" if kind != "pissa" else "init_lora_weights = 'pissa'") in message
    lines = [line.strip() for line in message.partition("fix: ")[2].splitlines()[1:]]
    code = "\n".join(lines).replace("num_labels=N", f"num_labels={len(LABELS)}")
    exec(code.replace("'DIR'", repr(str(tmp_path / "merged"))), {})  # as a reader would run it
    ours = Classifier.from_pretrained(tmp_path / "merged")
    assert_equal(ours.logits(TEXTS), their_logits(theirs, ours))


def test_an_adapter_for_another_family_is_for_peft_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoModelForSequenceClassification, DebertaV2Config

    config = DebertaV2Config(
        vocab_size=61, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48, num_labels=3
    )
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "base")
    save_adapter(tmp_path / "base", tmp_path / "adapter", target_modules=["query_proj"])
    message = refusal(tmp_path / "adapter", capsys)
    assert "has model_type 'deberta-v2', expected one of bert, roberta" in message
    assert "fix: use the adapter with transformers and peft" in message


def test_a_regression_head_is_named(
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    base = shutil.copytree(checkpoints["roberta"], tmp_path / "base")
    change_config(base, {"id2label": {"0": "score"}, "label2id": None})
    model = AutoModelForSequenceClassification.from_pretrained(base, ignore_mismatched_sizes=True)
    get_peft_model(model, LoraConfig(task_type="SEQ_CLS", target_modules=["query"])).save_pretrained(
        tmp_path / "adapter"
    )
    message = refusal(tmp_path / "adapter", capsys)
    assert "found one: a regression head, which gives a number and no label\nfix: use it with transformers" in message


def test_a_base_for_several_labels_a_text_is_named(
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = shutil.copytree(checkpoints["bert"], tmp_path / "base")
    change_config(base, {"problem_type": "multi_label_classification"})
    save_adapter(base, tmp_path / "adapter", target_modules=["query"])
    assert "found 'multi_label_classification'" in refusal(tmp_path / "adapter", capsys)


def test_label_names_that_do_not_fit_are_named(
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_adapter(checkpoints["bert"], tmp_path / "adapter", target_modules=["query"])
    message = refusal(tmp_path / "adapter", capsys, "--label-names", "a", "b")
    assert "expected 3 different label names, found a, b\nfix: --label-names with one a logit" in message


# Heads that were never saved


@pytest.mark.parametrize(
    ("family", "missing", "modules"),
    [
        ("modernbert", "head.dense.weight, head.norm.weight", "['head', 'classifier']"),
        ("bert", "bert.pooler.dense.weight, bert.pooler.dense.bias", "['pooler', 'classifier']"),
    ],
)
def test_a_head_that_was_never_saved_has_to_be_trained_again(
    family: str,
    missing: str,
    modules: str,
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from peft import PeftModel
    from transformers import AutoModel, AutoModelForSequenceClassification

    base = shutil.copytree(checkpoints[family], tmp_path / "base")
    without = {"add_pooling_layer": False} if family == "bert" else {}
    AutoModel.from_pretrained(checkpoints[family], **without).save_pretrained(base)  # as sentence encoders are saved
    target = "query" if family == "bert" else "Wqkv"
    theirs = save_adapter(base, tmp_path / "adapter", target_modules=[target])

    loaded = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(LABELS))
    again = PeftModel.from_pretrained(loaded, tmp_path / "adapter")
    reader = Classifier.from_pretrained(checkpoints[family])  # for its tokenizer
    assert np.abs(their_logits(again, reader) - their_logits(theirs, reader)).max() > 0.1, "peft has lost them too"

    message = refusal(tmp_path / "adapter", capsys)
    assert f"found no {missing}\n" in message and "random numbers in training and were never saved" in message
    assert f"fix: train the adapter again with modules_to_save={modules}" in message

    saved = json.loads(modules.replace("'", '"'))
    theirs = save_adapter(base, tmp_path / "again", target_modules=[target], modules_to_save=saved)
    assert main(["import", str(tmp_path / "again"), "--output.dir", str(tmp_path / "ours")]) == 0
    ours = Classifier.load(tmp_path / "ours")
    assert_equal(ours.logits(TEXTS), their_logits(theirs, ours))


def test_a_modernbert_for_masked_words_brings_its_head_along(
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    """With peft's default modules_to_save: the published ModernBERT has the head's dense layer and norm in it."""
    from transformers import AutoModelForMaskedLM

    base = shutil.copytree(checkpoints["modernbert"], tmp_path / "base")
    model = AutoModelForMaskedLM.from_pretrained(checkpoints["modernbert"])
    model.save_pretrained(base)
    theirs = save_adapter(base, tmp_path / "adapter", target_modules=["Wqkv"])
    assert main(["import", str(tmp_path / "adapter"), "--output.dir", str(tmp_path / "ours")]) == 0
    ours = Classifier.load(tmp_path / "ours")
    assert_equal(ours.logits(TEXTS), their_logits(theirs, ours))
