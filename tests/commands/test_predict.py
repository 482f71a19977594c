"""Predicting a file with a saved model."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from news import LABELS, news_rows, read_csv, run_of, write_csv
from safetensors.torch import load_file, save_file

from submillion.commands import predict as predict_module
from submillion.commands.evaluate import evaluate_source
from submillion.commands.predict import predict_file
from submillion.commands.train import TrainResult, train
from submillion.data.inputs import CheckedInput, InputRows
from submillion.errors import ArtefactError, ConfigError, DataError, encodable
from submillion.inference.answers import Answers, answer_format
from submillion.inference.classifier import Classifier

TEXTS = [text for text, _ in news_rows(10, seed=2)]


@pytest.fixture
def texts_csv(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "texts.csv", [[text] for text in TEXTS], ["text"])


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out" / "predictions.csv"


@pytest.fixture
def model_copy(trained: TrainResult, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained.folder, tmp_path / "best_model"))


# The answers


def test_the_answers_are_ids_and_names(trained: TrainResult, texts_csv: Path, output: Path) -> None:
    assert predict_file(texts_csv, trained.folder, output) == len(TEXTS)
    assert output.read_bytes().startswith(b"ID,Label\n0,")
    _, *rows = read_csv(output)
    assert [row[0] for row in rows] == [str(index) for index in range(len(TEXTS))]
    assert [label for _, label in rows] == trained.classifier.predict(TEXTS)
    assert len({label for _, label in rows}) == len(LABELS)


def test_the_answers_are_ids_and_integers_where_these_are_asked_for(
    trained: TrainResult, texts_csv: Path, output: Path
) -> None:
    assert predict_file(texts_csv, trained.folder, output, labels="integers") == len(TEXTS)
    assert output.read_bytes().startswith(b"ID,Label\n0,")
    _, *rows = read_csv(output)
    assert [row[0] for row in rows] == [str(index) for index in range(len(TEXTS))]
    assert [LABELS[int(label)] for _, label in rows] == trained.classifier.predict(TEXTS)
    assert len({label for _, label in rows}) == len(LABELS)


def test_scores_add_the_name_and_a_probability_a_label(trained: TrainResult, texts_csv: Path, output: Path) -> None:
    predict_file(texts_csv, trained.folder, output, scores=True, labels="integers")
    header, *rows = read_csv(output)
    assert header == ["ID", "Label", "Name", "Blank", *(f"p_{name}" for name in LABELS)]
    assert {row[3] for row in rows} == {"false"}
    probabilities = np.array([[float(value) for value in row[4:]] for row in rows])
    assert np.allclose(probabilities.sum(axis=1), 1, atol=3e-6)
    assert np.allclose(probabilities, trained.classifier.predict_proba(TEXTS), atol=1e-6)
    assert [int(row[1]) for row in rows] == probabilities.argmax(axis=1).tolist()
    assert [row[2] for row in rows] == [LABELS[int(row[1])] for row in rows]


def test_scores_change_no_label(trained: TrainResult, texts_csv: Path, tmp_path: Path) -> None:
    for name, scores in (("plain.csv", False), ("scored.csv", True)):
        predict_file(texts_csv, trained.folder, tmp_path / name, scores=scores)
    assert read_csv(tmp_path / "plain.csv") == [row[:2] for row in read_csv(tmp_path / "scored.csv")]


def test_a_file_named_as_what_is_not_written_is_refused() -> None:
    for name in ("p.json", "p.parquet", "p.csv.gz"):
        with pytest.raises(ConfigError, match="expected a name for csv, tsv or jsonl"):
            answer_format("auto", Path(name), False)
        assert answer_format("csv", Path(name), False) == "csv"
    assert [answer_format("auto", Path(name), False) for name in ("p", "p.txt", "-")] == ["csv", "csv", "labels"]


def test_a_line_break_in_a_name_ends_no_answer() -> None:
    assert Answers("labels", ["a\nb", "c"]).lines(InputRows(["", ""]), 0, np.array([0, 1]), None) == "a b\nc\n"


WRITERS: dict[str, Callable[[Path], object]] = {
    "tsv": lambda path: path.write_text("\n".join(["text", *TEXTS]), encoding="utf-8"),
    "jsonl": lambda path: path.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS), encoding="utf-8"),
    "parquet": lambda path: pd.DataFrame({"text": TEXTS}).to_parquet(path),
    "pkl": lambda path: pd.to_pickle({"text": TEXTS}, path),
    "txt": lambda path: path.write_text("\n".join(TEXTS), encoding="utf-8"),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_file_gives_the_bytes_that_csv_gives(
    kind: str, trained: TrainResult, texts_csv: Path, tmp_path: Path
) -> None:
    WRITERS[kind](tmp_path / f"same.{kind}")
    predict_file(texts_csv, trained.folder, tmp_path / "from_csv.csv", scores=True)
    predict_file(tmp_path / f"same.{kind}", trained.folder, tmp_path / "from_other.csv", scores=True)
    assert (tmp_path / "from_other.csv").read_bytes() == (tmp_path / "from_csv.csv").read_bytes()


def test_the_text_column_is_the_one_that_is_asked_for(trained: TrainResult, tmp_path: Path, output: Path) -> None:
    rows = [[text, "the of and"] for text in TEXTS]
    path = write_csv(tmp_path / "two.csv", rows, ["headline of the day", "text"])
    predict_file(path, trained.folder, output, text_column="headline of the day")
    assert [label for _, label in read_csv(output)[1:]] == trained.classifier.predict(TEXTS)


def test_streaming_in_small_chunks_gives_the_whole_file_s_answers(
    trained: TrainResult, texts_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict_file(texts_csv, trained.folder, tmp_path / "whole.csv", scores=True)
    chunks: list[int] = []
    logits = Classifier.logits_of_checked

    def counted(self: Classifier, texts: list[str], *args: Any) -> np.ndarray:
        chunks.append(len(texts))
        return logits(self, texts, *args)

    monkeypatch.setattr(Classifier, "logits_of_checked", counted)
    monkeypatch.setattr(predict_module, "iter_input", partial(predict_module.iter_input, chunk_rows=7))
    predict_file(texts_csv, trained.folder, tmp_path / "streamed.csv", scores=True)
    assert chunks == [7, 7, 7, 7, 2]
    whole, streamed = read_csv(tmp_path / "whole.csv"), read_csv(tmp_path / "streamed.csv")
    assert [row[:4] for row in streamed] == [row[:4] for row in whole]
    numbers = [np.array([row[4:] for row in rows[1:]], dtype=float) for rows in (whole, streamed)]
    assert np.allclose(*numbers, atol=2e-6)


@pytest.mark.parametrize("batch_size", [1, 1000])
def test_the_batch_size_changes_no_answer(
    batch_size: int, trained: TrainResult, texts_csv: Path, tmp_path: Path
) -> None:
    predict_file(texts_csv, trained.folder, tmp_path / "usual.csv")
    predict_file(texts_csv, trained.folder, tmp_path / "other.csv", batch_size=batch_size)
    assert (tmp_path / "other.csv").read_bytes() == (tmp_path / "usual.csv").read_bytes()


def test_every_text_is_checked_once(
    trained: TrainResult, texts_csv: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: Counter[str] = Counter()

    def counted(text: str) -> bool:
        checks[text] += 1
        return encodable(text)

    for name, module in list(sys.modules.items()):
        if name.startswith("submillion.") and getattr(module, "encodable", None) is encodable:
            monkeypatch.setattr(module, "encodable", counted)
    predict_file(texts_csv, trained.folder, output)
    assert {text: checks[text] for text in TEXTS} == dict(Counter(TEXTS))
    trained.classifier.predict(TEXTS)  # texts from Python come from no checked file
    assert {text: checks[text] for text in TEXTS} == {text: 2 * count for text, count in Counter(TEXTS).items()}


def test_a_file_is_checked_whole_before_the_output_begins(trained: TrainResult, tmp_path: Path, output: Path) -> None:
    path = tmp_path / "late.jsonl"
    path.write_text('{"text": "oil"}\n' * 5000 + '{"text": 3}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"row 5001.*the text is of type int"):
        predict_file(path, trained.folder, output)
    assert not output.parent.exists()


# The file that lies in the model's folder


def test_without_input_the_one_file_in_the_model_s_folder_is_taken(
    model_copy: Path, texts_csv: Path, tmp_path: Path
) -> None:
    shutil.copy(texts_csv, model_copy / "test_unlabelled.csv")
    predict_file(texts_csv, model_copy, tmp_path / "named.csv")
    predict_file(None, model_copy, tmp_path / "found.csv")
    predict_file(None, model_copy / "model.pt", tmp_path / "beside.csv")
    assert (tmp_path / "found.csv").read_bytes() == (tmp_path / "named.csv").read_bytes()
    assert (tmp_path / "beside.csv").read_bytes() == (tmp_path / "named.csv").read_bytes()


def test_without_a_file_in_it_the_error_says_what_was_looked_for(trained: TrainResult, output: Path) -> None:
    with pytest.raises(DataError, match=r"no data file in it; looked for \*\.pkl"):
        predict_file(None, trained.folder, output)


def test_several_files_in_it_are_listed(model_copy: Path, texts_csv: Path, output: Path) -> None:
    for name in ("one.csv", "two.csv"):
        shutil.copy(texts_csv, model_copy / name)
    with pytest.raises(DataError, match=r"several data files[^\n]*\n  one\.csv\n  two\.csv"):
        predict_file(None, model_copy, output)


# What a failure leaves


@pytest.fixture
def earlier_answers(output: Path) -> Iterator[None]:
    """Answers of an earlier run, which must be there, alone, when the test is over."""
    output.parent.mkdir()
    output.write_text("ID,Label\n0,1\n", encoding="utf-8")
    yield
    assert output.read_text(encoding="utf-8") == "ID,Label\n0,1\n"
    assert [path.name for path in output.parent.iterdir()] == ["predictions.csv"]


def test_a_bad_file_leaves_the_earlier_answers(
    trained: TrainResult, tmp_path: Path, output: Path, earlier_answers: None
) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("id,text\n0,fine\n1,too,many\n2,fine\n3\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"(?s)row 2 \(line 3\): 3 fields.*row 4 \(line 5\): 1 fields"):
        predict_file(bad, trained.folder, output)


def test_the_input_is_not_written_over(trained: TrainResult, texts_csv: Path) -> None:
    before = texts_csv.read_bytes()
    with pytest.raises(ConfigError, match="is the input, which would be lost"):
        predict_file(texts_csv, trained.folder, texts_csv.parent / ".." / texts_csv.parent.name / texts_csv.name)
    assert texts_csv.read_bytes() == before


def test_the_whole_file_is_checked_before_the_base_is_loaded(
    trained: TrainResult, tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = tmp_path / "late.jsonl"
    monkeypatch.setattr(predict_module, "open_classifier", lambda *args: pytest.fail("the base was loaded"))
    late.write_text('{"text": "fine"}\n' * 5000 + '{"txt": "no"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="row 5001: no key 'text'"):
        predict_file(late, trained.folder, output)
    assert not output.parent.exists()


def test_a_failure_half_way_leaves_the_earlier_answers(
    trained: TrainResult, texts_csv: Path, output: Path, earlier_answers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks_off(checked: CheckedInput) -> Iterator[InputRows]:
        yield InputRows(TEXTS[:5])
        assert len(list(output.parent.iterdir())) == 2  # the answers so far are in a file of their own
        raise DataError("the disk is gone")

    monkeypatch.setattr(predict_module, "iter_input", breaks_off)
    with pytest.raises(DataError, match="the disk is gone"):
        predict_file(texts_csv, trained.folder, output)


# Models and bases that do not fit


@pytest.fixture
def base_copy(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "base"))


def change_weights(base: Path) -> None:
    tensors = load_file(base / "model.safetensors")
    tensors["embeddings.LayerNorm.bias"][0] += 1e-3
    save_file(tensors, base / "model.safetensors")


def change_tokenizer(base: Path) -> None:
    pieces = (base / "vocab.txt").read_text(encoding="utf-8")
    (base / "vocab.txt").write_text(pieces.replace("\noil\nprice\n", "\nprice\noil\n"), encoding="utf-8")


def change_shape(base: Path) -> None:
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    (base / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-5}), encoding="utf-8")


COMPLAINTS = {
    change_weights: "are not those it was trained on",
    change_tokenizer: "the tokenizer in ",
    change_shape: "config.json has changed",
}


@pytest.mark.parametrize("change", COMPLAINTS, ids=lambda change: change.__name__)
def test_a_base_that_has_changed_is_refused_by_what_has_changed(
    change: Callable[[Path], None], trained: TrainResult, base_copy: Path, texts_csv: Path, output: Path
) -> None:
    change(base_copy)
    with pytest.raises(ArtefactError) as refusal:
        predict_file(texts_csv, trained.folder, output, base=str(base_copy))
    assert [text for text in COMPLAINTS.values() if text in str(refusal.value)] == [COMPLAINTS[change]]
    assert str(base_copy) in str(refusal.value) and not output.exists()


def test_an_equal_base_elsewhere_gives_the_same_answers(
    trained: TrainResult, base_copy: Path, texts_csv: Path, tmp_path: Path
) -> None:
    predict_file(texts_csv, trained.folder, tmp_path / "here.csv", scores=True)
    predict_file(texts_csv, trained.folder, tmp_path / "there.csv", scores=True, base=str(base_copy))
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()


def test_a_corrupted_model_ends_the_command_with_a_line_not_a_traceback(
    model_copy: Path, texts_csv: Path, output: Path
) -> None:
    content = bytearray((model_copy / "model.pt").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (model_copy / "model.pt").write_bytes(content)
    argv = ["predict", str(texts_csv), "--model", str(model_copy), "--output", str(output)]
    done = subprocess.run([sys.executable, "-m", "submillion", *argv], capture_output=True, text=True)
    assert done.returncode == 2 and not output.exists()
    assert done.stderr.startswith("submillion: error: ") and "model.pt" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


# Label names that look like markup


@pytest.fixture(scope="module")
def odd_rows() -> list[tuple[str, str]]:
    odd = dict(zip(LABELS, ("[neg]", "[/inst]", "a,b"), strict=True))
    return [(text, odd[label]) for text, label in news_rows(30)]


@pytest.fixture(scope="module")
def odd_model(odd_rows: list[tuple[str, str]], tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(data=odd_rows, overrides=run_of(tiny_base, tmp_path_factory.mktemp("odd"), train__epochs=1)).folder


def test_odd_label_names_are_written_as_they_are(odd_model: Path, odd_rows: list[tuple[str, str]]) -> None:
    model = Classifier.load(odd_model)
    assert model.label_names == ("[/inst]", "[neg]", "a,b")
    assert set(model.predict([text for text, _ in odd_rows])) <= set(model.label_names)


def test_odd_label_names_are_printed_by_predict(
    odd_model: Path, texts_csv: Path, output: Path, wide: None, capsys: pytest.CaptureFixture[str]
) -> None:
    predict_file(texts_csv, odd_model, output, scores=True)
    assert read_csv(output)[0][4:] == ["p_[/inst]", "p_[neg]", "p_a,b"]
    out = capsys.readouterr().out
    assert "[/inst] " in out and "[neg] " in out


def test_odd_label_names_are_printed_by_evaluate(
    odd_model: Path, odd_rows: list[tuple[str, str]], tmp_path: Path, wide: None, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate_source(odd_model, str(write_csv(tmp_path / "odd.csv", odd_rows)))
    out = capsys.readouterr().out
    assert "[/inst] " in out and "[neg] " in out
