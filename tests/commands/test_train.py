"""A whole run: what it leaves and says, that it learns, and that it can be repeated."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from news import (
    EPOCHS,
    LABELS,
    STEPS_AN_EPOCH,
    TEST_ROWS,
    VALIDATION_ROWS,
    assert_same_tensors,
    news_rows,
    run_of,
    shuffled_labels,
    write_csv,
)
from PIL import Image
from runs import ADAPTERS, COUNTED, HEAD, MEASURED, RESOLVED, TIMINGS, files_below, metrics_file, without_timing
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from submillion.commands.train import TrainResult, train
from submillion.config.resolve import resolve
from submillion.config.values import flat
from submillion.inference.artefact import Artefact
from submillion.inference.classifier import Classifier

TEXTS = [text for text, _ in news_rows(5, seed=1)]
ORANGE, GREY = (0xC2, 0x41, 0x0C), (0x9A, 0x9A, 0x9A)  # of validation and of training in the plots


# What a run leaves


def test_a_run_leaves_exactly_these_files(trained: TrainResult) -> None:
    names = ("model.pt", "metrics.json", "history.jsonl", "config.toml", "README.md", "loss.png", "accuracy.png")
    model = {f"best_model/{name}" for name in names}
    assert files_below(trained.folder.parent) == model


def test_the_metrics_have_exactly_these_keys(trained: TrainResult) -> None:
    metrics = metrics_file(trained.folder)
    assert set(metrics) == {"validation", "test", *COUNTED, *RESOLVED, *TIMINGS}
    for split, rows in (("validation", VALIDATION_ROWS), ("test", TEST_ROWS)):
        assert set(metrics[split]) == MEASURED
        assert metrics[split]["rows"] == rows and list(metrics[split]["per_label"]) == list(LABELS)
    assert metrics == trained.metrics and metrics["rows_per_second"] > 0


def test_the_parameters_are_counted_to_the_last_one(trained: TrainResult, tiny_base: Path) -> None:
    encoder = sum(tensor.numel() for tensor in load_file(tiny_base / "model.safetensors").values())
    counts = {"trainable": HEAD + ADAPTERS, "total": encoder + HEAD, "total_with_adapters": encoder + HEAD + ADAPTERS}
    assert trained.metrics["parameters"] == counts and HEAD + ADAPTERS == 611
    artefact = Artefact.load(trained.folder)
    assert sum(tensor.numel() for tensor in artefact.tensors.values()) == 611 and artefact.parameters == counts


def test_the_history_has_a_line_a_step(trained: TrainResult) -> None:
    lines = (trained.folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert records == trained.history
    assert [record["step"] for record in records] == list(range(1, STEPS_AN_EPOCH * EPOCHS + 1))
    evaluated = [record["step"] for record in records if "validation_loss" in record]
    assert evaluated == [STEPS_AN_EPOCH * epoch for epoch in range(1, EPOCHS + 1)]
    assert trained.metrics["steps"] == len(records)


def test_the_step_kept_is_the_one_of_the_lowest_validation_loss(trained: TrainResult) -> None:
    losses = {record["step"]: record.get("validation_loss", float("inf")) for record in trained.history}
    assert trained.metrics["best_step"] == min(losses, key=lambda step: losses[step])
    assert trained.metrics["validation"]["loss"] == pytest.approx(min(losses.values()), rel=1e-5)


def test_the_saved_recipe_is_the_run_as_it_was_asked_for(trained: TrainResult) -> None:
    saved = resolve(recipe=trained.folder / "config.toml").config
    assert saved == trained.classifier.config
    assert (saved.train.precision, saved.lora.rank, saved.model.max_length) == ("fp32", 2, 32)


def test_auto_stays_in_the_recipe_and_the_metrics_say_what_it_came_to(
    tiny_base: Path, news_csv: Path, tmp_path: Path
) -> None:
    budget = HEAD + 5 * ADAPTERS // 2 + 1  # room for rank 5
    changes = run_of(tiny_base, tmp_path, lora__rank="auto", budget=budget, train__epochs=1, train__precision="auto")
    result = train(data=news_csv, overrides=changes)
    saved = resolve(recipe=result.folder / "config.toml").config
    assert (saved.lora.rank, saved.train.precision) == ("auto", "auto")
    assert result.metrics["rank"] == 5 and result.metrics["parameters"]["trainable"] == budget - 1
    assert result.metrics["precision"] in ("int8", "bf16", "fp32") and result.metrics["window"] > 0


@pytest.mark.parametrize("name", ["loss.png", "accuracy.png"])
def test_the_plots_are_pictures_with_both_curves(name: str, trained: TrainResult) -> None:
    with Image.open(trained.folder / name) as image:
        image.verify()
    assert all(pixels_of(colour, trained.folder / name) > 100 for colour in (ORANGE, GREY))


def pixels_of(colour: tuple[int, int, int], path: Path) -> int:
    with Image.open(path) as image:
        return int((np.asarray(image.convert("RGB")) == colour).all(axis=-1).sum())


def test_a_run_without_test_rows_measures_validation_alone(tiny_base: Path, news_csv: Path, tmp_path: Path) -> None:
    changes = run_of(tiny_base, tmp_path, train__epochs=1, data__test_fraction=0)
    metrics = metrics_file(train(data=news_csv, overrides=changes).folder)
    assert set(metrics) == {"validation", *COUNTED, *RESOLVED, *TIMINGS}


def test_a_run_without_validation_rows_keeps_the_last_step(tiny_base: Path, news_csv: Path, tmp_path: Path) -> None:
    changes = run_of(tiny_base, tmp_path, train__epochs=1, data__validation_fraction=0)
    result = train(data=news_csv, overrides=changes)
    metrics = metrics_file(result.folder)
    assert set(metrics) == {"test", *COUNTED, *RESOLVED, *TIMINGS}
    assert metrics["best_step"] == metrics["steps"] == 18  # 288 rows in batches of 16
    assert not any("validation_loss" in record for record in result.history)
    assert pixels_of(ORANGE, result.folder / "loss.png") == 0 < pixels_of(GREY, result.folder / "loss.png")


def test_a_file_s_name_may_look_like_a_formula(tiny_base: Path, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "cost$_$2.csv", news_rows(8))
    assert (train(data=source, overrides=run_of(tiny_base, tmp_path, train__epochs=1)).folder / "loss.png").exists()


def test_a_run_writes_tensorboard_s_event_files_where_it_is_asked_to(
    tiny_base: Path, news_csv: Path, tmp_path: Path
) -> None:
    events = tmp_path / "events"
    result = train(data=news_csv, overrides=run_of(tiny_base, tmp_path, train__epochs=2, output__tensorboard=events))
    logged = EventAccumulator(str(events)).Reload()
    assert [event.step for event in logged.Scalars("train/loss")] == [line["step"] for line in result.history]
    losses = [line["validation_loss"] for line in result.history if "validation_loss" in line]
    assert [event.value for event in logged.Scalars("validation/loss")] == pytest.approx(losses)


# What it says


def test_the_run_says_what_a_person_wants_to_know(
    tiny_base: Path, news_csv: Path, tmp_path: Path, wide: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tiny_base, tmp_path, train__epochs=1, lora__rank=0, robust__adapter_scale=0.5)
    result = train(data=news_csv, overrides=run)
    out = capsys.readouterr().out
    assert "no effect  robust.adapter_scale = 0.5: lora.rank is 0, so there are no adapters" in out
    assert f"{HEAD} of " in out and f"{result.metrics['test']['accuracy']:.2%}" in out
    assert all(str(result.folder / name) in out for name in ("model.pt", "metrics.json", "history.jsonl"))
    assert any(f"example    {label}: [CLS] " in out for label in LABELS)


def test_a_run_without_validation_rows_does_not_speak_of_their_loss(
    tiny_base: Path, news_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(data=news_csv, overrides=run_of(tiny_base, tmp_path, train__epochs=1, data__validation_fraction=0))
    out = capsys.readouterr().out
    assert "step 18 of 18" in out and "lowest validation loss" not in out


def test_the_command_to_try_next_is_quoted(
    tiny_base: Path, tmp_path: Path, wide: None, capsys: pytest.CaptureFixture[str]
) -> None:
    train(data=news_rows(8), overrides=run_of(tiny_base, tmp_path / "our models", train__epochs=1))
    assert f"--model '{tmp_path / 'our models'}" in capsys.readouterr().out


# That it learns


def test_an_easy_task_is_learned(trained: TrainResult) -> None:
    assert trained.metrics["test"]["accuracy"] > 0.9 and trained.metrics["test"]["macro_f1"] > 0.9
    assert trained.metrics["validation"]["accuracy"] > 0.9


def test_shuffled_labels_are_not_learned(tiny_base: Path, tmp_path: Path) -> None:
    result = train(data=shuffled_labels(news_rows()), overrides=run_of(tiny_base, tmp_path))
    assert result.metrics["test"]["accuracy"] < 0.6


# That it can be repeated


def test_the_saved_recipe_repeats_the_run_bit_for_bit(trained: TrainResult, tmp_path: Path) -> None:
    elsewhere = {"output.dir": str(tmp_path / "again")}
    again = train(trained.folder / "config.toml", overrides=elsewhere)
    assert_same_tensors(trained.folder, again.folder)
    assert without_timing(again.metrics) == without_timing(trained.metrics)
    first, second = flat(trained.classifier.config), flat(again.classifier.config)
    assert {key for key in first if first[key] != second[key]} == set(elsewhere)


def test_the_same_run_writes_the_same_bytes(
    tiny_base: Path, news_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        result = train(data=news_csv, overrides=run_of(tiny_base, Path(), train__epochs=1))
        written.append((tmp_path / name / result.folder / "model.pt").read_bytes())
    assert written[0] == written[1]


def test_another_seed_is_another_run(one_epoch: TrainResult, tiny_base: Path, news_csv: Path, tmp_path: Path) -> None:
    other = train(data=news_csv, overrides=run_of(tiny_base, tmp_path, train__epochs=1, seed=1))
    with pytest.raises(AssertionError):
        assert_same_tensors(one_epoch.folder, other.folder)


def test_a_loaded_model_gives_the_logits_of_the_trained_one_bit_for_bit(trained: TrainResult) -> None:
    loaded = Classifier.load(trained.folder)
    assert np.array_equal(loaded.logits(TEXTS), trained.classifier.logits(TEXTS))
    assert loaded.label_names == trained.classifier.label_names == LABELS
    assert loaded.config == trained.classifier.config


def test_so_does_one_loaded_in_a_new_process(trained: TrainResult, tmp_path: Path) -> None:
    code = (
        "import json, sys, numpy; from submillion import Classifier;"
        "numpy.save(sys.argv[2], Classifier.load(sys.argv[1]).logits(json.loads(sys.argv[3])))"
    )
    argv = [sys.executable, "-c", code, str(trained.folder), str(tmp_path / "logits.npy"), json.dumps(TEXTS)]
    subprocess.run(argv, check=True)
    assert np.array_equal(np.load(tmp_path / "logits.npy"), trained.classifier.logits(TEXTS))
