"""Models that leave for transformers and PEFT, and come back: the real libraries give the same logits."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from saved import LABELS, NARROW, saved_checkpoints, saved_model
from tiny import FAMILIES, MODEL_TYPES, tiny_shape, transformers_classifier

from submillion.cli import main
from submillion.errors import BaseModelError, DataError
from submillion.inference.artefact import Artefact
from submillion.inference.classifier import Classifier
from submillion.model.spec import AdapterSpec

TEXTS = ["Oil prices climb as OPEC meets", "The champion won the final!", "", "war " * 60, "new software (web) 2.0"]
DIRTY = ["Wall St. &lt;b&gt;Bears&lt;/b&gt; quot;claw#39;", "Оil рrices climb", "oil\u200b <p>prices</p>&nbsp;rise"]
LORAS = {
    "narrow": NARROW,
    "wide": AdapterSpec(rank=8, alpha=3.0, targets=("all-linear",)),
    "one layer": AdapterSpec(rank=3, targets=("output", "key"), layers=(1,)),
}
FULL = {"unfreeze_layers": 1}

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def checkpoints(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return saved_checkpoints(tiny_base, tmp_path_factory)


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random RoBERTa with a tokenizer of RoBERTa's kind, of bytes alone."""
    from tokenizers import pre_tokenizers

    folder = tmp_path_factory.mktemp("byte_level")
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "<mask>"]
    shape = tiny_shape("roberta", vocab_size=len(tokens), num_positions=80)
    transformers_classifier(shape).save_pretrained(folder)
    vocab = {token: index for index, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "RobertaTokenizer"}', encoding="utf-8")
    return folder


@torch.no_grad()
def their_logits(model: Any, classifier: Classifier) -> np.ndarray:
    """The logits of a model of transformers for the same token ids, a row at a time."""
    tokens = classifier.tokenizer.encode(TEXTS, classifier.config.model.max_length)
    rows = [torch.from_numpy(tokens.row(index).astype(np.int64))[None] for index in range(len(TEXTS))]
    return torch.cat([model.eval()(input_ids=row, attention_mask=torch.ones_like(row)).logits for row in rows]).numpy()


def assert_equal(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert np.ptp(ours, axis=0).max() > 0.1  # logits that differ from text to text
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("lora", LORAS)
@pytest.mark.parametrize("family", FAMILIES)
def test_peft_opens_an_export_with_equal_logits(
    family: str, lora: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    model = saved_model(checkpoints[family], tmp_path, LORAS[lora])
    assert main(["export", str(model), "--to", "peft", str(tmp_path / "adapter")]) == 0
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {
        "adapter_model.safetensors",
        "adapter_config.json",
    }
    base = AutoModelForSequenceClassification.from_pretrained(checkpoints[family], num_labels=len(LABELS))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        theirs = PeftModel.from_pretrained(base, tmp_path / "adapter")
    assert not [str(warning.message) for warning in caught if "missing" in str(warning.message).lower()]
    classifier = Classifier.load(model)
    assert_equal(classifier.logits(TEXTS), their_logits(theirs, classifier))
    adapted = {name for name, _ in theirs.named_parameters() if "lora_" in name}
    names = {name for name in Artefact.load(model).tensors if "lora_" in name}
    if family == "modernbert":  # whose query, key and value are one matrix, so their adapters are one there
        names = {name.rpartition(".")[0] for name in names}
    assert len(adapted) == len(names)


def test_the_label_names_travel_with_the_adapter(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    model = saved_model(checkpoints["bert"], tmp_path)
    main(["export", str(model), "--to", "peft", str(tmp_path / "adapter")])
    with safe_open(tmp_path / "adapter" / "adapter_model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["label_names"]) == LABELS
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text("utf-8"))
    assert (config["use_dora"], config["use_rslora"], config["bias"]) == (False, False, "none")


@pytest.mark.parametrize("changes", [{}, FULL], ids=["adapters", "an open layer"])
@pytest.mark.parametrize("family", MODEL_TYPES)
def test_transformers_opens_an_export_with_equal_logits_and_so_do_we(
    family: str, changes: dict[str, Any], checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification

    model = saved_model(checkpoints[family], tmp_path, LORAS["wide"], **changes)
    assert main(["export", str(model), "--to", "transformers", str(tmp_path / "merged")]) == 0
    theirs, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert list(theirs.config.id2label.values()) == LABELS and theirs.config.label2id[LABELS[2]] == 2
    classifier = Classifier.load(model)
    assert_equal(classifier.logits(TEXTS), their_logits(theirs, classifier))
    back = Classifier.from_pretrained(tmp_path / "merged")
    assert list(back.label_names) == LABELS and back.config.model.max_length == 40
    assert_equal(back.logits(TEXTS), classifier.logits(TEXTS))


def test_modernbert_takes_the_mean_where_its_configuration_says_so(
    checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    model = saved_model(checkpoints["modernbert"], tmp_path, pooling="mean")
    classifier, merged = Classifier.load(model), tmp_path / "merged"
    assert main(["export", str(model), "--to", "transformers", str(merged)]) == 0
    theirs = AutoModelForSequenceClassification.from_pretrained(merged)
    assert_equal(classifier.logits(TEXTS), their_logits(theirs, classifier))
    assert_equal(Classifier.from_pretrained(merged).logits(TEXTS), classifier.logits(TEXTS))

    on_mean = saved_model(merged, tmp_path / "on mean", pooling="mean")
    assert main(["export", str(on_mean), "--to", "peft", str(tmp_path / "adapter")]) == 0
    classifier = Classifier.load(on_mean)
    adapted = PeftModel.from_pretrained(theirs, tmp_path / "adapter")
    assert_equal(classifier.logits(TEXTS), their_logits(adapted, classifier))
    assert (
        main(["import", str(tmp_path / "adapter"), "--output.dir", str(tmp_path / "back"), "--max-length", "40"]) == 0
    )
    assert_equal(Classifier.load(tmp_path / "back").logits(TEXTS), classifier.logits(TEXTS))

    settings = json.loads((merged / "config.json").read_text("utf-8")) | {"classifier_pooling": "max"}
    (merged / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(BaseModelError, match="expected classifier_pooling cls or mean, found 'max'"):
        Classifier.from_pretrained(merged)


def test_a_pipeline_opens_an_export(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    from transformers import pipeline

    model = saved_model(checkpoints["bert"], tmp_path)
    main(["export", str(model), "--to", "transformers", str(tmp_path / "merged")])
    answers = pipeline("text-classification", model=str(tmp_path / "merged"), device="cpu")(TEXTS, truncation=True)
    classifier = Classifier.load(model)
    assert [answer["label"] for answer in answers] == classifier.predict(TEXTS)
    expected = classifier.predict_proba(TEXTS).max(axis=1)
    np.testing.assert_allclose([answer["score"] for answer in answers], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "special"),
    [
        ("bert", ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]),
        ("byte level", ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]),
        ("modernbert", ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]),
    ],
)
def test_transformers_cleans_texts_as_we_do(
    family: str, special: list[str], checkpoints: dict[str, Path], byte_level: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    base, merged = {**checkpoints, "byte level": byte_level}[family], str(tmp_path / "merged")
    model = saved_model(base, tmp_path, normalise=("clean",))
    assert main(["export", str(model), "--to", "transformers", merged]) == 0
    texts = [*TEXTS, *DIRTY]
    expected = Classifier.load(model).logits(texts)
    tokenizer = AutoTokenizer.from_pretrained(merged)
    assert [getattr(tokenizer, f"{name}_token") for name in ("pad", "unk", "cls", "sep", "mask")] == special
    rows = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        theirs = AutoModelForSequenceClassification.from_pretrained(merged).eval()(**rows).logits
    assert_equal(expected, theirs.numpy())
    pipe = pipeline("text-classification", model=merged, device="cpu", top_k=None, function_to_apply="none")
    answers = [
        {answer["label"]: answer["score"] for answer in row} for row in pipe(texts, truncation=True, batch_size=4)
    ]
    assert_equal(expected, np.array([[answer[label] for label in LABELS] for answer in answers]))
    assert_equal(expected, Classifier.from_pretrained(merged).logits(texts))


def test_an_export_cuts_long_texts_where_we_do_whatever_its_base_says(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    base, merged = shutil.copytree(checkpoints["bert"], tmp_path / "base"), tmp_path / "merged"
    (base / "tokenizer_config.json").write_text('{"truncation_side": "left"}', encoding="utf-8")
    model = saved_model(base, tmp_path)  # trained models keep the beginning
    assert main(["export", str(model), "--to", "transformers", str(merged)]) == 0
    text = " ".join(["war", "oil", "bank", "final"][index % 4] for index in range(99))
    row = AutoTokenizer.from_pretrained(merged)(text, truncation=True, return_tensors="pt")
    with torch.no_grad():
        theirs = AutoModelForSequenceClassification.from_pretrained(merged).eval()(**row).logits
    np.testing.assert_allclose(Classifier.load(model).logits([text]), theirs, atol=1e-5, rtol=0)
    Classifier.from_pretrained(merged)


def test_an_export_keeps_case_where_we_do_whatever_its_base_says(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    base, merged = shutil.copytree(checkpoints["bert"], tmp_path / "base"), tmp_path / "merged"
    keep_case(base)
    assert main(["export", str(saved_model(base, tmp_path)), "--to", "transformers", str(merged)]) == 0
    row = Classifier.from_pretrained(merged).tokenizer.encode(["Oil oil"], 40).row(0).tolist()
    assert row == AutoTokenizer.from_pretrained(merged)("Oil oil")["input_ids"] and row[1] != row[2]


@pytest.mark.parametrize("family", MODEL_TYPES)
def test_a_checkpoint_of_transformers_opens_with_equal_logits(family: str, checkpoints: dict[str, Path]) -> None:
    from transformers import AutoModelForSequenceClassification

    ours = Classifier.from_pretrained(checkpoints[family])
    theirs = AutoModelForSequenceClassification.from_pretrained(checkpoints[family])
    assert_equal(ours.logits(TEXTS), their_logits(theirs, ours))
    assert ours.label_names == ("LABEL_0", "LABEL_1", "LABEL_2")


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"id2label": None, "label2id": None, "num_labels": 3}, ("LABEL_0", "LABEL_1", "LABEL_2")),
        ({"id2label": {}, "num_labels": 3}, ("LABEL_0", "LABEL_1", "LABEL_2")),
        ({"id2label": {"0": 7, "1": 8, "2": 9}}, ("7", "8", "9")),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}, "num_labels": 3}, ("a", "b", "c")),
        ({"architectures": None, "id2label": {"0": "a", "1": "b", "2": "c"}}, ("a", "b", "c")),
        ({"architectures": []}, ("LABEL_0", "LABEL_1", "LABEL_2")),
    ],
    ids=str,
)
@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_a_config_that_says_less_opens_as_in_transformers(
    family: str, changes: dict[str, Any], names: tuple[str, ...], checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification

    shutil.copytree(checkpoints[family], tmp_path, dirs_exist_ok=True)
    change_config(tmp_path, changes)
    ours = Classifier.from_pretrained(tmp_path)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert ours.label_names == names == tuple(str(name) for name in theirs.config.id2label.values())
    assert_equal(ours.logits(TEXTS), their_logits(theirs, ours))


def change_config(folder: Path, changes: dict[str, Any]) -> None:
    """Changes these values of a folder's config.json; None removes one."""
    path = folder / "config.json"
    settings = json.loads(path.read_text("utf-8")) | changes
    kept = {key: value for key, value in settings.items() if key not in changes or value is not None}
    path.write_text(json.dumps(kept), encoding="utf-8")


def test_transformers_drops_names_that_num_labels_contradicts(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """What `_label_names` refuses would open under other names there."""
    from transformers import AutoConfig

    shutil.copytree(checkpoints["bert"], tmp_path, dirs_exist_ok=True)
    change_config(tmp_path, {"id2label": {"0": "a", "1": "b"}, "num_labels": 3})
    assert list(AutoConfig.from_pretrained(tmp_path).id2label.values()) == ["LABEL_0", "LABEL_1", "LABEL_2"]
    with pytest.raises(BaseModelError, match="found num_labels 3 and 2 names"):
        Classifier.from_pretrained(tmp_path)


def test_without_an_architecture_the_head_decides(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoModel

    shutil.copytree(checkpoints["bert"], tmp_path, dirs_exist_ok=True)
    AutoModel.from_pretrained(checkpoints["bert"]).save_pretrained(tmp_path)
    change_config(tmp_path, {"architectures": None})
    with pytest.raises(BaseModelError, match=r"no whole head of Bert.*\n  bert.pooler.dense.weight: .* found nothing"):
        Classifier.from_pretrained(tmp_path)


def test_predict_and_evaluate_take_a_checkpoint(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    data, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    data.write_text("text,label\noil prices,LABEL_0\nthe final,LABEL_2\nwar,LABEL_1\n", encoding="utf-8")
    where = ["--model", str(checkpoints["roberta"])]
    assert main(["predict", str(data), *where, "--output", str(out)]) == 0
    assert len(out.read_text("utf-8").splitlines()) == 4
    assert main(["evaluate", "--data.source", str(data), *where, "--output", str(tmp_path / "m.json")]) == 0
    assert json.loads((tmp_path / "m.json").read_text("utf-8"))["rows"] == 3


# Refused, with nothing left behind


@pytest.mark.parametrize(
    ("to", "lora", "model", "text"),
    [
        ("peft", "narrow", {"head": "linear"}, "expected model.head stock"),
        ("transformers", "narrow", {"head": "linear"}, "expected model.head stock"),
        ("transformers", "narrow", {"pooling": "mean"}, "expected the pooling first"),
        ("transformers", "narrow", {"ngram_buckets": 9}, "expected no n-grams"),
        ("peft", "narrow", {"ngram_buckets": 9}, "--model.ngram-buckets 0"),
        ("transformers", "narrow", {"normalise": ("spelling",)}, "expected texts as they are"),
        ("peft", "narrow", {"normalise": ("clean", "spelling")}, "--model.head stock --robust.normalise\n"),
        ("transformers", "narrow", {"window": 9}, "expected long texts whole, found windows of 9 tokens"),
        ("peft", "narrow", {"window": 9}, "fix: train with --model.head stock\n"),
        ("peft", "narrow", {"normalise": ("clean",)}, "fix: --to transformers, which takes the tokenizer along"),
        ("peft", "narrow", {"normalise": ("clean",), "head": "linear"}, "--model.head stock --robust.normalise\n"),
        ("peft", "narrow", {"pooling": "mean"}, "expected the pooling first"),
        ("peft", "narrow", FULL, "fix: --to transformers"),
    ],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_would_give_other_logits_is_refused(
    family: str,
    to: str,
    lora: str,
    model: dict[str, Any],
    text: str,
    checkpoints: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if family == "modernbert" and to == "transformers" and "pooling" in model:
        pytest.skip("its class can be told to take the mean")
    saved = saved_model(checkpoints[family], tmp_path, LORAS[lora], **model)
    assert main(["export", str(saved), "--to", to, str(tmp_path / "out")]) == 2
    assert text in capsys.readouterr().err and [path.name for path in tmp_path.iterdir()] == ["best_model"]


def test_a_head_alone_is_no_adapter(
    checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = saved_model(checkpoints["bert"], tmp_path, AdapterSpec(rank=0))
    assert main(["export", str(saved), "--to", "peft", str(tmp_path / "out")]) == 2
    assert "found a head alone" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_nothing_is_overwritten(
    checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = saved_model(checkpoints["bert"], tmp_path)
    before = (saved / "model.pt").read_bytes()
    assert main(["export", str(saved), "--to", "transformers", str(saved)]) == 2
    assert "model.pt" in capsys.readouterr().err
    assert [path.name for path in saved.iterdir()] == ["model.pt"] and (saved / "model.pt").read_bytes() == before


def test_the_pretrained_encoder_is_not_replaced_by_what_was_made_from_it(
    checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = Path(shutil.copytree(checkpoints["bert"], tmp_path / "base"))
    saved = saved_model(base, tmp_path)
    before = {path.name: path.read_bytes() for path in base.iterdir()}
    assert main(["export", str(saved), "--to", "transformers", str(base)]) == 2
    assert "is the pretrained encoder, which would be lost" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in base.iterdir()} == before


def test_numbers_that_are_not_finite_are_refused(
    checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = saved_model(checkpoints["bert"], tmp_path)
    artefact = Artefact.load(saved)
    artefact.tensors["head.out_proj.bias"][0] = float("nan")
    artefact.save(saved)
    assert main(["export", str(saved), "--to", "peft", str(tmp_path / "out")]) == 2
    assert "expected finite numbers" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"architectures": ["BertForMaskedLM"]}, "expected the architecture BertForSequenceClassification"),
        ({"problem_type": "multi_label_classification"}, "expected problem_type single_label_classification"),
        ({"id2label": {"0": "only"}}, "two or more different names"),
        ({"id2label": {"0": "a", "2": "b", "3": "c"}}, "two or more different names"),
        ({"id2label": ["a", "b"]}, "two or more different names"),
        ({"id2label": {"0": "a", "1": True, "2": "c"}}, "two or more different names"),
        ({"id2label": {"0": "only"}}, "a head with one logit is a regression head"),
        ({"id2label": None, "num_labels": 1}, "a head with one logit is a regression head"),
        ({"id2label": None, "num_labels": "three"}, "two or more different names under 0, 1, ..., found three"),
        ({"num_labels": 2}, "found num_labels 2 and 3 names: transformers would drop the names\nfix: "),
        ({"id2label": {"0": "a", "1": "b"}}, "classifier.weight: expected [2, 32], found [3, 32]"),
        ({"model_type": "t5"}, "model_type 't5' is not supported"),
    ],
    ids=str,
)
def test_a_checkpoint_of_another_kind_is_refused(
    changes: dict[str, Any], text: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    for path in checkpoints["bert"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    settings = json.loads((tmp_path / "config.json").read_text("utf-8"))
    settings |= {"id2label": {"0": "a", "1": "b", "2": "c"}} | changes
    (tmp_path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(BaseModelError) as caught:
        Classifier.from_pretrained(tmp_path)
    assert text in str(caught.value)


@torch.no_grad()
def assert_opens_as_in_transformers(folder: Path, texts: list[str], most: int) -> Classifier:
    """Our logits are those of transformers' own tokenizer and model, of texts cut to `most` tokens."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    ours, tokenizer = Classifier.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    theirs = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    rows = [tokenizer(text, truncation=True, max_length=most, return_tensors="pt") for text in texts]
    assert_equal(ours.logits(texts), torch.cat([theirs(**row).logits for row in rows]).numpy())
    return ours


@pytest.mark.parametrize("name", ["tokenizer_config.json", "tokenizer.json"])
def test_a_checkpoint_that_reads_the_end_of_a_long_text_opens(
    name: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(checkpoints["bert"], tmp_path, dirs_exist_ok=True)
    whole = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    whole["truncation"] = {"direction": "Left", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
    content = whole if name == "tokenizer.json" else {"truncation_side": "left"}
    (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    texts = ["oil " * 90 + "war final", "war " * 90 + "bank of oil", "oil prices"]
    ends = assert_opens_as_in_transformers(tmp_path, texts, 80).logits(texts)
    (tmp_path / "tokenizer_config.json").write_text('{"truncation_side": "right"}', encoding="utf-8")
    beginnings = assert_opens_as_in_transformers(tmp_path, texts, 80).logits(texts)
    assert np.abs(ends - beginnings)[:2].max(axis=1).min() > 1e-3 and np.array_equal(ends[2], beginnings[2])


@pytest.mark.parametrize("settings", [{}, {"do_lower_case": True, "tokenizer_class": "BertTokenizerFast"}], ids=str)
@pytest.mark.parametrize("family", ["bert", "distilbert", "electra"])
def test_a_checkpoint_whose_two_files_tell_of_another_case_opens_as_in_transformers(
    family: str, settings: dict[str, Any], checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(checkpoints[family], tmp_path, dirs_exist_ok=True)
    keep_case(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    ours = assert_opens_as_in_transformers(tmp_path, [*TEXTS, "OIL Prices, CAFÉ"], 80)
    assert np.array_equal(ours.logits(["OIL Prices"]), ours.logits(["oil prices"]))


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("bert", {"do_lower_case": False}),
        ("electra", {"do_lower_case": False, "strip_accents": False}),
        ("bert", {"tokenizer_class": "PreTrainedTokenizerFast"}),
        ("modernbert", {"tokenizer_class": "BertTokenizer"}),
    ],
    ids=str,
)
def test_a_checkpoint_that_keeps_case_in_transformers_too_opens(
    family: str, settings: dict[str, Any], checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    shutil.copytree(checkpoints[family], tmp_path, dirs_exist_ok=True)
    keep_case(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    row = Classifier.from_pretrained(tmp_path).tokenizer.encode(["Oil oil café"], 40).row(0).tolist()
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert row[1:4] == theirs("Oil oil café")["input_ids"][1:4] and not theirs.backend_tokenizer.normalizer.lowercase


def test_a_text_without_a_token_is_refused_where_nothing_is_put_around_it(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(checkpoints["roberta"], tmp_path, dirs_exist_ok=True)
    whole = json.loads((tmp_path / "tokenizer.json").read_text("utf-8")) | {"post_processor": None}
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole), encoding="utf-8")
    ours = assert_opens_as_in_transformers(tmp_path, ["oil prices", "war", "the final"], 78)
    with pytest.raises(DataError, match=r"found none in 2, the first in row 1: .*\nfix: leave out texts"):
        ours.logits(["oil", "", " "])


def keep_case(folder: Path) -> None:
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text("utf-8"))
    tokenizer["normalizer"]["lowercase"] = False
    path.write_text(json.dumps(tokenizer), encoding="utf-8")


def test_a_checkpoint_whose_tokenizer_has_more_ids_than_embeddings_is_refused(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(checkpoints["bert"], tmp_path, dirs_exist_ok=True)
    add_token(tmp_path)
    with pytest.raises(BaseModelError, match=r"expected: at most vocab_size = \d+ ids"):
        Classifier.from_pretrained(tmp_path)


def add_token(folder: Path) -> None:
    """Gives the tokenizer one id more than the embeddings of its model have."""
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text("utf-8"))
    tokenizer["model"]["vocab"]["airport"] = len(tokenizer["model"]["vocab"])
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
