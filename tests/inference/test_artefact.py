"""The artefact: whole or refused, never run, tied to its base, the same bytes for the same run."""

import os
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from saved import scattered_artefact
from tiny import CPU

from submillion.config.schema import Config, ModelConfig, TrainConfig
from submillion.errors import ArtefactError, SubmillionError
from submillion.inference import artefact as artefact_module
from submillion.inference.artefact import Artefact, network_record
from submillion.inference.classifier import Classifier
from submillion.model.classifier import TextClassifier
from submillion.model.spec import AdapterSpec, NetworkSpec
from submillion.runtime.forward import compute_logits
from submillion.tasks.saved import task_of
from submillion.text.tokenizer import Tokenizer

TEXTS = ["Oil prices climb as OPEC meets", "The champion won the final!", "", "war " * 300, "new software (web) 2.0"]
LABELS = ["World", "Sports", "Business", "Sci/Tech"]
FIELDS = {
    "schema",
    "tensors",
    "task",
    "network",
    "precision",
    "base",
    "tokenizer",
    "tokenizer_sha256",
    "config",
    "parameters",
    "metrics",
    "calibration",
    "checksum",
}


class TouchesFile:
    """Pickles to a call that makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def build(folder: Path, **network: Any) -> tuple[Artefact, TextClassifier]:
    """Returns an artefact on the base in `folder`, and the network whose tensors it holds."""
    spec = NetworkSpec(**network)
    config = Config(model=ModelConfig(base=str(folder), head=spec.head), train=TrainConfig(precision="fp32"))
    return scattered_artefact(config, spec, AdapterSpec(), LABELS)


@pytest.fixture(scope="module")
def made(tiny_base: Path) -> tuple[Artefact, TextClassifier]:
    return build(tiny_base)


@pytest.fixture(scope="module")
def saved(made: tuple[Artefact, TextClassifier], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a saved model, not to be changed."""
    return made[0].save(tmp_path_factory.mktemp("saved"))


def test_a_git_lfs_pointer_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(ArtefactError, match=r"Git LFS pointers in place of model\.pt\n.*\nfix: .*git lfs pull"):
        Artefact.load(tmp_path)


def refused(path: Path) -> str:
    with pytest.raises(ArtefactError) as caught:
        Artefact.load(path)
    return str(caught.value)


def rewrite(saved: Path, path: Path, change: Callable[[dict[str, Any]], Any], resign: bool = True) -> Path:
    """A copy with changed fields, as an attacker or another version could write it: with a checksum that fits."""
    content = torch.load(saved, weights_only=True)
    change(content)
    if resign:
        plain = {key: value for key, value in content.items() if key != "checksum"}
        content["checksum"] = artefact_module._checksum(plain)
    torch.save(content, path)
    return path


def same(first: Artefact, second: Artefact) -> bool:
    names = [field.name for field in fields(Artefact) if field.name != "tensors"]
    tensors = first.tensors.keys() == second.tensors.keys() and all(
        torch.equal(tensor, second.tensors[name]) for name, tensor in first.tensors.items()
    )
    return tensors and all(getattr(first, name) == getattr(second, name) for name in names)


def test_the_file_holds_these_fields_and_nothing_but_plain_values(saved: Path) -> None:
    content = torch.load(saved, weights_only=True)
    assert set(content) == FIELDS and content["schema"] == 2
    assert {type(value) for value in content.values()} == {int, dict, str, torch.Tensor}
    assert [path.name for path in saved.parent.iterdir()] == ["model.pt"]


@pytest.mark.parametrize("model", [{}, {"head": "linear"}, {"unfreeze_layers": 1}], ids=str)
def test_the_tensors_are_exactly_the_trainable_ones(model: dict[str, Any], tiny_base: Path, tmp_path: Path) -> None:
    artefact, network = build(tiny_base, **model)
    content = torch.load(artefact.save(tmp_path), weights_only=True)
    assert list(content["tensors"]) == list(network.trainable())
    assert {id(parameter) for parameter in network.trainable().values()} == {id(p) for p in network.parameters()}
    assert sum(tensor.numel() for tensor in content["tensors"].values()) == content["parameters"]["trainable"]
    assert all(tensor.dtype == torch.float32 for tensor in content["tensors"].values())
    stored = sum(tensor.untyped_storage().nbytes() for tensor in content["tensors"].values())
    assert stored == 4 * content["parameters"]["trainable"]  # no tensor drags a larger one along


def test_the_seed_s_model_takes_2_7_megabytes(made: tuple[Artefact, TextClassifier], tmp_path: Path) -> None:
    large = replace(made[0], tensors={"lora_A": torch.randn(667_396)})
    assert 4 * 667_396 < large.save(tmp_path).stat().st_size < 2.75e6


def test_a_round_trip_changes_nothing(made: tuple[Artefact, TextClassifier], saved: Path) -> None:
    assert same(Artefact.load(saved), made[0]) and same(Artefact.load(saved.parent), made[0])


def test_saving_what_was_loaded_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    assert Artefact.load(saved).save(tmp_path).read_bytes() == saved.read_bytes()


def test_a_loaded_classifier_gives_the_logits_of_the_saved_network(
    made: tuple[Artefact, TextClassifier], saved: Path, tiny_base: Path
) -> None:
    tokens = Tokenizer.from_folder(tiny_base).encode(TEXTS, 128)
    expected = compute_logits(made[1], task_of(LABELS), tokens, 64, CPU)
    classifier = Classifier.load(saved)
    assert np.array_equal(classifier.logits(TEXTS), expected)
    assert classifier.predict(TEXTS) == [LABELS[index] for index in expected.argmax(axis=1)]
    np.testing.assert_allclose(classifier.predict_proba(TEXTS).sum(axis=1), 1.0, atol=1e-6)


def test_loading_leaves_torch_s_global_generator_alone(saved: Path) -> None:
    before = torch.get_rng_state()
    Classifier.load(saved)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_new_process_gives_the_same_logits_bit_for_bit(saved: Path, tmp_path: Path) -> None:
    code = (
        "import sys, numpy; from submillion.inference.classifier import Classifier; "
        "numpy.save(sys.argv[2], Classifier.load(sys.argv[1]).logits(sys.argv[3:]))"
    )
    out = tmp_path / "logits.npy"
    subprocess.run([sys.executable, "-c", code, str(saved), str(out), *TEXTS], check=True)
    assert np.array_equal(np.load(out), Classifier.load(saved).logits(TEXTS))


def test_two_runs_in_two_processes_give_the_same_file(tiny_base: Path, tmp_path: Path) -> None:
    rows = [f"{'oil' if index % 2 else 'goal'} news number {index},{index % 2}" for index in range(60)]
    flags = ["--data.source", "news.csv", "--model.base", str(tiny_base), "--train.learning-rate", "1e-3"]
    runs = []
    for hash_seed in ("1", "2"):
        folder = tmp_path / hash_seed
        folder.mkdir()
        (folder / "news.csv").write_text("\n".join(["text,label", *rows]) + "\n")
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        with (folder / "output.txt").open("w") as output:
            command = [sys.executable, "-m", "submillion", "train", *flags]
            runs.append(subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output))
    assert [run.wait() for run in runs] == [0, 0], (tmp_path / "1" / "output.txt").read_text()
    first, second = ((tmp_path / name / "best_model" / "model.pt").read_bytes() for name in ("1", "2"))
    assert first == second


# Cut, altered and hostile files


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999, 0.99999])
def test_a_cut_file_is_refused(share: float, saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    path = tmp_path / "model.pt"
    path.write_bytes(content[: int(len(content) * share)])
    assert str(path) in refused(path)


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=150)
def test_a_flipped_bit_is_refused_or_changes_nothing(
    place: float, bit: int, made: tuple[Artefact, TextClassifier], saved: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(saved.read_bytes())
    content[int(len(content) * place)] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "flipped.pt"
    path.write_bytes(content)
    try:
        loaded = Artefact.load(path)
    except ArtefactError:
        return
    assert same(loaded, made[0])  # padding and dates of the container carry nothing


def test_every_flip_inside_a_tensor_is_refused(
    made: tuple[Artefact, TextClassifier], saved: Path, tmp_path: Path
) -> None:
    content = saved.read_bytes()
    path = tmp_path / "model.pt"
    for name, tensor in made[0].tensors.items():
        inside = tensor.detach().numpy().tobytes()
        start = content.find(inside)
        assert start > 0 and inside.strip(b"\0"), name
        for place in (start, start + len(inside) - 1):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            assert "altered" in refused(path)


def test_settings_that_this_version_does_not_know_are_told_as_the_model_s(saved: Path, tmp_path: Path) -> None:
    artefact = Artefact.load(saved)
    replace(artefact, config=artefact.config | {"train": {"rehearsal": 1}}).save(tmp_path)
    with pytest.raises(ArtefactError, match=r"the model's file: unknown key train\.rehearsal.*\nfix: update"):
        Classifier.load(tmp_path)


def test_the_specs_come_back_as_they_were(tiny_base: Path, tmp_path: Path) -> None:
    spec = NetworkSpec("linear", "mean", 40, 30, 64, 0.2, 1)
    adapters = AdapterSpec(4, 2.0, 0.1, ("query", "output"), (0,))
    artefact, _ = scattered_artefact(Config(model=ModelConfig(base=str(tiny_base))), spec, adapters, LABELS)
    assert Artefact.load(artefact.save(tmp_path)).specs() == (spec, adapters)
    assert Artefact.load(replace(artefact, network=network_record(spec, AdapterSpec())).save(tmp_path)).specs() == (
        spec,
        AdapterSpec(),
    )


@pytest.mark.parametrize("part", ["spec", "adapters"])
def test_a_part_of_a_later_version_s_network_is_named(part: str, saved: Path, tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["network"][part]["wings"] = 2

    with pytest.raises(
        ArtefactError, match=r"network in the model's file.*unknown key wings.*\nfix: update submillion"
    ):
        Classifier.load(rewrite(saved, tmp_path / "model.pt", change))


@pytest.mark.parametrize(("field", "value"), [("network", {"spec": {}, "adapters": {}}), ("precision", "bf16")])
def test_a_changed_network_or_precision_is_refused(field: str, value: object, saved: Path, tmp_path: Path) -> None:
    path = rewrite(saved, tmp_path / "model.pt", lambda content: content.update({field: value}), resign=False)
    assert "checksum does not match" in refused(path)


def test_a_changed_field_is_refused(saved: Path, tmp_path: Path) -> None:
    path = rewrite(saved, tmp_path / "model.pt", lambda content: content["task"]["label_names"].reverse(), resign=False)
    assert "checksum does not match" in refused(path)


@pytest.mark.parametrize("where", ["alone", "in a field"])
def test_a_hostile_pickle_is_refused_and_not_run(where: str, saved: Path, tmp_path: Path) -> None:
    target, path = tmp_path / "touched", tmp_path / "model.pt"
    content = {**torch.load(saved, weights_only=True), "metrics": TouchesFile(target)}
    torch.save(TouchesFile(target) if where == "alone" else content, path)
    assert "nothing in it was run" in refused(path) and not target.exists()
    torch.load(path, weights_only=False)
    assert target.exists()  # it would have been


@pytest.mark.parametrize("content", [b"", b"no model", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_a_file_that_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    assert "model.pt" in refused(tmp_path)
    assert ("is no PyTorch file" in refused(tmp_path)) == (content == b"no model")


@pytest.mark.parametrize(
    "content", [[1, 2], {"state_dict": {}}, torch.zeros(3), {"schema": torch.zeros(2)}, {"schema": 1, 2: 3}], ids=str
)
def test_another_pytorch_file_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pt")
    refused(tmp_path)


def test_another_schema_is_refused_by_its_number(saved: Path, tmp_path: Path) -> None:
    path = rewrite(saved, tmp_path / "model.pt", lambda content: content.update(schema=3))
    message = refused(path)
    assert "expected a model of schema 2, found schema 3" in message and message.endswith("fix: update submillion")


def test_a_model_of_an_earlier_schema_is_refused_with_the_reason_and_the_ways_on(saved: Path, tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        """Leaves the fields that a file of schema 1 has."""
        content |= {"schema": 1, "label_names": content.pop("task")["label_names"]}
        del content["network"], content["precision"]

    message = refused(rewrite(saved, tmp_path / "model.pt", change))
    assert "expected a model of schema 2, found schema 1\nfix: train again" in message
    assert "the settings have changed since" in message and "submillion 0.1.0" in message


@pytest.mark.parametrize("field", sorted(FIELDS - {"schema"}))
def test_a_lacking_field_is_named(field: str, saved: Path, tmp_path: Path) -> None:
    path = rewrite(saved, tmp_path / "model.pt", lambda content: content.pop(field), resign=False)
    assert field in refused(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tensors", {"a": 1}),
        ("tokenizer", "text"),
        ("base", {}),
        ("task", 3),
        ("task", {"kind": "one label", "label_names": ["alone"]}),
        ("task", {"kind": "one label", "label_names": [1, 2]}),
        ("task", {"kind": "several labels", "label_names": ["a", "b"]}),
        ("task", {"label_names": ["a", "b"]}),
        ("network", {}),
        ("network", {"spec": {}, "adapters": {}, "more": {}}),
        ("network", {"spec": {"no_such_field": 1}, "adapters": {}}),
        ("network", {"spec": {}, "adapters": {"rank": "two"}}),
        ("network", {"spec": {"head": "square"}, "adapters": {}}),
        ("network", {"spec": {"pooling": "last"}, "adapters": {}}),
        ("network", {"spec": {"max_length": 0}, "adapters": {}}),
        ("network", {"spec": {"unfreeze_layers": 1.5}, "adapters": {}}),
        ("network", {"spec": [], "adapters": {}}),
        ("precision", 16),
        ("precision", "fp64"),
        ("config", {"model": {"no_such_key": 1}}),
        ("calibration", {}),
        ("calibration", {"temperature": 1.0, "int8_margin": -1.0}),
        ("tokenizer", torch.zeros(8, dtype=torch.uint8)),
    ],
    ids=str,
)
def test_a_field_of_a_wrong_kind_is_refused(field: str, value: object, saved: Path, tmp_path: Path) -> None:
    content = torch.load(saved, weights_only=True) | {field: value}
    with suppress(AttributeError):  # some have no checksum
        content["checksum"] = artefact_module._checksum({key: content[key] for key in content if key != "checksum"})
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(SubmillionError):
        Classifier.load(tmp_path)


def test_words_are_kept_and_a_file_without_them_says_nothing_of_them(saved: Path, tmp_path: Path) -> None:
    artefact = Artefact.load(saved)
    assert artefact.words == [] and "words" not in torch.load(saved, weights_only=True)
    words = ["prices", "köln", "company"]
    path = replace(artefact, words=words).save(tmp_path)
    assert Artefact.load(path).words == words
    assert Classifier.load(tmp_path).logits(["Compnay prcies"]).tolist() == (
        Classifier.load(saved).logits(["Company prices"]).tolist()
    )
    other = torch.frombuffer(bytearray(zlib.compress(b"prices\nother")), dtype=torch.uint8)
    altered = rewrite(path, tmp_path / "altered.pt", lambda content: content.update(words=other), resign=False)
    assert "its checksum does not match" in refused(altered)
    dropped = rewrite(path, tmp_path / "dropped.pt", lambda content: content.pop("words"), resign=False)
    assert "its checksum does not match" in refused(dropped)


@pytest.mark.parametrize("words", ["a" * 81, "one\n\ntwo", "a\n" * 200_000 + "b"], ids=["long", "empty", "many"])
def test_words_that_no_training_leaves_are_refused(words: str, saved: Path, tmp_path: Path) -> None:
    packed = torch.frombuffer(bytearray(zlib.compress(words.encode())), dtype=torch.uint8)
    path = rewrite(saved, tmp_path / "model.pt", lambda content: content.update(words=packed))
    assert "a field does not hold what it should" in refused(path)


def test_a_bomb_in_the_tokenizer_is_refused_before_it_unpacks(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(64)) + packer.flush()
    bomb = torch.frombuffer(bytearray(packed), dtype=torch.uint8)
    path = rewrite(saved, tmp_path / "model.pt", lambda content: content.update(tokenizer=bomb))
    monkeypatch.setattr(artefact_module, "_MAX_PACKED_BYTES", 2**20)
    tracemalloc.start()
    try:
        text = refused(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "tokenizer" in text and peak < 8 * 2**20


def test_no_model_says_how_to_get_one(tmp_path: Path) -> None:
    assert "train one first" in refused(tmp_path) and "train one first" in refused(tmp_path / "no" / "model.pt")


# The base it was trained on


def not_loaded(saved: Path, base: Path | str = "") -> str:
    with pytest.raises(ArtefactError) as caught:
        Classifier.load(saved, base=base)
    return str(caught.value)


@pytest.fixture
def moved_base(tiny_base: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "moved"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        (folder / name).write_bytes((tiny_base / name).read_bytes())
    return folder


def test_a_base_that_moved_is_taken(saved: Path, moved_base: Path) -> None:
    assert np.array_equal(Classifier.load(saved, base=moved_base).logits(TEXTS), Classifier.load(saved).logits(TEXTS))


def test_other_weights_are_named(saved: Path, moved_base: Path) -> None:
    weights = moved_base / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    text = not_loaded(saved, moved_base)
    assert f"the weights in {moved_base} are not those it was trained on" in text and "tokenizer" not in text


def test_a_changed_tokenizer_is_named(saved: Path, moved_base: Path) -> None:
    with (moved_base / "vocab.txt").open("a") as file:
        file.write("newword\n")
    text = not_loaded(saved, moved_base)
    assert f"the tokenizer in {moved_base} has changed" in text and "the weights in" not in text


def test_a_changed_shape_is_refused(saved: Path, moved_base: Path) -> None:
    """config.json is no weight, but the number of heads and the epsilon change every logit."""
    config = moved_base / "config.json"
    config.write_text(config.read_text().replace('"num_attention_heads": 2', '"num_attention_heads": 4'))
    assert "config.json" in not_loaded(saved, moved_base)


def test_a_base_without_a_tokenizer_is_enough(saved: Path, moved_base: Path) -> None:
    (moved_base / "vocab.txt").unlink()
    assert Classifier.load(saved, base=moved_base).predict(TEXTS) == Classifier.load(saved).predict(TEXTS)


def test_missing_and_unexpected_tensors_are_all_named(saved: Path, tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        tensors = content["tensors"]
        tensors["head.extra"] = tensors.pop("head.out_proj.bias")
        tensors["head.dense.weight"] = torch.zeros(2, 2)

    text = not_loaded(rewrite(saved, tmp_path / "model.pt", change))
    assert "missing: head.out_proj.bias" in text and "not expected: head.extra" in text
    assert "head.dense.weight: expected [32, 32], found [2, 2]" in text


def test_a_str_is_no_sequence_of_texts(saved: Path) -> None:
    with pytest.raises(TypeError, match="wrap it in a list"):
        Classifier.load(saved).predict("Oil prices climb")
