"""Cross-validation: each row is judged by a model that has not seen it, and the model itself does not change."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from news import LABELS, assert_same_tensors, news_rows, run_of, write_csv
from rich.console import Console
from tiny import interrupt_at_step

from submillion.commands import train as train_module
from submillion.commands.train import TrainResult, train
from submillion.inference.artefact import Artefact
from submillion.report.summary import print_summary
from submillion.tasks.calibration import fit_temperature
from submillion.training import ngram_fit
from submillion.training.few_labels import cross_validation, label_names
from submillion.training.few_labels.cross_validation import FOLDS, Crossed, cross_validate, folds_of
from submillion.training.rows import TokenRows
from submillion.training.run import Run, Say

ROWS = news_rows(8, seed=3)
TEXTS, NAMES = (list(column) for column in zip(*ROWS, strict=True))
NOTHING_HELD_OUT = {"data__validation_fraction": 0, "data__test_fraction": 0, "data__label_names": LABELS}


def trained_on(tiny_base: Path, folder: Path, rows: list[tuple[str, str]] = ROWS, **changes: Any) -> TrainResult:
    settings = NOTHING_HELD_OUT | {"train__few_labels": True, "train__epochs": 1}
    return train(data=rows, overrides=run_of(tiny_base, folder, **settings | changes))


@pytest.fixture(autouse=True)
def _fewer_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert FOLDS == 5
    monkeypatch.setattr(cross_validation, "FOLDS", 3)  # as many as tests need, and no more to train


@pytest.fixture(autouse=True)
def _names_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fold reads the label names or not, as its rows have it: the tests count rows without them."""
    monkeypatch.setattr(label_names, "LEAST_AGREEMENT", 2.0)


@pytest.fixture
def crossed(monkeypatch: pytest.MonkeyPatch) -> list[Crossed | None]:
    """What each run's cross-validation returns."""
    outcomes: list[Crossed | None] = []
    monkeypatch.setattr(
        train_module, "cross_validate", lambda *arguments: outcomes.append(cross_validate(*arguments)) or outcomes[-1]
    )
    return outcomes


def without_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the runs from here on train without cross-validation."""
    monkeypatch.setattr(train_module, "cross_validate", lambda *_: None)


@pytest.mark.parametrize("changes", [{}, {"model__ngram_buckets": 256, "robust__noise": True}], ids=str)
def test_each_row_is_judged_by_a_model_of_all_other_parts(
    changes: dict[str, Any],
    tiny_base: Path,
    tmp_path: Path,
    crossed: list[Crossed | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ngram_fit, "LEAST_LEARNED", 10)  # n-grams train too
    monkeypatch.setattr(label_names, "LEAST_AGREEMENT", -1.0)  # and label names
    trained_on(tiny_base, tmp_path / "folds", train__epochs=2, **changes)
    outcome = crossed[0]
    assert outcome is not None and outcome.folds == 3
    without_folds(monkeypatch)
    folds = folds_of(TEXTS, outcome.targets, 3, seed=0)
    for fold in range(3):
        others = [row for row, own in zip(ROWS, folds, strict=True) if own != fold]
        alone = trained_on(tiny_base, tmp_path / str(fold), others, train__epochs=2, **changes).classifier
        asked = [text for text, own in zip(TEXTS, folds, strict=True) if own == fold]
        assert outcome.logits[folds == fold] == pytest.approx(alone.logits(asked), abs=1e-4)


def test_cross_validation_calibrates_the_model_and_changes_nothing_else_of_it(
    tiny_base: Path,
    tmp_path: Path,
    crossed: list[Crossed | None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = trained_on(tiny_base, tmp_path / "folds", train__epochs=2)
    without_folds(monkeypatch)
    plain = trained_on(tiny_base, tmp_path / "plain", train__epochs=2)
    assert_same_tensors(made.folder / "model.pt", plain.folder / "model.pt")
    assert plain.classifier.temperature == 1 and "cross_validation" not in plain.metrics
    outcome = crossed[0]
    assert outcome is not None
    temperature = fit_temperature(outcome.logits, outcome.targets, least=0)
    assert made.classifier.temperature == made.metrics["temperature"] == temperature != 1
    assert made.metrics["temperature_fitted_to"] == "folds"
    metrics = made.metrics["cross_validation"]
    assert Artefact.load(made.folder).metrics["cross_validation"] == metrics
    right = float((outcome.logits.argmax(axis=1) == outcome.targets).mean())
    assert (metrics["folds"], metrics["rows"], metrics["accuracy"]) == (3, 24, right) and right > 1 / 3
    card = (made.folder / "README.md").read_text("utf-8")
    assert f"models like it are right on **{right:.0%}** of 24 rows that they did not learn from." in card
    assert f"They are right on {right:.1%} of 24 rows" in card
    assert f"temperature {temperature:.2f}, fitted to what the models of the cross-validation say" in card
    plain_card = (plain.folder / "README.md").read_text("utf-8")
    assert "ross-validation:" not in plain_card and "Nothing was measured: no rows were held out." in plain_card
    print_summary(made.result, made.run, Console(width=120))
    printed = capsys.readouterr().out
    assert "folds      3 models, each without a part of the 24 rows, say" in printed
    assert f"{right:.1%} of 24 rows, by 3 models" in printed
    assert f"temperature {temperature:.2f}, by cross-validation" in printed


def test_the_same_run_gives_the_same_figures(tiny_base: Path, tmp_path: Path) -> None:
    made = trained_on(tiny_base, tmp_path / "first")
    again = train(made.folder / "config.toml", data=ROWS, overrides={"output.dir": str(tmp_path / "again")})
    for key in ("cross_validation", "temperature"):
        assert again.metrics[key] == made.metrics[key]


def test_folds_do_not_train_where_rows_held_out_say_how_sure_the_model_is(
    tiny_base: Path, tmp_path: Path, learned: list[TokenRows], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = news_rows(84, seed=6)
    made = trained_on(tiny_base, tmp_path / "many", rows, data__validation_fraction=0.4)
    pool = write_csv(tmp_path / "pool.csv", [[text] for text, _ in news_rows(200, seed=5)], header=["text"])
    taught = trained_on(tiny_base, tmp_path / "texts", data__unlabelled=str(pool))
    assert len(learned) == 2 and capsys.readouterr().out.count("folds      none: rows or texts that are held out") == 2
    assert made.metrics["temperature_fitted_to"] == "validation"
    assert taught.metrics["temperature_fitted_to"] == "neighbours"
    assert "cross_validation" not in {*made.metrics, *taught.metrics}


def test_a_few_texts_are_labelled_anew_in_each_fold(tiny_base: Path, tmp_path: Path, learned: list[TokenRows]) -> None:
    pool = write_csv(tmp_path / "pool.csv", [[text] for text, _ in news_rows(20, seed=5)], header=["text"])
    made = trained_on(tiny_base, tmp_path, data__unlabelled=str(pool))
    fits = [len(rows) for rows in learned]
    assert len(fits) == 4 and all(16 + 40 < rows < 16 + 60 for rows in fits[:3]), "of 60 texts about four fifths"
    assert fits[3] == 24 + made.metrics["self_labelled"] and made.metrics["cross_validation"]["rows"] == 24


def test_a_few_validation_rows_leave_it_to_the_folds(tiny_base: Path, tmp_path: Path, learned: list[TokenRows]) -> None:
    made = trained_on(tiny_base, tmp_path, data__validation_fraction=0.25)
    assert [len(rows) for rows in learned] == [12, 12, 12, 18] and made.metrics["temperature_fitted_to"] == "folds"
    card = (made.folder / "README.md").read_text("utf-8")
    assert "of 6 validation rows." in card and "Cross-validation: 3 models" in card
    assert made.metrics["validation"]["ece"] != made.metrics["validation"]["ece_uncalibrated"]


def test_one_row_a_label_leaves_nothing_to_ask(
    tiny_base: Path, tmp_path: Path, learned: list[TokenRows], capsys: pytest.CaptureFixture[str]
) -> None:
    made = trained_on(tiny_base, tmp_path, ROWS[:3])
    assert (
        [len(rows) for rows in learned] == [3]
        and "cross_validation" not in made.metrics
        and made.classifier.temperature == 1
    )
    assert "folds      none: no label has two training rows that are not alike" in capsys.readouterr().out


def test_few_rows_are_told_and_not_calibrated_on(tiny_base: Path, tmp_path: Path) -> None:
    made = trained_on(tiny_base, tmp_path, ROWS[:7])
    assert made.metrics["cross_validation"]["rows"] == 7
    assert made.classifier.temperature == 1
    assert "or cross-validation (`train.few_labels`) of 8 rows." in (made.folder / "README.md").read_text("utf-8")


@pytest.mark.parametrize("validation", [0, 0.25])
def test_ctrl_c_in_a_fold_ends_the_run(
    validation: float, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at_step(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        trained_on(tiny_base, tmp_path, data__validation_fraction=validation)
    assert not list(tmp_path.rglob("model.pt"))


def test_folds_hold_about_as_many_of_each_label() -> None:
    labels = np.array([0] * 10 + [1] * 7 + [2] * 3)
    folds = folds_of([f"text {row}" for row in range(20)], labels, 5, seed=0)
    counts = np.array([np.bincount(folds[labels == label], minlength=5) for label in range(3)])
    assert (counts.max(axis=1) - counts.min(axis=1) <= 1).all() and counts.sum(axis=0).tolist() == [4] * 5
    assert (folds != folds_of([f"text {row}" for row in range(20)], labels, 5, seed=1)).any()


@pytest.mark.parametrize(("rows_a_label", "parts"), [([2, 2, 2], 2), ([4, 4, 4], 4), ([9, 9], 5), ([1, 3, 20], 3)])
def test_there_are_no_more_parts_than_rows_of_a_label(rows_a_label: list[int], parts: int) -> None:
    labels = np.repeat(np.arange(len(rows_a_label)), rows_a_label)
    folds = folds_of([f"text {row}" for row in range(len(labels))], labels, 5, seed=0)
    assert set(folds[folds >= 0]) == set(range(parts))


def test_near_equal_texts_are_left_out_together() -> None:
    long = "the quick brown fox jumps over the lazy dog again and again"
    texts = ["one", "two", "three", long, f"{long} today", "four", "five"]
    folds = folds_of(texts, np.array([0, 0, 0, 1, 1, 1, 1]), 6, seed=0)
    assert folds[3] == folds[4] and sorted(np.bincount(folds)) == [2, 2, 3]


def test_a_label_whose_rows_are_all_alike_is_never_left_out() -> None:
    texts = ["one", "two", "same words", "same words", "single"]
    folds = folds_of(texts, np.array([0, 0, 1, 1, 2]), 5, seed=0)
    assert (folds[:2] >= 0).all() and folds[2:].tolist() == [-1, -1, -1]


def test_the_network_is_afterwards_as_it_was(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def watched(run: Run, say: Say) -> Crossed | None:
        before = run.network.snapshot()
        outcome = cross_validate(run, say)
        after = run.network.trainable()
        seen.append(all(torch.equal(before[name], after[name]) for name in before))
        return outcome

    monkeypatch.setattr(train_module, "cross_validate", watched)
    monkeypatch.setattr(ngram_fit, "LEAST_LEARNED", 10)
    trained_on(tiny_base, tmp_path, model__ngram_buckets=256)
    assert seen == [True]
