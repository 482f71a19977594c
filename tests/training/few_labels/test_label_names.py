"""Label names that tell rows apart train too, and others are not read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from news import LABELS, OWN_WORDS, assert_same_tensors, news_rows, run_of, write_csv

from submillion.commands import train as train_module
from submillion.commands.train import TrainResult, train
from submillion.training import learning
from submillion.training.few_labels import label_names
from submillion.training.few_labels.label_names import agreement, name_sentences, with_label_names

CENTRES = np.eye(8)[:3]


@pytest.fixture(autouse=True)
def _read_by_a_random_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has names stand alone, twice: a random encoder knows no sentence. No fold trains, which would read them too."""
    monkeypatch.setattr(label_names, "TEMPLATE", "{} {}")
    monkeypatch.setattr(train_module, "cross_validate", lambda *_: None)


def test_a_name_stands_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert name_sentences(["sport", "{braces}"]) == ["This text is about sport.", "This text is about {braces}."]


def test_names_beside_the_rows_that_they_name_agree_with_these() -> None:
    rng, labels = np.random.default_rng(0), np.repeat([0, 2], 5)
    features = CENTRES[labels] + 0.1 * rng.standard_normal((10, 8))
    assert agreement(features, labels, 7 * CENTRES[[0, 2]]) == (1.0, True), "whatever the length of a name"
    assert agreement(features, labels, CENTRES[[2, 0]]) == (0.0, False)
    assert agreement(features, labels, CENTRES[[0, 0]]) == (0.5, False), "half of two labels is chance"


TELLING = {label: " ".join(words) for label, words in OWN_WORDS.items()}  # a random encoder knows no others
MISPLACED = dict(zip(LABELS, (TELLING[label] for label in (*LABELS[1:], LABELS[0])), strict=True))
NUMBERED = {label: f"LABEL_{number}" for number, label in enumerate(LABELS)}


def named_run(tiny_base: Path, folder: Path, names: dict[str, str], **changes: Any) -> TrainResult:
    """Trains on twelve rows, four a label, and on the labels' names, which are others here."""
    rows = [(text, names[label]) for text, label in news_rows(4, seed=3)]
    changes = {"data__validation_fraction": 0, "data__test_fraction": 0, "model__ngram_buckets": 256} | changes
    changes = {"data__label_names": list(names.values()), "train__few_labels": True} | changes
    return train(data=rows, overrides=run_of(tiny_base, folder, **changes))


def test_the_label_names_train_too(tiny_base: Path, tmp_path: Path, fits: list[Any], capsys: Any) -> None:
    made = named_run(tiny_base, tmp_path, TELLING, robust__noise=True)
    assert made.metrics["label_names"] == {"right": 10 / 12, "read": True} and [rows for rows, _ in fits] == [15]
    assert "names      alone they get 83% of the training rows right: each becomes" in capsys.readouterr().out
    card = (made.folder / "README.md").read_text(encoding="utf-8")
    assert "Each label's name trained the model too" in card


def test_label_names_help_where_there_is_one_row_a_label(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, labels = zip(*news_rows(100, seed=4), strict=True)
    pool = write_csv(tmp_path / "pool.csv", [[text] for text, _ in news_rows(100, seed=5)], header=["text"])
    right = []
    for reads in (False, True):
        if not reads:
            monkeypatch.setattr(learning, "with_label_names", lambda run, say: (run, None))
        rows = [(" ".join(("the of and", text.split()[0])), TELLING[label]) for text, label in news_rows(1, seed=2)]
        settings = run_of(tiny_base, tmp_path / str(reads), data__validation_fraction=0, data__test_fraction=0)
        settings |= {"data.unlabelled": str(pool), "train.few_labels": True, "model.head": "stock"}
        made = train(data=rows, overrides=settings)
        monkeypatch.setattr(learning, "with_label_names", with_label_names)
        assert ("label_names" in made.metrics) == reads and made.metrics["self_labelled"]
        assert ("Each label's name" in (made.folder / "README.md").read_text("utf-8")) == reads
        right.append(np.mean(np.array(made.classifier.predict(texts)) == [TELLING[label] for label in labels]))
    assert right[1] > right[0]


@pytest.mark.parametrize(
    ("names", "why"),
    [(MISPLACED, ": too few"), (NUMBERED, ", but differ in digits alone")],
    ids=["misplaced", "numbered"],
)
def test_label_names_that_say_nothing_are_not_read(
    names: dict[str, str], why: str, tiny_base: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    made = named_run(tiny_base, tmp_path / "given", names)
    monkeypatch.setattr(learning, "with_label_names", lambda run, say: (run, None))
    without = named_run(tiny_base, tmp_path / "without", names)
    assert not made.metrics["label_names"]["read"] and "label_names" not in without.metrics
    assert f"right{why}, so they are not read" in capsys.readouterr().out
    assert_same_tensors(made.folder / "model.pt", without.folder / "model.pt")


def test_only_labels_that_have_rows_are_read_by_name(tiny_base: Path, tmp_path: Path, fits: list[Any]) -> None:
    names = [*TELLING.values(), "never seen"]
    made = named_run(tiny_base, tmp_path, TELLING, data__label_names=names, robust__normalise=["spelling"])
    assert made.metrics["label_names"]["read"] and [rows for rows, _ in fits] == [15]
    assert {"season", "seen"} <= set(made.classifier.tokenizer.spelling.words), "a name is not corrected"


def test_self_training_sees_of_label_names_the_encoders_features_alone(
    tiny_base: Path, tmp_path: Path, features_seen: list[np.ndarray]
) -> None:
    pool = write_csv(tmp_path / "pool.csv", [[text] for text, _ in news_rows(40, seed=5)], header=["text"])
    made = named_run(tiny_base, tmp_path, TELLING, data__unlabelled=str(pool))
    hidden = made.classifier.network.encoder.shape.hidden_size
    lengths = np.linalg.norm(features_seen[0][:, hidden:], axis=1)
    assert lengths == pytest.approx([1] * 12 + [0] * 3)
    assert np.linalg.norm(features_seen[0][:, :hidden], axis=1) == pytest.approx(1)
