"""Whole runs from a few labelled rows, as train.few_labels has them: folds, label names in sentences, calibration."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from news import OWN_WORDS, news_rows, run_of

from submillion.commands.train import TrainResult, train
from submillion.training import learning
from submillion.training.loop import TokenRows

TELLING = {label: " ".join(words) for label, words in OWN_WORDS.items()}  # a random encoder knows no others
TEST = news_rows(100, seed=4)


def few_labels(tiny_base: Path, folder: Path, rows: list[tuple[str, str]], **changes: Any) -> TrainResult:
    """Trains on rows whose labels have telling names, with none held out."""
    named = {"text": [text for text, _ in rows], "label": [TELLING[label] for _, label in rows]}
    changes = {"data__validation_fraction": 0, "data__test_fraction": 0, "train__few_labels": True} | changes
    return train(data=named, overrides=run_of(tiny_base, folder, **changes))


def accuracy(made: TrainResult) -> float:
    texts, labels = zip(*TEST, strict=True)
    return float(np.mean(np.array(made.classifier.predict(texts)) == [TELLING[label] for label in labels]))


def test_the_label_names_train_the_folds_and_the_model(
    tiny_base: Path, tmp_path: Path, learned: list[TokenRows], capsys: pytest.CaptureFixture[str]
) -> None:
    made = few_labels(tiny_base, tmp_path, news_rows(4, seed=3), robust__noise=True)
    assert made.metrics["label_names"] == {"right": 0.75, "read": True}
    assert [len(rows) for rows in learned] == [9 + 3] * 4 + [12 + 3], "each fold lacks a row a label"
    assert made.metrics["cross_validation"]["rows"] == 12 and made.metrics["temperature_fitted_to"] == "folds"
    assert made.classifier.temperature == made.metrics["temperature"] != 1
    printed, card = capsys.readouterr().out, (made.folder / "README.md").read_text("utf-8")
    assert "names      alone they get 75% of the training rows right: each becomes" in printed
    assert "folds      4 models, each without a part of the 12 rows" in printed
    assert "Each label's name trained the model too, in a sentence." in card


def test_label_names_help_where_there_is_one_row_a_label(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right: dict[bool, list[float]] = {True: [], False: []}
    for read in right:
        if not read:
            monkeypatch.setattr(learning, "with_label_names", lambda run, say: (run, None))
        for draw in (2, 4, 6):  # of 2 to 7, those whose names say enough of the rows to be read
            rows = [(f"the of and {text.split()[0]}", label) for text, label in news_rows(1, seed=draw)]
            made = few_labels(tiny_base, tmp_path / f"{read} {draw}", rows)
            assert made.metrics.get("label_names", {"read": False})["read"] == read
            right[read].append(accuracy(made))
    assert np.mean(right[True]) > np.mean(right[False]) + 0.1
