"""The ONNX graph gives our logits in onnxruntime, for every family; what the command writes runs without torch."""

import json
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from news import LABELS, news_rows, run_of
from saved import share
from tiny import CPU, FAMILIES, TASK, as_tokens, ragged_batch, scatter, tiny_classifier, tiny_shape
from tokenizers import Tokenizer

from submillion.cli import main
from submillion.commands import train as train_command
from submillion.commands.train import TrainResult, train
from submillion.errors import ConfigError, ExportError
from submillion.interop import onnx as ours
from submillion.interop import onnx_graph
from submillion.interop.onnx import export_onnx, quantize
from submillion.interop.onnx_folder import FILES
from submillion.interop.onnx_graph import to_onnx
from submillion.interop.onnx_module import OnnxModule
from submillion.model.budget import HEADS
from submillion.model.checkpoint import read_checkpoint
from submillion.model.classifier import TextClassifier
from submillion.model.config_json import read_shape
from submillion.model.shape import ModernBertShape
from submillion.model.spec import AdapterSpec, NetworkSpec
from submillion.runtime.forward import compute_logits
from submillion.text.tokenizer import Tokenizer as Ours

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [text for text, _ in news_rows(10, seed=2)]
ALL = AdapterSpec(rank=4, targets=("all-linear",))


def scripts_of_the_docs() -> list[str]:
    """How a folder is used, how its words.txt is, and how optimum opens it."""
    text = (ROOT / "docs" / "onnx.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def session_of(network: TextClassifier) -> onnxruntime.InferenceSession:
    """A trace takes seconds, so a test that needs no graph of its own shares one."""
    content = to_onnx(network.merged()).SerializeToString()
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def logits_of(session: onnxruntime.InferenceSession, input_ids: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    return session.run(["logits"], {"input_ids": input_ids.numpy(), "attention_mask": mask.numpy()})[0]


@cache
def family_graph(family: str, pooling: Any, head: Any) -> tuple[TextClassifier, onnxruntime.InferenceSession]:
    """A family's network with adapters on all of its layers, and its graph."""
    network = tiny_classifier(shape=tiny_shape(family), network=NetworkSpec(pooling=pooling, head=head), adapters=ALL)
    scatter(list(network.parameters()), seed=3)
    return network, session_of(network)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# The graph


@pytest.mark.parametrize(
    ("family", "pooling", "head"),
    share(
        [(family, pooling, head) for family in FAMILIES for pooling in ("first", "mean") for head in HEADS],
        # test_onnx_folder.py has the other families.
        [
            ("bert", "first", "linear"),
            ("bert", "mean", "stock"),
            ("mpnet", "mean", "stock"),
            ("modernbert", "mean", "stock"),
        ],
    ),
)
def test_the_graph_gives_our_logits_for_every_length_and_batch(family: str, pooling: str, head: str) -> None:
    shape = tiny_shape(family)
    network, session = family_graph(family, pooling, head)
    for lengths in ([1], [shape.max_tokens], [3, 7, 1], [2, 46, 20, 5, 9], [4] * 6):
        input_ids, mask = ragged_batch(shape, lengths)
        with torch.no_grad():
            expected = network(input_ids, mask).numpy()
        found = logits_of(session, input_ids, mask)
        assert found.dtype == np.float32 and found.shape == (len(lengths), 3)
        assert np.abs(found - expected).max() < 2e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("family", share(FAMILIES, ["bert", "mpnet", "modernbert"]))
def test_padding_may_stand_on_the_left(family: str) -> None:
    network, session = family_graph(family, "mean", "stock")
    input_ids, mask = (tensor.flip(1) for tensor in ragged_batch(tiny_shape(family), [3, 9, 5]))
    with torch.no_grad():
        expected = network(input_ids, mask).numpy()
    assert np.abs(logits_of(session, input_ids, mask) - expected).max() < 2e-5 * max(1.0, np.abs(expected).max())


def test_rows_shorter_and_longer_than_what_local_attention_reaches_share_a_graph() -> None:
    shape = tiny_shape("modernbert", modernbert=ModernBertShape((0,), window=20))
    network = tiny_classifier(shape=shape, network=NetworkSpec(pooling="mean"))
    session = session_of(network)
    for lengths in ([2, 1], [20, 3], [21], [48, 30, 22]):
        input_ids, mask = ragged_batch(shape, lengths)
        with torch.no_grad():
            expected = network(input_ids, mask).numpy()
        assert np.abs(logits_of(session, input_ids, mask) - expected).max() < 2e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("family", share(FAMILIES, ["bert", "modernbert"]))
def test_with_n_grams_the_graph_takes_whole_texts_and_cuts_them(family: str) -> None:
    model = NetworkSpec(pooling="mean", head="linear", ngram_buckets=41)
    network = tiny_classifier(shape=tiny_shape(family), network=model)
    scatter(list(network.parameters()), seed=3)
    content = to_onnx(network.merged(), {}, max_length=9, end_id=2).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for lengths in ([1], [2], [3], [9], [10], [40, 3, 8, 2], [9, 10, 11, 1]):
        input_ids, mask = ragged_batch(tiny_shape(family), lengths)
        cut, kept = input_ids[:, :9].clone(), mask[:, :9]
        for row, length in enumerate(lengths):
            if length > 9:
                cut[row, 8] = 2
        rows = as_tokens([input_ids[row, 1 : max(1, length - 1)].tolist() for row, length in enumerate(lengths)])
        with torch.no_grad():
            expected = (network(cut, kept) + network.ngrams(rows)).numpy()  # type: ignore[misc]
        found = logits_of(session, input_ids, mask)
        assert np.abs(found - expected).max() < 2e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize(
    ("family", "window"),
    share([(family, window) for family in FAMILIES for window in (3, 5, 8)], [("bert", 3), ("modernbert", 5)]),
)
def test_the_graph_makes_the_windows_of_long_rows(family: str, window: int) -> None:
    shape = tiny_shape(family)
    network = tiny_classifier(shape=shape, network=NetworkSpec(pooling="mean", head="linear", window=window))
    scatter(list(network.parameters()), seed=3)
    session = session_of(network)
    for lengths in ([1], [2], [3], [8], [9], [16], [16, 3, 12, 2, 9], [1, 5, 6, 1], [4, 4, 15]):
        input_ids, mask = ragged_batch(shape, lengths)
        tokens = as_tokens([input_ids[row, :length].tolist() for row, length in enumerate(lengths)])
        expected = compute_logits(network, TASK, tokens, 3, CPU)
        found = logits_of(session, input_ids, mask)
        assert np.abs(found - expected).max() < 2e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("buckets", [0, 99])
def test_a_model_with_windows_is_exported_with_its_logits(
    buckets: int, tiny_base: Path, news_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_command, "window_of", lambda *_: 5)  # these rows are too much alike in length for one
    run = run_of(tiny_base, tmp_path, data__source=str(news_csv), train__epochs=1)
    run |= {"model.max_length": 12, "model.ngram_buckets": buckets}
    trained = train(overrides=run)
    assert export_onnx(trained.folder, tmp_path / "out", source=str(news_csv)).agreement == 1.0
    texts = [*TEXTS, "oil price " * 20, ""]
    rows = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json")).encode_batch(texts)
    inputs = {"input_ids": [row.ids for row in rows], "attention_mask": [row.attention_mask for row in rows]}
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {name: np.array(value) for name, value in inputs.items()})[0]
    assert np.abs(found - trained.classifier.logits(texts)).max() < 1e-4


def test_a_model_with_n_grams_is_written_with_a_tokenizer_that_cuts_nothing(
    tiny_base: Path, news_csv: Path, tmp_path: Path
) -> None:
    run = run_of(tiny_base, tmp_path, data__source=str(news_csv), model__ngram_buckets=99, model__max_length=6)
    trained = train(overrides=run | {"train.epochs": 1})
    report = export_onnx(trained.folder, tmp_path / "out", source=str(news_csv))
    assert report.agreement == 1.0 and report.difference < 1e-4
    texts = [*TEXTS, "oil " * 100, ""]
    rows = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json")).encode_batch(texts)
    assert {len(row.ids) for row in rows} == {102}
    graph = onnx.load(tmp_path / "out" / "model.onnx")
    assert {prop.key for prop in graph.metadata_props} == {"label_names", "temperature", "base"}
    inputs = {"input_ids": [row.ids for row in rows], "attention_mask": [row.attention_mask for row in rows]}
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {name: np.array(value) for name, value in inputs.items()})[0]
    assert np.abs(found - trained.classifier.logits(texts)).max() < 1e-4


def test_the_words_that_spelling_is_corrected_to_go_along(
    tiny_base: Path, news_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tiny_base, tmp_path, data__source=str(news_csv), robust__normalise=["spelling"], train__epochs=1)
    trained, out = train(overrides=run), tmp_path / "out"
    assert main(["export", str(trained.folder), "--to", "onnx", str(out), "--data.source", str(news_csv)]) == 0
    printed = capsys.readouterr().out
    assert "labels.json, words.txt" in printed and "docs/onnx.md has how" in printed
    script = scripts_of_the_docs()[1]
    names: dict[str, Any] = {"folder": out, "texts": ["stokc markte shars", "leauge plyer"]}
    exec(script, names)
    assert names["texts"] == ["stock market shares", "league player"]
    assert names["spelling"].words == trained.classifier.tokenizer.spelling.words  # type: ignore[union-attr]
    plain = run_of(tiny_base, tmp_path, data__source=str(news_csv), train__epochs=1)
    assert main(["export", str(train(overrides=plain).folder), "--to", "onnx", str(out)]) == 0
    assert not (out / "words.txt").exists() and "words.txt" not in capsys.readouterr().out


@pytest.mark.parametrize("buckets", [0, 99])
def test_a_tokenizer_that_sets_nothing_around_a_text(
    buckets: int, tiny_base: Path, news_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    tokenizer = json.loads(Ours.from_folder(base).to_str())
    (base / "tokenizer.json").write_text(json.dumps(tokenizer | {"post_processor": None}), encoding="utf-8")
    run = run_of(base, tmp_path, data__source=str(news_csv), model__ngram_buckets=buckets, train__epochs=1)
    folder = train(overrides=run).folder
    code = main(["export", str(folder), "--to", "onnx", str(tmp_path / "out")])
    if not buckets:
        assert code == 0
        return
    assert code == 2 and not (tmp_path / "out").exists()
    assert "found 0 of them\nfix: train with --model.ngram-buckets 0" in capsys.readouterr().err


def test_the_graph_says_what_goes_in_and_out() -> None:
    network = tiny_classifier().merged()
    model = to_onnx(network, {"temperature": "1.0"})
    onnx.checker.check_model(model, full_check=True)
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)  # such as paths of our code

    def described(value: onnx.ValueInfoProto) -> tuple[str, int, list[str | int]]:
        tensor = value.type.tensor_type
        return value.name, tensor.elem_type, [size.dim_param or size.dim_value for size in tensor.shape.dim]

    free = ["batch", "length"]
    int64, fp32 = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
    assert [described(value) for value in model.graph.input] == [
        ("input_ids", int64, free),
        ("attention_mask", int64, free),
    ]
    assert [described(value) for value in model.graph.output] == [("logits", fp32, ["batch", 3])]
    assert {prop.key: prop.value for prop in model.metadata_props} == {"temperature": "1.0"}


def test_adapters_have_to_be_merged() -> None:
    with pytest.raises(ValueError, match="merge"):
        to_onnx(tiny_classifier())


def test_an_encoder_too_large_for_one_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "_MOST_BYTES", 1000)
    network = tiny_classifier().merged()
    with pytest.raises(ExportError, match="at most 2 GB"):
        to_onnx(network)


def test_real_weights_in_fp32_and_int8(minilm_folder: Path, tmp_path: Path) -> None:
    shape = read_shape(minilm_folder)
    network = TextClassifier(shape, NetworkSpec(pooling="mean"), ALL, 4, torch.Generator().manual_seed(0))
    network.load(read_checkpoint(minilm_folder))
    scatter([p for name, p in network.named_parameters() if "lora_B" in name], std=0.01)
    input_ids, mask = ragged_batch(shape, [128, 5, 60, 17])
    session = session_of(network)
    with torch.no_grad():
        expected = network(input_ids, mask).numpy()
    assert np.abs(logits_of(session, input_ids, mask) - expected).max() < 1e-4
    path = tmp_path / "int8.onnx"
    quantize(to_onnx(network.merged()), path)
    assert path.stat().st_size < 30_000_000  # of 90 MB
    products = [node.op_type for node in onnx.load(path).graph.node].count("MatMulInteger")
    assert products == 4 * shape.num_layers  # all of the encoder's, none of the head's
    rough = logits_of(onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]), input_ids, mask)
    assert 0 < np.abs(rough - expected).max() < 0.2 * np.abs(expected).max()


# What the command writes


@pytest.fixture(scope="module")
def exported(trained: TrainResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx") / "deep" / "news_onnx"
    assert main(["export", str(trained.folder), "--to", "onnx", str(folder)]) == 0
    return folder


def test_the_folder_holds_the_model_its_tokenizer_and_its_labels(exported: Path, trained: TrainResult) -> None:
    assert names_in(exported) == sorted(FILES[:5]) and names_in(exported.parent) == ["news_onnx"]
    assert json.loads((exported / "labels.json").read_text()) == list(LABELS)
    rows = Tokenizer.from_file(str(exported / "tokenizer.json")).encode_batch([*TEXTS, "oil " * 100])
    assert {len(row.ids) for row in rows} == {32} and sum(rows[0].attention_mask) < 32
    inputs = {"input_ids": [row.ids for row in rows], "attention_mask": [row.attention_mask for row in rows]}
    session = onnxruntime.InferenceSession(exported / "model.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {name: np.array(value) for name, value in inputs.items()})[0]
    assert np.abs(found - trained.classifier.logits([*TEXTS, "oil " * 100])).max() < 1e-4


def test_the_script_of_the_docs_runs_without_torch(exported: Path, trained: TrainResult, tmp_path: Path) -> None:
    script = scripts_of_the_docs()[0]
    (tmp_path / "use.py").write_text(script, encoding="utf-8")
    blocked = "".join(f"sys.modules['{name}'] = None; " for name in ("torch", "submillion", "transformers"))
    code = f"import sys, runpy; {blocked}del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    argv = [sys.executable, "-c", code, str(tmp_path / "use.py"), str(exported), *TEXTS]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == trained.classifier.predict(TEXTS)
    assert len([line for line in script.splitlines() if line]) <= 12


def test_the_rows_decide_what_is_said_of_int8(
    trained: TrainResult,
    news_csv: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report = export_onnx(trained.folder, tmp_path / "own", int8=True)  # on the test rows of its own data
    assert report.rows == 72 and report.agreement > 0.9 and abs(report.points_lost) < 10
    assert report.our_accuracy == pytest.approx(trained.metrics["test"]["accuracy"])
    capsys.readouterr()
    monkeypatch.setattr(ours, "LOUD_POINTS", -200.0)
    argv = ["export", str(trained.folder), "--int8", "--to", "onnx", str(tmp_path / "loud")]
    assert main([*argv, "--data.source", str(news_csv)]) == 0
    captured = capsys.readouterr()
    assert "(int8, " in captured.out and "rows: accuracy" in captured.out and "the same label for" in captured.out
    assert "WARNING: int8 loses" in captured.err
    sizes = [(tmp_path / name / "model.onnx").stat().st_size for name in ("own", "loud")]
    assert sizes[0] == sizes[1]


def test_rows_may_be_measured_in_fp32_too(trained: TrainResult, news_csv: Path, tmp_path: Path) -> None:
    report = export_onnx(trained.folder, tmp_path / "fp32", source=str(news_csv))
    assert report.agreement == 1 and report.points_lost == 0 and report.difference < 1e-4


def test_an_earlier_export_is_replaced(trained: TrainResult, tmp_path: Path) -> None:
    for name in FILES[:2]:
        (tmp_path / name).write_text("old")
    export_onnx(trained.folder, tmp_path / "a")
    (tmp_path / "a" / "labels.json").write_text("old")
    export_onnx(trained.folder, tmp_path / "a")
    assert json.loads((tmp_path / "a" / "labels.json").read_text()) == list(LABELS)
    assert names_in(tmp_path / "a") == sorted(FILES[:5]) and names_in(tmp_path) == ["a", *sorted(FILES[:2])]


def test_a_folder_with_other_files_is_left_alone(
    trained: TrainResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.txt").write_text("mine")
    assert main(["export", str(trained.folder), "--to", "onnx", str(tmp_path / "a")]) == 2
    assert "expected a new or empty folder, found thesis.txt" in capsys.readouterr().err
    assert names_in(tmp_path / "a") == ["thesis.txt"]


def test_a_graph_with_other_logits_is_not_written(
    trained: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shifted(self: OnnxModule, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.network(input_ids, attention_mask) + 1e-3

    monkeypatch.setattr(OnnxModule, "forward", shifted)
    with pytest.raises(ExportError, match=r"differ from ours by \d.*\nNothing was written"):
        export_onnx(trained.folder, tmp_path / "a")
    assert names_in(tmp_path) == []


def test_a_model_that_was_trained_on_rows_in_memory_needs_rows_for_int8(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, labels = zip(*news_rows(20), strict=True)
    train(data={"text": texts, "label": labels}, overrides=run_of(tiny_base, tmp_path, train__epochs=1))
    argv = ["export", str(tmp_path / "best_model"), "--to", "onnx", str(tmp_path / "a"), "--int8"]
    assert main(argv) == 2
    assert "--data.source" in capsys.readouterr().err and not (tmp_path / "a").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_without_the_packages_the_error_says_how_to_get_them(
    package: str,
    trained: TrainResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["export", str(trained.folder), "--to", "onnx", str(tmp_path / "a")]) == 2
    captured = capsys.readouterr()
    assert "needs the packages onnx, onnxruntime and onnxscript" in captured.err and captured.out == ""
    assert "fix: pip install onnx onnxruntime onnxscript" in captured.err and names_in(tmp_path) == []
    with pytest.raises(ConfigError):
        ours.check_packages()


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["best_model", "a"], "--to: expected one of "),
        (["best_model", "a", "--to", "onxx"], "found 'onxx'; did you mean onnx?"),
        (["best_model", "--to", "onnx"], "expected a saved classifier and a folder to write, found best_model"),
        (["nothing_here", "a", "--to", "onnx"], "no model at nothing_here"),
    ],
)
def test_a_mistake_is_told(argv: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", *argv]) == 2
    assert problem in capsys.readouterr().err
