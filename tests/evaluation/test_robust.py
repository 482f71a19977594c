"""evaluate --robustness on a trained tiny model, from the flags to the files."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from news import LABELS, news_rows, run_of, write_csv

from submillion.cli import main
from submillion.commands.evaluate import evaluate_source
from submillion.commands.train import TrainResult, train
from submillion.data.columns import NO_COLUMNS, Columns
from submillion.data.labelled import Rows
from submillion.errors import ConfigError, DataError
from submillion.evaluation.robust import RobustnessOptions
from submillion.evaluation.shift import ShiftedRows, measure_shift, read_shifted
from submillion.inference.artefact import Artefact
from submillion.inference.classifier import Classifier, load_network
from submillion.model.base import find_base
from submillion.tasks.one_label import OneLabel
from submillion.text.noise import CORRUPTIONS


@pytest.fixture(scope="module")
def trained(trained: TrainResult, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A copy of the shared model: measuring robustness changes the card in its folder."""
    return replace(trained, folder=Path(shutil.copytree(trained.folder, tmp_path_factory.mktemp("copy") / "model")))


@pytest.fixture
def fresh_csv(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "fresh.csv", news_rows(20, seed=7))


def arguments(trained: TrainResult, source: Path, folder: Path, *more: str) -> list[str]:
    where = ["--model", str(trained.folder), "--data.source", str(source), "--assets", str(folder / "plots")]
    return ["evaluate", *where, "--output", str(folder / "m.json"), *more]


def test_one_command_measures_everything(
    trained: TrainResult, fresh_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], wide: None
) -> None:
    calls = {"World": "politics", "Sports": "sport"}
    shifted = [(text, calls.get(label, label)) for text, label in news_rows(5, seed=9)] + [("a song", "music")]
    other = write_csv(tmp_path / "other.csv", shifted)
    more = ["--robustness", "--robustness-rows", "30", "--shift", str(other)]
    more += [str(write_csv(tmp_path / "third.csv", news_rows(2, seed=8)))]
    more += ["--label-map", "politics=World", "sport=Sports"]
    assert main(arguments(trained, fresh_csv, tmp_path, *more)) == 0
    found = json.loads((tmp_path / "m.json").read_text())
    robustness = found["robustness"]
    assert (robustness["rows"], robustness["of_rows"]) == (30, 60)
    assert set(robustness["noise"]["each"]) == set(CORRUPTIONS)
    shift = robustness["shift"]["other.csv"]
    assert set(robustness["shift"]) == {"other.csv", "third.csv"} and robustness["shift"]["third.csv"]["rows"] == 6
    assert (shift["rows"], shift["left_out"]) == (15, 1)
    assert set(shift["per_label"]) == set(LABELS) and shift["accuracy"] > 0.8
    assert robustness["attack"]["accuracy"] < robustness["attack"]["clean_accuracy"]
    for name in ("reliability", "coverage", "noise"):
        assert (tmp_path / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "keyboard" in printed and "under attack" in printed and "1 left out" in printed


def test_it_repeats(trained: TrainResult, fresh_csv: Path, tmp_path: Path) -> None:
    found = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        assert main(arguments(trained, fresh_csv, folder, "--robustness", "--robustness-rows", "10")) == 0
        found.append(json.loads((folder / "m.json").read_text())["robustness"])
    assert found[0] == found[1] and "shift" not in found[0]


def test_calibration_and_confusion_come_without_being_asked(trained: TrainResult, fresh_csv: Path) -> None:
    metrics = evaluate_source(trained.folder, str(fresh_csv))
    assert sum(map(sum, metrics["confusion"])) == metrics["rows"] == 60
    assert sum(metrics["confusion"][i][i] for i in range(3)) == round(metrics["accuracy"] * 60)
    assert metrics["calibration"]["coverage"]["1.0"] == pytest.approx(metrics["accuracy"])
    assert "robustness" not in metrics


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--label-map", "politics"], "THEIRS=OURS"),
        (["--label-map", "politics=Wrld"], "'Wrld' is no label of the model"),
        (["--label-map", "politics=World"], "found no --shift\nfix: add --shift SOURCE"),
        (["--robustness-rows", "-1"], "--robustness-rows"),
        (["--shift", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_wrong_options_end_before_anything_is_written(
    more: list[str],
    message: str,
    trained: TrainResult,
    fresh_csv: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(arguments(trained, fresh_csv, tmp_path, "--robustness", *more)) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "m.json").exists()


def test_the_metrics_are_not_written_over_either_source(
    trained: TrainResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shifted").mkdir()
    source, other = (write_csv(path, news_rows(5)) for path in (tmp_path / "m.json", tmp_path / "shifted" / "m.json"))
    for measured, shift in ((source, other), (other, source)):
        shifted = ["--robustness", "--robustness-rows", "5", "--shift", str(shift)]
        assert main(arguments(trained, measured, tmp_path, *shifted)) == 2
        assert "would be lost" in capsys.readouterr().err


def test_shifted_rows_without_a_label_of_the_model_are_refused(
    trained: TrainResult, fresh_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_csv(tmp_path / "other.csv", [("a song", "music"), ("a play", "theatre")])
    assert main(arguments(trained, fresh_csv, tmp_path, "--robustness", "--shift", str(other))) == 2
    error = capsys.readouterr().err
    assert "music, theatre" in error and "--label-map" in error


def test_a_mistyped_label_does_not_leave_its_rows_out(
    trained: TrainResult, fresh_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_csv(tmp_path / "other.csv", [*news_rows(2), ("an election", "politics")])
    shifted = ["--robustness", "--robustness-rows", "5", "--shift", str(other), "--label-map"]
    assert main(arguments(trained, fresh_csv, tmp_path, *shifted, "politcs=World")) == 2
    error = capsys.readouterr().err
    assert "'politcs', which no row has" in error and "politics" in error.split("expected")[1]
    assert not (tmp_path / "m.json").exists()
    write_csv(other, news_rows(2))  # no row is left out, so a map that serves several sources may have more
    assert main(arguments(trained, fresh_csv, tmp_path, *shifted, "politics=World")) == 0


def test_shifted_rows_are_read_by_the_evaluated_columns_where_they_have_them(
    trained: TrainResult, tmp_path: Path
) -> None:
    measured = write_csv(tmp_path / "measured.csv", news_rows(5, seed=7), ["body", "kind"])
    rows = [("of the on", text, label, "World") for text, label in news_rows(4, seed=9)]
    write_csv(tmp_path / "both.csv", rows, ["text", "body", "kind", "label"])
    write_csv(tmp_path / "neither.csv", [row[1:3] for row in rows], ["text", "label"])
    write_csv(tmp_path / "one.csv", [row[1:3] for row in rows], ["body", "label"])
    sources = tuple(str(tmp_path / name) for name in ("both.csv", "neither.csv", "one.csv"))
    options = RobustnessOptions(5, shift=sources, assets=tmp_path / "plots")
    shifts = evaluate_source(trained.folder, str(measured), "body", "kind", robustness=options)["robustness"]["shift"]
    assert list(shifts) == ["both.csv", "neither.csv", "one.csv"]
    found = list(shifts.values())
    assert found[0] == found[1] == found[2] and found[0]["rows"] == 12 and set(found[0]["per_label"]) == set(LABELS)


def test_several_columns_of_shifted_rows_are_joined_where_all_are_there(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "x.csv", [("Oil", "up", "again", "World")], ["Title", "Body", "text", "label"])
    named = [Columns(text) for text in ("Title, Body", "Title,Lead", "")]
    shifted = [read_shifted([str(source)], OneLabel(("World",)), {}, columns, NO_COLUMNS)["x.csv"] for columns in named]
    assert [part.rows.texts for part in shifted] == [["Oil up"], ["again"], ["again"]]


@pytest.mark.parametrize(("header", "role"), [(("body", "label"), "text"), (("text", "kind"), "label")])
def test_a_column_of_shifted_rows_that_no_name_tells_is_an_error_with_a_way_out(
    header: tuple[str, str],
    role: str,
    trained: TrainResult,
    fresh_csv: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = write_csv(tmp_path / "other.csv", news_rows(2), header)
    assert main(arguments(trained, fresh_csv, tmp_path, "--robustness", "--shift", str(other))) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert f"other.csv: no {role} column" in error and "found the columns " + ", ".join(header) in error
    assert "fix: rename its columns, or give --data.text-column and --data.label-column that both" in error
    assert "name it with" not in error


def test_training_fits_a_temperature_that_the_artefact_keeps(tiny_base: Path, tmp_path: Path) -> None:
    overrides = run_of(tiny_base, tmp_path, data__validation_fraction=0.4)
    rows = [(text, label if row % 8 else LABELS[(row + 1) % 3]) for row, (text, label) in enumerate(news_rows())]
    result = train(data=rows, overrides=overrides)  # some are wrong, so some answers are
    temperature = result.metrics["temperature"]
    assert temperature != 1.0 and result.metrics["validation"]["rows"] >= 100
    again = Classifier.load(result.folder)
    assert again.temperature == temperature == result.classifier.temperature
    written = json.loads((result.folder / "metrics.json").read_text())
    assert written["test"]["ece"] == result.metrics["test"]["ece"] != written["test"]["ece_uncalibrated"]


def test_adapters_scaled_to_nothing_leave_the_pretrained_encoder(trained: TrainResult) -> None:
    texts = [text for text, _ in news_rows(5, seed=3)]
    whole = Classifier.load(trained.folder, adapter_scale=1.0).logits(texts)
    np.testing.assert_array_equal(whole, Classifier.load(trained.folder).logits(texts))
    none = Classifier.load(trained.folder, adapter_scale=0.0)
    bare = load_network(Artefact.load(trained.folder), find_base(str(none.config.model.base)))
    for name, parameter in bare.trainable().items():
        if "lora_B" in name:
            torch.nn.init.zeros_(parameter)
    none_logits = none.logits(texts)
    none.network = bare
    np.testing.assert_allclose(none_logits, none.logits(texts), atol=1e-6)
    assert np.abs(whole - none_logits).max() > 0.1


def test_a_model_whose_layers_trained_in_full_is_not_scaled(tiny_base: Path, tmp_path: Path) -> None:
    changes = {"model__unfreeze_layers": 1, "train__epochs": 1}
    result = train(data=news_rows(20), overrides=run_of(tiny_base, tmp_path, **changes))
    assert Classifier.load(result.folder, adapter_scale=1.0).label_names == LABELS
    with pytest.raises(ConfigError, match=r"(?s)expected 1 .*unfreeze_layers = 1\), found 0\n.*fix: leave it out"):
        Classifier.load(result.folder, adapter_scale=0.0)


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_scale_out_of_range_is_refused(
    command: str, trained: TrainResult, fresh_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [str(fresh_csv), "--output", str(tmp_path / "p.csv")] if command == "predict" else []
    where += ["--data.source", str(fresh_csv)] if command == "evaluate" else []
    assert main([command, *where, "--model", str(trained.folder), "--adapter-scale", "3"]) == 2
    assert "expected 0 to 2" in capsys.readouterr().err


def test_labels_that_are_numbers_are_those_of_the_model_however_they_are_written(tmp_path: Path) -> None:
    source = tmp_path / "other.csv"
    source.write_text("text,label\na,0\nb,0.50\nc,1\nd,7\n")
    shifted = read_shifted([str(source)], OneLabel(("0.0", "0.5", "1.0")), {}, NO_COLUMNS, NO_COLUMNS)["other.csv"]
    assert shifted.rows.labels.tolist() == [0, 1, 2] and shifted.left_out == 1


def test_several_sources_are_measured_apart_and_share_a_label_map(tmp_path: Path) -> None:
    for folder, rows in (("a", [("oil up", "money"), ("a song", "music")]), ("b", [("a vote", "World")])):
        (tmp_path / folder).mkdir()
        write_csv(tmp_path / folder / "x.csv", rows)
    sources = [str(tmp_path / folder / "x.csv") for folder in "ab"]
    shifted = read_shifted(sources, OneLabel(LABELS), {"money": "Business"}, NO_COLUMNS, NO_COLUMNS)
    assert list(shifted) == sources  # their short names are equal
    assert [(part.rows.texts, part.left_out) for part in shifted.values()] == [(["oil up"], 1), (["a vote"], 0)]
    with pytest.raises(DataError, match="'mony', which no row has"):
        read_shifted(sources, OneLabel(LABELS), {"money": "Business", "mony": "World"}, *[NO_COLUMNS] * 2)


def test_the_accuracy_of_shifted_rows_by_label_leaves_out_labels_without_rows() -> None:
    rows = Rows(["a", "b", "c"], np.array([0, 0, 2]))
    found = measure_shift(OneLabel(LABELS), np.eye(3, dtype=np.float32)[[0, 1, 2]], ShiftedRows(rows, 4, LABELS))
    assert found == {"accuracy": 2 / 3, "rows": 3, "left_out": 4, "per_label": {LABELS[0]: 0.5, LABELS[2]: 1.0}}
