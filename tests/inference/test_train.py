"""A whole run: what it leaves, that it learns, that it can be repeated, and what it refuses before it starts."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from news import (
    EPOCHS,
    LABELS,
    OWN_WORDS,
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
from rich.console import Console
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import interrupt_at_step
from torch import Tensor

import submillion
from submillion.cli import main
from submillion.config import flat, resolve
from submillion.data.tokenizer import Tokenizer
from submillion.errors import ArtefactError, BaseModelError, BudgetError, ConfigError, DataError
from submillion.inference import learning
from submillion.inference import train as train_module
from submillion.inference.calibration import fit_temperature
from submillion.inference.classifier import Classifier
from submillion.inference.train import TrainResult, print_summary, train
from submillion.model.classifier import TextClassifier
from submillion.training import selftraining
from submillion.training.artefact import Artefact
from submillion.training.loop import FitResult, TokenRows
from submillion.training.selftraining import SelfLabelled

HEAD = (32 * 32 + 32) + (32 * 3 + 3)  # hidden 32, 3 labels: dense, out_proj
ADAPTERS = 2 * 2 * 2 * (32 + 32)  # 2 layers, query and value, rank 2
TEXTS = [text for text, _ in news_rows(5, seed=1)]
ORANGE, GREY = (0xC2, 0x41, 0x0C), (0x9A, 0x9A, 0x9A)  # of validation and of training in the plots


@pytest.fixture(scope="module")
def one_epoch(tiny_base: Path, news_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return train(data=news_csv, overrides=run_of(tiny_base, tmp_path_factory.mktemp("one_epoch"), train__epochs=1))


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def metrics_file(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


COUNTED = ("best_step", "steps", "planned_steps", "interrupted", "parameters", "temperature")
TIMINGS = ("rows_per_second", "training_seconds")
MEASURED = {"accuracy", "macro_f1", "loss", "rows", "per_label", "confusion", "ece", "ece_uncalibrated"}


def without_timing(metrics: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metrics.items() if key not in TIMINGS}


@pytest.fixture(scope="module")
def few_labels(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, TrainResult]:
    """Four labelled rows a label: with 300 unlabelled texts, of which 12 are these rows' own, and without."""
    folder = tmp_path_factory.mktemp("few labels")
    rows = news_rows(104, seed=3)
    pool = write_csv(folder / "pool.csv", [[text] for text, _ in rows], header=["text"])
    none_held_out = {"data__validation_fraction": 0, "data__test_fraction": 0, "train__head_first": True}
    none_held_out |= {"model__ngram_buckets": 4096}
    data = {"text": [text for text, _ in rows[:12]], "label": [label for _, label in rows[:12]]}
    with_pool, without = (
        train(data=data, overrides=run_of(tiny_base, folder / name, **none_held_out, data__unlabelled=unlabelled))
        for name, unlabelled in (("with", str(pool)), ("without", ""))
    )
    return with_pool, without


def test_unlabelled_texts_make_a_few_labels_better(few_labels: tuple[TrainResult, TrainResult]) -> None:
    texts, labels = zip(*news_rows(100, seed=4), strict=True)
    right = [np.mean(np.array(made.classifier.predict(texts)) == np.array(labels)) for made in few_labels]
    assert right[0] > right[1]


def test_ngrams_learn_from_the_texts_that_the_run_labelled(few_labels: tuple[TrainResult, TrainResult]) -> None:
    tables = [made.classifier.network.ngrams.weight for made in few_labels]  # type: ignore[union-attr]
    assert tables[0].any() and "ngram_weight" in few_labels[0].metrics


def test_ngrams_do_not_learn_from_a_few_rows_alone(few_labels: tuple[TrainResult, TrainResult]) -> None:
    _, without = few_labels
    assert not without.classifier.network.ngrams.weight.any()  # type: ignore[union-attr]
    assert "ngram_weight" not in without.metrics
    card = (without.folder / "README.md").read_text("utf-8")
    assert "low-rank adapters (LoRA) and a head." in card and "Of a text it reads the first 32 tokens" in card


def test_a_run_tells_how_many_texts_it_labelled_itself(few_labels: tuple[TrainResult, TrainResult]) -> None:
    made, without = few_labels
    count = made.metrics["self_labelled"]
    assert 200 <= count <= 240 and "self_labelled" not in without.metrics
    card = (made.folder / "README.md").read_text(encoding="utf-8")
    assert f"{count:,} of 300 unlabelled texts of pool.csv trained the model" in card
    assert str(made.folder.parent.parent) not in card
    assert made.metrics["steps"] == -(-EPOCHS // 2) * -(-(12 + count) // 16), "half of the passes"
    assert without.metrics["steps"] == EPOCHS


BACK = np.linspace(0, 599, 100).round().astype(int)  # of 600 texts, those that are held back


def test_without_validation_rows_the_temperature_is_fitted_to_what_neighbours_say_of_texts_held_back(
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    learned: list[TokenRows],
    capsys: pytest.CaptureFixture[str],
) -> None:
    compared: list[np.ndarray] = []
    fitted = train_module.fit_temperature
    monkeypatch.setattr(train_module, "fit_temperature", lambda *given: compared.extend(given) or fitted(*given))
    rows = news_rows(204, seed=3)
    rows = rows[:12] + [rows[row] for row in 12 + np.random.default_rng(0).permutation(600)]
    texts, labels = zip(*rows, strict=True)
    pool = write_csv(tmp_path / "pool.csv", [[text] for text in texts[12:]], header=["text"])
    given = {"data__validation_fraction": 0, "data__test_fraction": 0, "data__unlabelled": str(pool)}
    few = {"text": list(texts[:12]), "label": list(labels[:12])}
    made = train(data=few, overrides=run_of(tiny_base, tmp_path, train__head_first=True, **given))
    held_back, tokens = [texts[12 + row] for row in BACK], learned[0].tokens
    encoded = made.classifier.tokenizer.encode(held_back, made.classifier.config.model.max_length)
    learned_rows = {tuple(tokens.row(row)) for row in range(len(tokens))}
    assert not learned_rows & {tuple(encoded.row(row)) for row in range(100)}, "nothing was learned from them"
    logits, probabilities = compared
    assert logits == pytest.approx(made.classifier.logits(held_back), abs=1e-3)
    assert probabilities.sum(axis=1) == pytest.approx(1)
    right = probabilities.argmax(axis=1) == [made.classifier.label_names.index(labels[12 + row]) for row in BACK]
    assert right.mean() > 0.6, "in the texts' own order: by chance a third"
    metrics, temperature = made.metrics, made.metrics["temperature"]
    assert made.classifier.temperature == Artefact.load(made.folder).calibration["temperature"] == temperature != 1
    assert (metrics["temperature_fitted_to"], metrics["held_back"]) == ("neighbours", 100)
    assert metrics["self_labelled"] == len(learned[0]) - 12
    told = f"temperature {temperature:.2f}, fitted to what neighbours say of 100 texts held back."
    assert told in (made.folder / "README.md").read_text("utf-8")
    print_summary(made, Console(width=100))
    said = capsys.readouterr().out
    assert "held back  100 of 600 texts" in said and f"temperature {temperature:.2f}, by 100 texts held back" in said


def test_a_few_texts_all_train_and_calibrate_nothing(few_labels: tuple[TrainResult, TrainResult]) -> None:
    for made in few_labels:
        assert made.metrics["temperature"] == made.classifier.temperature == 1.0
        assert not {"temperature_fitted_to", "held_back"} & set(made.metrics)


def test_a_run_with_unlabelled_texts_can_be_repeated(
    few_labels: tuple[TrainResult, TrainResult], tmp_path: Path
) -> None:
    made, _ = few_labels
    rows = news_rows(104, seed=3)[:12]
    elsewhere = {"output.dir": str(tmp_path / "again"), "output.assets": str(tmp_path / "plots")}
    again = train(made.folder / "config.toml", data=rows, overrides=elsewhere)
    assert_same_tensors(made.folder / "model.pt", again.folder / "model.pt")


TELLING = {label: " ".join(words) for label, words in OWN_WORDS.items()}  # a random encoder knows no others
MISPLACED = dict(zip(LABELS, (TELLING[label] for label in (*LABELS[1:], LABELS[0])), strict=True))
NUMBERED = {label: f"LABEL_{number}" for number, label in enumerate(LABELS)}


def named_run(tiny_base: Path, folder: Path, names: dict[str, str], **changes: Any) -> TrainResult:
    """Twelve rows, four a label, and the labels under other names, which are read."""
    rows = [(text, names[label]) for text, label in news_rows(4, seed=3)]
    changes = {"data__validation_fraction": 0, "data__test_fraction": 0, "model__ngram_buckets": 256} | changes
    changes = {"data__label_names": list(names.values()), "data__label_template": "{} {}"} | changes
    return train(data=rows, overrides=run_of(tiny_base, folder, **changes))


def test_the_label_names_train_too(tiny_base: Path, tmp_path: Path, fits: list[Any], capsys: Any) -> None:
    made = named_run(tiny_base, tmp_path, TELLING, train__augment=0.5)
    assert made.metrics["label_names"] == {"right": 10 / 12, "read": True} and [rows for rows, _ in fits] == [15]
    assert "names      alone they get 83% of the training rows right: each becomes" in capsys.readouterr().out
    card = (made.folder / "README.md").read_text(encoding="utf-8")
    assert "Each label's name trained the model too, as a text: {} {}" in card


def test_label_names_help_where_there_is_one_row_a_label(tiny_base: Path, tmp_path: Path) -> None:
    texts, labels = zip(*news_rows(100, seed=4), strict=True)
    pool = write_csv(tmp_path / "pool.csv", [[text] for text, _ in news_rows(100, seed=5)], header=["text"])
    right = []
    for template in ("", "{} {}"):
        rows = [(" ".join(("the of and", text.split()[0])), TELLING[label]) for text, label in news_rows(1, seed=2)]
        settings = run_of(
            tiny_base, tmp_path / (template or "none"), data__validation_fraction=0, data__test_fraction=0
        )
        settings |= {"data.unlabelled": str(pool), "data.label_template": template, "train.head_first": True}
        made = train(data=rows, overrides=settings)
        assert ("label_names" in made.metrics) == bool(template) and made.metrics["self_labelled"]
        assert ("Each label's name" in (made.folder / "README.md").read_text("utf-8")) == bool(template)
        right.append(np.mean(np.array(made.classifier.predict(texts)) == [TELLING[label] for label in labels]))
    assert right[1] > right[0]


@pytest.mark.parametrize(
    ("names", "why"),
    [(MISPLACED, ": too few"), (NUMBERED, ", but differ in digits alone")],
    ids=["misplaced", "numbered"],
)
def test_label_names_that_say_nothing_are_not_read(
    names: dict[str, str], why: str, tiny_base: Path, tmp_path: Path, capsys: Any
) -> None:
    made = named_run(tiny_base, tmp_path / "given", names)
    without = named_run(tiny_base, tmp_path / "without", names, data__label_template="")
    assert not made.metrics["label_names"]["read"] and "label_names" not in without.metrics
    assert f"right{why}, so they are not read" in capsys.readouterr().out
    assert_same_tensors(made.folder / "model.pt", without.folder / "model.pt")


def test_only_labels_that_have_rows_are_read_by_name(tiny_base: Path, tmp_path: Path, fits: list[Any]) -> None:
    names = [*TELLING.values(), "never seen"]
    made = named_run(tiny_base, tmp_path, TELLING, data__label_names=names, model__correct_spelling=True)
    assert made.metrics["label_names"]["read"] and [rows for rows, _ in fits] == [15]
    assert {"season", "seen"} <= set(made.classifier.tokenizer.spelling.words), "a name is not corrected"


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, dict[str, Tensor]]]:
    """Of each training, the rows it has and the parameters it starts from."""
    seen: list[tuple[int, dict[str, Tensor]]] = []
    original = learning.fit

    def fit(network: TextClassifier, rows: TokenRows, *rest: Any) -> FitResult:
        seen.append((len(rows), {name: tensor.detach().clone() for name, tensor in network.trainable().items()}))
        return original(network, rows, *rest)

    monkeypatch.setattr(learning, "fit", fit)
    return seen


def labelled_and_not(tiny_base: Path, folder: Path, **changes: Any) -> TrainResult:
    """270 labelled rows, 108 of them for validation, and 120 texts without labels."""
    pool = write_csv(folder / "pool.csv", [[text] for text, _ in news_rows(40, seed=5)], header=["text"])
    held_out = {"data__validation_fraction": 0.4, "data__test_fraction": 0, "data__unlabelled": str(pool)}
    return train(data=news_rows(90, seed=6), overrides=run_of(tiny_base, folder, **held_out | changes))


def taught(tiny_base: Path, folder: Path, teacher: Path, **changes: Any) -> TrainResult:
    """12 labelled rows, none held out, and 600 texts without labels for the teacher; 100 of these are held back."""
    pool = write_csv(folder / "pool.csv", [[text] for text, _ in news_rows(200, seed=5)], header=["text"])
    none_held_out = {"data__validation_fraction": 0, "data__test_fraction": 0}
    given = none_held_out | {"data__unlabelled": str(pool), "data__teacher": str(teacher)}
    return train(data=news_rows(4, seed=6), overrides=run_of(tiny_base, folder, **given | changes))


TAUGHT = [text for text, _ in news_rows(200, seed=5)]


def test_a_teacher_labels_the_texts_under_the_names_of_their_labels(
    trained: TrainResult, tiny_base: Path, tmp_path: Path, learned: list[TokenRows]
) -> None:
    names = trained.classifier.label_names[::-1]
    made = taught(tiny_base, tmp_path, trained.folder, data__label_names=names)
    texts = [text for row, text in enumerate(TAUGHT) if row not in BACK]
    assert [names[label] for label in learned[0].labels[12:]] == trained.classifier.predict(texts)
    assert made.metrics["teacher_labelled"] == 500 and "self_labelled" not in made.metrics
    assert made.metrics["steps"] == -(-EPOCHS // 2) * -(-512 // 16), "half of the passes"


def test_a_taught_model_is_calibrated_by_its_teacher_and_says_who_that_was(
    trained: TrainResult, tiny_base: Path, tmp_path: Path
) -> None:
    made = taught(tiny_base, tmp_path, trained.folder)
    texts = [TAUGHT[row] for row in BACK]
    expected = fit_temperature(made.classifier.logits(texts), trained.classifier.predict_proba(texts))
    assert made.classifier.temperature == pytest.approx(expected, rel=1e-3) != 1
    assert made.metrics["temperature_fitted_to"] == "teacher"
    card = (made.folder / "README.md").read_text("utf-8")
    told = "500 of 600 unlabelled texts of pool.csv trained the model, with labels of another model, "
    assert f"{told}{trained.folder.name}." in card and str(trained.folder.parent) not in card
    assert "fitted to what the other model says of 100 texts held back" in card


def test_a_checkpoint_of_transformers_can_teach(tiny_base: Path, tmp_path: Path, fits: list[Any]) -> None:
    stock = {"model__head": "stock", "model__pooling": "first", "train__epochs": 1}
    saved = train(data=news_rows(30), overrides=run_of(tiny_base, tmp_path / "stock", **stock))
    assert main(["export", str(saved.folder), "--to", "transformers", str(tmp_path / "merged")]) == 0
    made = taught(tiny_base, tmp_path, tmp_path / "merged")
    assert made.metrics["teacher_labelled"] == 500 and [rows for rows, _ in fits][1:] == [512]


def test_a_teacher_of_other_labels_is_refused(trained: TrainResult, tiny_base: Path, tmp_path: Path) -> None:
    names = {"data__label_names": ("Business", "Sports", "World", "Weather")}
    with pytest.raises(ConfigError, match="labels Business, Sports, Weather, World, found Business, Sports, World"):
        taught(tiny_base, tmp_path, trained.folder, **names)
    with pytest.raises(ArtefactError, match=r"data\.teacher = .*nowhere: no model at .*nowhere"):
        taught(tiny_base, tmp_path, tmp_path / "nowhere")
    assert not (tmp_path / "best_model" / "model.pt").exists()


def test_a_teacher_without_texts_has_no_effect(
    trained: TrainResult, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taught(tiny_base, tmp_path, trained.folder, data__unlabelled="")
    assert "without data.unlabelled there are no texts to label" in capsys.readouterr().out


@pytest.mark.parametrize(("rate", "better"), [(2e-2, "adapters"), (1e-9, "regression")])
def test_the_adapters_label_where_validation_rows_show_them_better(
    rate: float, better: str, tiny_base: Path, tmp_path: Path, fits: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    made = labelled_and_not(tiny_base, tmp_path, train__learning_rate=rate)
    right, count = made.metrics["self_labelling"], made.metrics["self_labelled"]
    assert max(right, key=lambda name: right[name]) == better and set(right) == {"regression", "adapters"}
    assert count == 120 if better == "adapters" else 80 <= count <= 100, "adapters label all, a regression the surest"
    assert [rows for rows, _ in fits] == [162, 162 + count]
    for name, tensor in fits[0][1].items():
        assert torch.equal(tensor, fits[1][1][name]), f"{name} starts anew"
    said = capsys.readouterr().out
    assert f"labels     adapters: {right['adapters']:.2%} of the validation rows right" in said
    assert f"passes     {-(-EPOCHS // 2)}, half of train.epochs" in said


def test_the_adapters_labels_go_to_neighbours_of_the_trained_encoder_too(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, features_seen: list[np.ndarray]
) -> None:
    calls: dict[str, tuple[list[Any], Any]] = {}  # name -> what it was given, what it returned

    def watch(name: str) -> None:
        def watched(*given: Any) -> Any:
            calls[name] = (list(given), getattr(selftraining, name)(*given))
            return calls[name][1]

        monkeypatch.setattr(learning, name, watched)

    watch("neighbours")
    watch("spread")
    made = labelled_and_not(tiny_base, tmp_path, train__learning_rate=2e-2)
    hidden = made.classifier.network.encoder.shape.hidden_size
    (near, _), graph = calls["neighbours"]
    pretrained = np.concatenate(features_seen[:2])
    assert near.shape == (162 + 120, 2 * hidden) and (near[:, hidden:] == pretrained).all()
    assert np.linalg.norm(near[:, :hidden], axis=1) == pytest.approx(1)
    assert np.abs(near[:, :hidden] - pretrained).max() > 0.1, "the trained encoder's"
    (asked, labels, probabilities, proportions), found = calls["spread"]
    assert asked is graph and len(labels) == 162 and probabilities.shape == found.shape == (120, 3)
    assert probabilities.sum(axis=1) == pytest.approx(1)
    assert proportions.tolist() == (np.bincount(labels) / 162).tolist()


def test_texts_in_other_proportions_are_told_and_trained_on_so(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [text for text, label in news_rows(160, seed=5) if label == LABELS[0]] + [
        text for text, label in news_rows(20, seed=7) if label != LABELS[0]
    ]
    pool = write_csv(tmp_path / "pool.csv", [[text] for text in texts], header=["text"])
    given = {"data__unlabelled": str(pool), "data__validation_fraction": 0, "data__test_fraction": 0}
    given["model__ngram_buckets"] = 512  # tells the words apart where the tiny encoder hardly does
    made = train(data=news_rows(30, seed=6), overrides=run_of(tiny_base, tmp_path, **given))
    proportions = made.metrics["label_proportions"]
    assert proportions[LABELS[0]] > 0.5 and sum(proportions.values()) == pytest.approx(1)
    said = " ".join(capsys.readouterr().out.split())
    assert f"the texts hold them in other proportions than the training rows (in brackets): {LABELS[0]}" in said
    assert "(33%)" in said
    card = " ".join((tmp_path / "best_model" / "README.md").read_text(encoding="utf-8").split())
    assert f"other proportions than its training rows have: {LABELS[0]} {proportions[LABELS[0]]:.0%}, " in card


@pytest.fixture
def control_c(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Presses Ctrl-C so many times once training is over, before the first row is measured."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    original = train_module._measured

    def press(times: int) -> None:
        def measured(*given: Any) -> dict[str, Any]:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
            return original(*given)

        monkeypatch.setattr(train_module, "_measured", measured)

    yield press
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_after_training_waits_until_the_model_is_saved(
    tiny_base: Path, tmp_path: Path, control_c: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    control_c(1)
    with pytest.raises(KeyboardInterrupt):
        train(data=news_rows(20, seed=1), overrides=run_of(tiny_base, tmp_path))
    said = capsys.readouterr()
    assert "training is over: the model is measured and saved first; Ctrl-C again to give up" in said.err
    assert "test accuracy" in said.out and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    saved = tmp_path / "best_model"
    metrics = metrics_file(saved)
    assert metrics["steps"] == metrics["planned_steps"] and not metrics["interrupted"]
    assert Classifier.load(saved / "model.pt").predict(["the season"])


def test_ctrl_c_twice_after_training_gives_up(
    tiny_base: Path, tmp_path: Path, control_c: Callable[[int], None]
) -> None:
    control_c(2)
    with pytest.raises(KeyboardInterrupt):
        train(data=news_rows(20, seed=1), overrides=run_of(tiny_base, tmp_path))
    assert not list(tmp_path.rglob("model.pt"))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_program_with_its_own_way_with_ctrl_c_keeps_it(
    tiny_base: Path, tmp_path: Path, control_c: Callable[[int], None]
) -> None:
    seen: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    control_c(2)
    train(data=news_rows(20, seed=1), overrides=run_of(tiny_base, tmp_path))
    assert seen == [signal.SIGINT] * 2


@pytest.fixture
def features_seen(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """What self-training saw of the labelled rows, of the texts and of the validation rows."""
    seen: list[np.ndarray] = []
    original = learning.self_label

    def self_label(features: np.ndarray, labels: np.ndarray, *rest: Any) -> SelfLabelled:
        seen.extend((features, *rest[:2]))
        return original(features, labels, *rest)

    monkeypatch.setattr(learning, "self_label", self_label)
    return seen


@pytest.mark.parametrize(("buckets", "more"), [(0, 0), (512, 200)])
def test_self_training_sees_what_n_grams_are_about_where_they_are_read(
    buckets: int, more: int, tiny_base: Path, tmp_path: Path, features_seen: list[np.ndarray]
) -> None:
    made = labelled_and_not(tiny_base, tmp_path, model__ngram_buckets=buckets)
    hidden = made.classifier.network.encoder.shape.hidden_size
    assert [len(rows) for rows in features_seen] == [162, 120, 108]
    for rows in features_seen:
        assert rows.shape[1] == hidden + more
        for part in np.split(rows, [hidden], axis=1)[: 1 + (more > 0)]:
            assert np.linalg.norm(part, axis=1) == pytest.approx(1)


def test_self_training_sees_of_label_names_the_encoders_features_alone(
    tiny_base: Path, tmp_path: Path, features_seen: list[np.ndarray]
) -> None:
    pool = write_csv(tmp_path / "pool.csv", [[text] for text, _ in news_rows(40, seed=5)], header=["text"])
    made = named_run(tiny_base, tmp_path, TELLING, data__unlabelled=str(pool))
    hidden = made.classifier.network.encoder.shape.hidden_size
    lengths = np.linalg.norm(features_seen[0][:, hidden:], axis=1)
    assert lengths == pytest.approx([1] * 12 + [0] * 3)
    assert np.linalg.norm(features_seen[0][:, :hidden], axis=1) == pytest.approx(1)


def test_without_validation_rows_int8_is_tried_on_all_that_was_learned_from(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    monkeypatch.setattr(train_module, "try_int8", lambda network, tokens, *_: tried.append(len(tokens)) or {})
    made = labelled_and_not(tiny_base, tmp_path, data__validation_fraction=0)
    assert tried == [270 + made.metrics["self_labelled"]]


def test_few_validation_rows_say_too_little(tiny_base: Path, tmp_path: Path, fits: list[Any]) -> None:
    made = labelled_and_not(tiny_base, tmp_path, data__validation_fraction=0.3)
    assert made.metrics["self_labelling"] == {} and len(fits) == 1


def test_ctrl_c_while_the_labelled_rows_alone_train_keeps_that_model(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: list[Any]
) -> None:
    interrupt_at_step(15, monkeypatch)
    made = labelled_and_not(tiny_base, tmp_path, train__eval_steps=4)
    assert made.metrics["interrupted"] and made.metrics["self_labelled"] == 0 and len(fits) == 1
    assert (made.folder / "model.pt").is_file()


# What a run leaves


def test_a_run_leaves_exactly_these_files(trained: TrainResult) -> None:
    names = ("model.pt", "metrics.json", "history.jsonl", "config.toml", "README.md", "loss.png", "accuracy.png")
    model = {f"best_model/{name}" for name in names}
    assert files_below(trained.folder.parent) == model | {"assets/loss.png", "assets/accuracy.png"}
    assert trained.assets == trained.folder.parent / "assets"


def test_the_metrics_have_exactly_these_keys(trained: TrainResult) -> None:
    metrics = metrics_file(trained.folder)
    assert set(metrics) == {"validation", "test", *COUNTED, *TIMINGS}
    for split, rows in (("validation", VALIDATION_ROWS), ("test", TEST_ROWS)):
        assert set(metrics[split]) == MEASURED
        assert metrics[split]["rows"] == rows and list(metrics[split]["per_label"]) == list(LABELS)
    assert metrics == trained.metrics and metrics["rows_per_second"] > 0


def test_the_parameters_are_counted_to_the_last_one(trained: TrainResult, tiny_base: Path) -> None:
    encoder = sum(tensor.numel() for tensor in load_file(tiny_base / "model.safetensors").values())
    counts = {"trainable": HEAD + ADAPTERS, "total": encoder + HEAD, "total_with_adapters": encoder + HEAD + ADAPTERS}
    assert trained.metrics["parameters"] == counts and HEAD + ADAPTERS == 1667
    artefact = Artefact.load(trained.folder)
    assert sum(tensor.numel() for tensor in artefact.tensors.values()) == 1667 and artefact.parameters == counts


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


def test_the_saved_recipe_is_the_run_as_it_was_resolved(trained: TrainResult) -> None:
    saved = resolve(recipe=trained.folder / "config.toml").config
    assert saved == trained.classifier.config
    assert (saved.train.precision, saved.lora.rank, saved.model.max_length) == ("fp32", 2, 32)


def test_auto_is_saved_as_what_it_came_to(tiny_base: Path, news_csv: Path, tmp_path: Path) -> None:
    budget = HEAD + 5 * ADAPTERS // 2 + 1  # room for rank 5
    changes = run_of(tiny_base, tmp_path, lora__rank="auto", budget=budget, train__epochs=1, train__precision="auto")
    result = train(data=news_csv, overrides=changes)
    saved = resolve(recipe=result.folder / "config.toml").config
    assert saved.lora.rank == 5 and result.metrics["parameters"]["trainable"] == budget - 1
    assert saved.train.precision in ("int8", "bf16", "fp32")


@pytest.mark.parametrize("name", ["loss.png", "accuracy.png"])
def test_the_plots_are_pictures_with_both_curves(name: str, trained: TrainResult) -> None:
    with Image.open(trained.assets / name) as image:
        image.verify()
    assert all(pixels_of(colour, trained.assets / name) > 100 for colour in (ORANGE, GREY))


def pixels_of(colour: tuple[int, int, int], path: Path) -> int:
    with Image.open(path) as image:
        return int((np.asarray(image.convert("RGB")) == colour).all(axis=-1).sum())


def test_a_file_s_name_may_look_like_a_formula(tiny_base: Path, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "cost$_$2.csv", news_rows(8))
    assert (train(data=source, overrides=run_of(tiny_base, tmp_path, train__epochs=1)).assets / "loss.png").exists()


def test_the_run_says_what_a_person_wants_to_know(
    tiny_base: Path, news_csv: Path, tmp_path: Path, wide: None, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train(data=news_csv, overrides=run_of(tiny_base, tmp_path, train__epochs=1))
    out = capsys.readouterr().out
    assert "no effect  model.train_last_k_layers = 2" in out
    assert "1,667" in out and f"{result.metrics['test']['accuracy']:.2%}" in out
    assert all(str(result.folder / name) in out for name in ("model.pt", "metrics.json", "history.jsonl"))
    assert any(f"example    {label}: [CLS] " in out for label in LABELS)


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
    elsewhere = {"output.dir": str(tmp_path / "again"), "output.assets": str(tmp_path / "plots")}
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


# Where rows come from, and which splits there are


def as_frame(rows: list[tuple[str, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["text", "label"])


def as_columns(rows: list[tuple[str, str]]) -> dict[str, list[str]]:
    return {"text": [text for text, _ in rows], "label": [label for _, label in rows]}


@pytest.mark.parametrize("convert", [as_frame, as_columns, list], ids=["DataFrame", "dict", "pairs"])
def test_rows_in_memory_train_as_the_same_rows_in_a_file(
    convert: Any, one_epoch: TrainResult, tiny_base: Path, tmp_path: Path
) -> None:
    data, untouched = convert(news_rows()), convert(news_rows())
    result = submillion.train(data=data, overrides=run_of(tiny_base, tmp_path, train__epochs=1))
    assert_same_tensors(one_epoch.folder, result.folder)
    assert without_timing(result.metrics) == without_timing(one_epoch.metrics)
    assert data.equals(untouched) if isinstance(data, pd.DataFrame) else data == untouched


def test_a_run_without_test_rows_measures_validation_alone(tiny_base: Path, news_csv: Path, tmp_path: Path) -> None:
    changes = run_of(tiny_base, tmp_path, train__epochs=1, data__test_fraction=0)
    metrics = metrics_file(train(data=news_csv, overrides=changes).folder)
    assert set(metrics) == {"validation", *COUNTED, *TIMINGS}


def test_a_run_without_validation_rows_keeps_the_last_step(tiny_base: Path, news_csv: Path, tmp_path: Path) -> None:
    changes = run_of(tiny_base, tmp_path, train__epochs=1, data__validation_fraction=0)
    result = train(data=news_csv, overrides=changes)
    metrics = metrics_file(result.folder)
    assert set(metrics) == {"test", *COUNTED, *TIMINGS}
    assert metrics["best_step"] == metrics["steps"] == 18  # 288 rows in batches of 16
    assert not any("validation_loss" in record for record in result.history)
    assert pixels_of(ORANGE, result.assets / "loss.png") == 0 < pixels_of(GREY, result.assets / "loss.png")


def test_a_run_without_validation_rows_does_not_speak_of_their_loss(
    tiny_base: Path, news_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(data=news_csv, overrides=run_of(tiny_base, tmp_path, train__epochs=1, data__validation_fraction=0))
    out = capsys.readouterr().out
    assert "step 18 of 18" in out and "lowest validation loss" not in out


def test_a_run_on_rows_in_memory_names_no_source_that_it_did_not_read(tiny_base: Path, tmp_path: Path) -> None:
    result = train("quickstart", news_rows(20), run_of(tiny_base, tmp_path, train__epochs=1))
    assert result.classifier.label_names == LABELS
    recipe = result.folder / "config.toml"
    assert resolve(recipe=recipe).config.data.source == "data in memory"
    assert "--recipe config.toml --data.source FILE`" in (result.folder / "README.md").read_text(encoding="utf-8")
    again = {"output.dir": str(tmp_path / "again"), "output.assets": str(tmp_path / "again")}
    with pytest.raises(DataError, match=r"given from Python.*\n.*--data.source FILE"):
        train(recipe, overrides=again)
    assert_same_tensors(result.folder / "model.pt", train(recipe, news_rows(20), again).folder / "model.pt")


def test_a_run_writes_tensorboard_s_event_files_where_it_is_told(
    tiny_base: Path, news_csv: Path, tmp_path: Path
) -> None:
    events = tmp_path / "events"
    result = train(data=news_csv, overrides=run_of(tiny_base, tmp_path, train__epochs=2, output__tensorboard=events))
    found = EventAccumulator(str(events)).Reload()
    assert [event.step for event in found.Scalars("train/loss")] == [line["step"] for line in result.history]
    losses = [line["validation_loss"] for line in result.history if "validation_loss" in line]
    assert [event.value for event in found.Scalars("validation/loss")] == pytest.approx(losses)


# What is refused before it starts


def test_a_missing_tensorboard_is_told_before_anything_is_read(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConfigError, match="needs the package tensorboard"):
        train(data=tmp_path / "missing.csv", overrides=run_of(tiny_base, tmp_path, output__tensorboard=tmp_path / "e"))
    assert list(tmp_path.iterdir()) == []


def test_the_budget_is_held_before_the_data_is_read(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="exceed the budget of 1,000 by"):
        train(data=tmp_path / "missing.csv", overrides=run_of(tiny_base, tmp_path, budget=1000))
    with pytest.raises(DataError, match=r"missing\.csv"):  # and that is what it would have met next
        train(data=tmp_path / "missing.csv", overrides=run_of(tiny_base, tmp_path))
    assert files_below(tmp_path) == set()


def test_the_budget_is_held_before_a_well_known_base_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"--lora\.rank 11 "):
        train("seed", overrides={"lora.rank": 64, "output.dir": str(tmp_path), "output.assets": str(tmp_path)})


def test_the_budget_is_held_again_with_the_labels_that_the_data_has(
    tiny_base: Path, news_csv: Path, tmp_path: Path
) -> None:
    one_too_few = HEAD + ADAPTERS - 1  # enough for two labels
    with pytest.raises(BudgetError, match="1,667 trainable parameters"):
        train(data=news_csv, overrides=run_of(tiny_base, tmp_path, budget=one_too_few))
    assert files_below(tmp_path) == set()


def test_a_row_longer_than_the_position_table_is_refused_before_the_data_is_read(
    tiny_base: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"fix: --model\.max-length 160, or less"):
        train(data=tmp_path / "missing.csv", overrides=run_of(tiny_base, tmp_path, model__max_length=161))


def test_the_longest_row_that_fits_is_allowed(tiny_base: Path, tmp_path: Path) -> None:
    long = [(f"{text} " * 20, label) for text, label in news_rows(20)]
    result = train(data=long, overrides=run_of(tiny_base, tmp_path, model__max_length=160, train__epochs=1))
    assert len(result.classifier.tokenizer.encode([long[0][0]], 160).row(0)) == 160


def test_a_tokenizer_with_more_ids_than_the_base_has_embeddings_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    with (base / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("airport\n")
    with pytest.raises(BaseModelError, match=r"expected: at most vocab_size = \d+ ids"):
        train(data=news_rows(20), overrides=run_of(base, tmp_path))


def test_augmentation_trains_another_model_and_can_be_repeated(news_csv: Path, tiny_base: Path, tmp_path: Path) -> None:
    first, again, plain = (
        train(data=news_csv, overrides=run_of(tiny_base, tmp_path / name, train__epochs=1, train__augment=share))
        for name, share in (("first", 0.5), ("again", 0.5), ("plain", 0.0))
    )
    assert_same_tensors(first.folder / "model.pt", again.folder / "model.pt")
    assert first.history[0]["train_loss"] != plain.history[0]["train_loss"]


def test_a_text_is_cleaned_by_the_saved_model_too(news_csv: Path, tiny_base: Path, tmp_path: Path) -> None:
    for cleaned in (True, False):
        overrides = run_of(tiny_base, tmp_path / str(cleaned), train__epochs=1, model__clean_text=cleaned)
        model = Classifier.load(train(data=news_csv, overrides=overrides).folder)
        plain, dirty = model.logits(["oil prices climb", "<b>оil</b> рrices сlimb"])  # three Cyrillic letters
        assert np.allclose(plain, dirty, rtol=0, atol=1e-6) == cleaned  # a product may round rows of a batch unalike


def test_words_are_corrected_in_training_and_by_the_saved_model(
    news_csv: Path, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for corrected in (True, False):
        overrides = run_of(tiny_base, tmp_path / str(corrected), train__epochs=1, model__correct_spelling=corrected)
        trained = train(data=news_csv, overrides=overrides)
        assert ("spelling   of 18 words of the training texts" in capsys.readouterr().out) == corrected
        assert ("one letter from it" in (trained.folder / "README.md").read_text("utf-8")) == corrected
        model = Classifier.load(trained.folder)
        assert model.config.model.correct_spelling == corrected
        for found in (model, trained.classifier):
            right, wrong = found.logits(["oil prices: stock market"]), found.logits(["oil prices: stokc amrket"])
            assert np.array_equal(right, wrong) == corrected


def test_words_are_learned_from_training_and_unlabelled_texts_alone(tiny_base: Path, tmp_path: Path) -> None:
    rows = news_rows(40)
    held_out = [(f"{text} onlytested", label) for text, label in news_rows(20, seed=1)]
    data = {"train": rows, "validation": held_out, "test": held_out}
    texts = tmp_path / "more.csv"
    texts.write_text("\n".join(["text", *(f"the unlabelled {word} president" for word in LABELS)]), encoding="utf-8")
    run = run_of(tiny_base, tmp_path, train__epochs=1, model__correct_spelling=True, data__unlabelled=str(texts))
    words = train(data=data, overrides=run).classifier.tokenizer.spelling.words  # type: ignore[union-attr]
    assert "unlabelled" in words and "onlytested" not in words and "president" in words


# Long texts in windows


def mixed_rows(rows_a_label: int = 300) -> list[tuple[str, str]]:
    """One text of 300 is as long as forty of the others."""
    rows = news_rows(rows_a_label)
    return [(" ".join([text] * 40) if index % 300 == 7 else text, label) for index, (text, label) in enumerate(rows)]


def test_auto_takes_the_window_that_199_of_200_training_rows_fit_in(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tiny_base, tmp_path, train__epochs=1, model__max_length=60, model__pooling="mean")
    trained = train(data=mixed_rows(), overrides=run | {"model.window": "auto"})
    window = trained.classifier.config.model.window
    lengths = [len(text.split()) + 2 for text, _ in news_rows(300)]
    assert window == max(lengths) < 60
    assert f"texts of more than {window} tokens in equal windows" in capsys.readouterr().out
    assert f"window = {window}" in (trained.folder / "config.toml").read_text("utf-8")
    card = (trained.folder / "README.md").read_text("utf-8")
    assert f"More than {window} it reads in equal windows, whose logits are averaged." in card
    texts = [" ".join([text] * 20) for text, _ in news_rows(5)]
    loaded = Classifier.load(trained.folder)
    found = loaded.logits(texts)
    assert np.array_equal(found, trained.classifier.logits(texts))
    loaded.network.window = 0
    assert np.abs(found - loaded.logits(texts)).max() > 1e-4
    short = [text for text, _ in news_rows(5)]
    assert np.array_equal(loaded.logits(short), trained.classifier.logits(short))


def test_a_window_wants_a_token_before_and_behind_each_text(tiny_base: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    tokenizer = json.loads(Tokenizer.from_folder(base).to_str())
    (base / "tokenizer.json").write_text(json.dumps(tokenizer | {"post_processor": None}), encoding="utf-8")
    run = run_of(base, tmp_path, train__epochs=1, model__window="auto")
    with pytest.raises(ConfigError, match="two tokens around a text, found 0"):
        train(data=news_rows(20), overrides=run)
    assert not (tmp_path / "best_model" / "model.pt").exists()


# N-grams beside the encoder


def late_rows(rows_a_label: int = 200) -> list[tuple[str, str]]:
    """What tells the label comes after more tokens than the model below reads."""
    return [(f"the of and to in on {text}", label) for text, label in news_rows(rows_a_label)]


@pytest.fixture(scope="module")
def whole_texts(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    changes = {"model__max_length": 6, "model__ngram_buckets": 512, "data__validation_fraction": 0.25}
    run = run_of(tiny_base, tmp_path_factory.mktemp("late"), train__epochs=1, **changes)
    return train(data=late_rows(), overrides=run)


def test_n_grams_read_what_lies_beyond_max_length(whole_texts: TrainResult) -> None:
    assert whole_texts.metrics["test"]["accuracy"] > 0.95
    weight = whole_texts.classifier.network.ngrams.weight  # type: ignore[union-attr]
    assert whole_texts.metrics["parameters"]["trainable"] == HEAD + ADAPTERS + weight.numel()
    cut = whole_texts.classifier.logits(["the of and to in on", "the of and to in on oil price shares"])
    assert whole_texts.classifier.label_names[cut[1].argmax()] == "Business" and np.ptp(cut[1]) > 2 * np.ptp(cut[0])


def test_their_weight_is_chosen_on_validation_rows_where_there_are_enough(
    whole_texts: TrainResult, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert whole_texts.metrics["validation"]["rows"] >= 100 and whole_texts.metrics["ngram_weight"] > 1
    assert whole_texts.metrics["validation"]["loss"] < 0.5  # as the table is saved, so with its weight
    few = run_of(tiny_base, tmp_path, train__epochs=1, model__max_length=6, model__ngram_buckets=512)
    assert train(data=late_rows(60), overrides=few).metrics["ngram_weight"] == 1.0
    assert "weigh 1.00 beside the encoder's logits: alike" in capsys.readouterr().out
    train(data=late_rows(40), overrides=few)
    assert "n-grams    stay zero: 84 rows, fewer than 100" in capsys.readouterr().out


def test_the_card_tells_of_n_grams(whole_texts: TrainResult) -> None:
    card = (whole_texts.folder / "README.md").read_text("utf-8")
    for told in (
        "low-rank adapters (LoRA), a head and a table of 512 n-grams.",
        "chose the step that was kept, the weight of the n-grams and the temperature of the probabilities.",
        "Of a text its encoder reads the first 6 tokens, special ones included, and no more; what lies beyond is read",
        "without the n-grams, which came after",
    ):
        assert told in card, card


def test_a_model_with_n_grams_comes_back_bit_for_bit(whole_texts: TrainResult, tmp_path: Path) -> None:
    texts = [text for text, _ in late_rows(10)]
    loaded = Classifier.load(whole_texts.folder)
    assert np.array_equal(loaded.logits(texts), whole_texts.classifier.logits(texts))
    assert np.allclose(loaded.logits(texts[3:4])[0], loaded.logits(texts)[3], rtol=0, atol=1e-6)
    again = train(
        whole_texts.folder / "config.toml", late_rows(), {"output.dir": str(tmp_path), "output.assets": str(tmp_path)}
    )
    assert_same_tensors(whole_texts.folder / "model.pt", again.folder / "model.pt")


# What a run must not be written over, and what it could not write


@pytest.mark.parametrize("name", ["README.md", "config.toml", "metrics.json", "history.jsonl"])
def test_a_folder_with_files_of_somebody_else_is_refused(name: str, tiny_base: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"found {re.escape(name)} without a model.pt"):
        train(data=news_rows(4), overrides=run_of(tiny_base, tmp_path) | {"output.dir": str(tmp_path)})
    assert (tmp_path / name).read_text(encoding="utf-8") == "mine"


def test_a_name_that_no_utf_8_holds_is_refused_before_training(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.source: expected text that UTF-8 can hold, found .*caf"):
        train(data=f"{tmp_path}/caf\udce9.csv", overrides=run_of(tiny_base, tmp_path))
    assert not (tmp_path / "best_model").exists()
