"""A run labels the unlabelled texts itself, by a regression or by adapters, and learns from them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from news import EPOCHS, LABELS, assert_same_tensors, news_rows, run_of, write_csv
from rich.console import Console
from tiny import interrupt_at_step

from submillion.commands import train as train_module
from submillion.commands.train import TrainResult, train
from submillion.inference.artefact import Artefact
from submillion.report.summary import print_summary
from submillion.tasks import one_label
from submillion.training import measuring
from submillion.training.few_labels import label_names, self_labelling, selftraining
from submillion.training.rows import TokenRows


@pytest.fixture(scope="module", autouse=True)
def _texts_alone() -> Iterator[None]:
    """No label name is read and no fold trains, whatever train.few_labels says: the tests count rows and trainings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_names, "LEAST_AGREEMENT", 2.0)
        patch.setattr(train_module, "cross_validate", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def few_labels(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, TrainResult]:
    """Four labelled rows a label: with 300 unlabelled texts, of which 12 are these rows' own, and without."""
    folder = tmp_path_factory.mktemp("few labels")
    rows = news_rows(104, seed=3)
    pool = write_csv(folder / "pool.csv", [[text] for text, _ in rows], header=["text"])
    none_held_out = {"data__validation_fraction": 0, "data__test_fraction": 0, "train__few_labels": True}
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
    original = one_label.fit_temperature
    monkeypatch.setattr(
        one_label, "fit_temperature", lambda *arguments: compared.extend(arguments[:2]) or original(*arguments)
    )
    rows = news_rows(204, seed=3)
    rows = rows[:12] + [rows[row] for row in 12 + np.random.default_rng(0).permutation(600)]
    texts, labels = zip(*rows, strict=True)
    pool = write_csv(tmp_path / "pool.csv", [[text] for text in texts[12:]], header=["text"])
    given = {"data__validation_fraction": 0, "data__test_fraction": 0, "data__unlabelled": str(pool)}
    few = {"text": list(texts[:12]), "label": list(labels[:12])}
    made = train(data=few, overrides=run_of(tiny_base, tmp_path, train__few_labels=True, **given))
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
    print_summary(made.result, made.run, Console(width=100))
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
    again = train(made.folder / "config.toml", data=rows, overrides={"output.dir": str(tmp_path / "again")})
    assert_same_tensors(made.folder / "model.pt", again.folder / "model.pt")


def labelled_and_not(tiny_base: Path, folder: Path, **changes: Any) -> TrainResult:
    """270 labelled rows, 108 of them for validation, and 120 texts without labels."""
    pool = write_csv(folder / "pool.csv", [[text] for text, _ in news_rows(40, seed=5)], header=["text"])
    held_out = {"data__validation_fraction": 0.4, "data__test_fraction": 0, "data__unlabelled": str(pool)}
    return train(data=news_rows(90, seed=6), overrides=run_of(tiny_base, folder, **held_out | changes))


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
        def watched(*arguments: Any) -> Any:
            calls[name] = (list(arguments), getattr(selftraining, name)(*arguments))
            return calls[name][1]

        monkeypatch.setattr(self_labelling, name, watched)

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


def test_without_validation_rows_int8_is_tried_on_all_that_was_learned_from(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    monkeypatch.setattr(measuring, "try_int8", lambda network, task, tokens, *_: tried.append(len(tokens)))
    made = labelled_and_not(tiny_base, tmp_path, data__validation_fraction=0)
    assert tried == [270 + made.metrics["self_labelled"]]


def test_few_validation_rows_say_too_little(tiny_base: Path, tmp_path: Path, fits: list[Any]) -> None:
    made = labelled_and_not(tiny_base, tmp_path, data__validation_fraction=0.3)
    assert "self_labelling" not in made.metrics and len(fits) == 1


def test_ctrl_c_while_the_labelled_rows_alone_train_keeps_that_model(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: list[Any]
) -> None:
    interrupt_at_step(15, monkeypatch)
    made = labelled_and_not(tiny_base, tmp_path)
    assert made.metrics["interrupted"] and made.metrics["self_labelled"] == 0 and len(fits) == 1
    assert (made.folder / "model.pt").is_file()
