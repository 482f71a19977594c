"""A run that ends with a model in int8: what it saves, and what each precision makes of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from news import news_rows, run_of

from submillion.cli import main
from submillion.commands.train import TrainResult, train
from submillion.inference.artefact import Artefact
from submillion.inference.classifier import Classifier
from submillion.runtime import device, int8
from submillion.training import setup

TEXTS = [text for text, _ in news_rows(20, seed=1)]


@pytest.fixture(scope="module")
def trained(tiny_base: Path, news_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    overrides = run_of(tiny_base, tmp_path_factory.mktemp("int8"), train__precision="auto")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "_cpu_has_int8", lambda: True)
        return train(data=news_csv, overrides=overrides)


@pytest.fixture
def _faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_cpu_has_int8", lambda: True)


def test_the_run_measures_what_int8_changes_and_saves_it(trained: TrainResult) -> None:
    trial = json.loads((trained.folder / "metrics.json").read_text())["int8"]
    assert 0 < trial["margin"] < 1 and 0 <= trial["again"] <= int8.MOST_AGAIN
    artefact = Artefact.load(trained.folder)
    assert artefact.calibration["int8_margin"] == trial["margin"]
    assert artefact.precision == trained.result.precision == "int8"
    assert trained.classifier.config.train.precision == "auto", "as asked"
    assert "int8" in (trained.folder / "README.md").read_text()


@pytest.mark.usefixtures("_faster")
@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_reloaded_it_gives_the_run_s_logits(precision: str, trained: TrainResult) -> None:
    reloaded = Classifier.load(trained.folder, precision=precision)
    assert reloaded.network.int8_margin == trained.metrics["int8"]["margin"]
    assert np.array_equal(reloaded.logits(TEXTS), trained.classifier.logits(TEXTS))


@pytest.mark.usefixtures("_faster")
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_another_precision_insists(precision: str, trained: TrainResult) -> None:
    insisting = Classifier.load(trained.folder, precision=precision)
    assert insisting.network.int8_margin is None and insisting.compute.precision == precision
    logits, in_int8 = insisting.logits(TEXTS), trained.classifier.logits(TEXTS)
    assert not np.array_equal(logits, in_int8) and np.array_equal(logits.argmax(1), in_int8.argmax(1))


def test_where_nothing_is_gained_it_predicts_without(trained: TrainResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_cpu_has_int8", lambda: False)
    assert Classifier.load(trained.folder).network.int8_margin is None


@pytest.mark.usefixtures("_faster")
def test_a_model_that_was_not_measured_is_in_int8_only_when_told(
    tiny_base: Path, news_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "MOST_AGAIN", -1.0)
    plain = train(data=news_csv, overrides=run_of(tiny_base, tmp_path, train__precision="int8", train__epochs=1))
    assert "int8" not in plain.metrics and "int8_margin" not in Artefact.load(plain.folder).calibration
    assert Classifier.load(plain.folder).network.int8_margin is None
    assert Classifier.load(plain.folder, precision="int8").network.int8_margin == 0.0


@pytest.mark.usefixtures("_faster")
def test_an_encoder_that_int8_moves_too_far_trains_in_bf16(
    tiny_base: Path, news_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup, "MOST_CHANGE", 1e-6)
    plain = train(data=news_csv, overrides=run_of(tiny_base, tmp_path, train__precision="auto", train__epochs=1))
    assert "precision  bf16 after all: int8 moves this encoder's features by" in capsys.readouterr().out
    assert Artefact.load(plain.folder).precision == plain.result.precision == "bf16" and "int8" not in plain.metrics


@pytest.mark.usefixtures("_faster")
def test_the_commands_take_int8(trained: TrainResult, tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("\n".join(["text", *(f'"{text}"' for text in TEXTS)]))
    output = tmp_path / "labels.txt"
    command = ["predict", str(tmp_path / "texts.csv"), "--model", str(trained.folder), "--output", str(output)]
    assert main([*command, "--format", "labels", "--precision", "int8"]) == 0
    names = trained.classifier.label_names
    expected = [names[label] for label in trained.classifier.logits(TEXTS).argmax(1)]
    assert output.read_text().split("\n")[:-1] == expected
