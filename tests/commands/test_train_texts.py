"""The rows that a run trains on: from memory, under noise, cleaned, corrected, and longer than a window."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from news import LABELS, assert_same_tensors, news_rows, run_of
from runs import without_timing

import submillion
from submillion.commands.train import TrainResult, train
from submillion.config.resolve import resolve
from submillion.errors import DataError
from submillion.inference.artefact import Artefact
from submillion.inference.classifier import Classifier
from submillion.text.tokenizer import Tokenizer

# Rows in memory


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


def test_a_run_on_rows_in_memory_names_no_source_that_it_did_not_read(tiny_base: Path, tmp_path: Path) -> None:
    result = train("quickstart", news_rows(20), run_of(tiny_base, tmp_path, train__epochs=1))
    assert result.classifier.label_names == LABELS
    recipe = result.folder / "config.toml"
    assert resolve(recipe=recipe).config.data.source == "data in memory"
    assert "--recipe config.toml --data.source FILE`" in (result.folder / "README.md").read_text(encoding="utf-8")
    again = {"output.dir": str(tmp_path / "again")}
    with pytest.raises(DataError, match=r"given from Python.*\n.*--data.source FILE"):
        train(recipe, overrides=again)
    assert_same_tensors(result.folder / "model.pt", train(recipe, news_rows(20), again).folder / "model.pt")


def test_the_longest_row_that_fits_is_allowed(tiny_base: Path, tmp_path: Path) -> None:
    long = [(f"{text} " * 20, label) for text, label in news_rows(20)]
    result = train(data=long, overrides=run_of(tiny_base, tmp_path, model__max_length=160, train__epochs=1))
    assert len(result.classifier.tokenizer.encode([long[0][0]], 160).row(0)) == 160


# Noise, cleaning, spelling


def test_noise_trains_another_model_and_can_be_repeated(news_csv: Path, tiny_base: Path, tmp_path: Path) -> None:
    first, again, plain = (
        train(data=news_csv, overrides=run_of(tiny_base, tmp_path / name, train__epochs=1, robust__noise=noise))
        for name, noise in (("first", True), ("again", True), ("plain", False))
    )
    assert_same_tensors(first.folder / "model.pt", again.folder / "model.pt")
    assert first.history[0]["train_loss"] != plain.history[0]["train_loss"]


def test_a_text_is_cleaned_by_the_saved_model_too(news_csv: Path, tiny_base: Path, tmp_path: Path) -> None:
    for cleaned in (True, False):
        normalise = ["clean"] * cleaned
        overrides = run_of(tiny_base, tmp_path / str(cleaned), train__epochs=1, robust__normalise=normalise)
        model = Classifier.load(train(data=news_csv, overrides=overrides).folder)
        plain, dirty = model.logits(["oil prices climb", "<b>оil</b> рrices сlimb"])  # three Cyrillic letters
        assert np.allclose(plain, dirty, rtol=0, atol=1e-6) == cleaned  # a product may round rows of a batch unalike


def test_words_are_corrected_in_training_and_by_the_saved_model(
    news_csv: Path, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for corrected in (True, False):
        normalise = ["spelling"] * corrected
        overrides = run_of(tiny_base, tmp_path / str(corrected), train__epochs=1, robust__normalise=normalise)
        trained = train(data=news_csv, overrides=overrides)
        assert ("spelling   of 18 words of the training texts" in capsys.readouterr().out) == corrected
        assert ("one letter from it" in (trained.folder / "README.md").read_text("utf-8")) == corrected
        model = Classifier.load(trained.folder)
        assert (model.tokenizer.spelling is not None) == corrected
        for answering in (model, trained.classifier):
            logits = (answering.logits([text]) for text in ("oil prices: stock market", "oil prices: stokc amrket"))
            assert np.array_equal(*logits) == corrected


def test_words_are_learned_from_training_and_unlabelled_texts_alone(tiny_base: Path, tmp_path: Path) -> None:
    rows = news_rows(40)
    held_out = [(f"{text} onlytested", label) for text, label in news_rows(20, seed=1)]
    data = {"train": rows, "validation": held_out, "test": held_out}
    texts = tmp_path / "more.csv"
    texts.write_text("\n".join(["text", *(f"the unlabelled {word} president" for word in LABELS)]), encoding="utf-8")
    run = run_of(tiny_base, tmp_path, train__epochs=1, robust__normalise=["spelling"], data__unlabelled=str(texts))
    words = train(data=data, overrides=run).classifier.tokenizer.spelling.words  # type: ignore[union-attr]
    assert "unlabelled" in words and "onlytested" not in words and "president" in words


# Long texts in windows


def mixed_rows(rows_a_label: int = 300) -> list[tuple[str, str]]:
    """One text of 300 is as long as forty of the others."""
    rows = news_rows(rows_a_label)
    return [(" ".join([text] * 40) if index % 300 == 7 else text, label) for index, (text, label) in enumerate(rows)]


def test_the_window_is_what_199_of_200_training_rows_fit_in(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = train(data=mixed_rows(), overrides=run_of(tiny_base, tmp_path, train__epochs=1, model__max_length=60))
    window = trained.metrics["window"]
    lengths = [len(text.split()) + 2 for text, _ in news_rows(300)]
    assert window == max(lengths) < 60
    assert f"texts of more than {window} tokens in equal windows" in capsys.readouterr().out
    assert Artefact.load(trained.folder).specs()[0].window == window
    card = (trained.folder / "README.md").read_text("utf-8")
    assert f"More than {window} it reads in equal windows, whose logits are averaged." in card
    texts = [" ".join([text] * 20) for text, _ in news_rows(5)]
    loaded = Classifier.load(trained.folder)
    windowed = loaded.logits(texts)
    assert np.array_equal(windowed, trained.classifier.logits(texts))
    loaded.network.window = 0
    assert np.abs(windowed - loaded.logits(texts)).max() > 1e-4
    short = [text for text, _ in news_rows(5)]
    assert np.array_equal(loaded.logits(short), trained.classifier.logits(short))


@pytest.mark.parametrize("bare", [True, False], ids=["no special tokens", "the first token"])
def test_there_is_no_window_without_the_special_tokens_and_none_for_the_first_token(
    bare: bool, tiny_base: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    if bare:
        tokenizer = json.loads(Tokenizer.from_folder(base).to_str())
        (base / "tokenizer.json").write_text(json.dumps(tokenizer | {"post_processor": None}), encoding="utf-8")
    run = run_of(base, tmp_path, train__epochs=1, model__head="linear" if bare else "stock")
    result = train(data=mixed_rows(), overrides=run)
    assert result.metrics["window"] == 0 and "equal windows" not in (result.folder / "README.md").read_text("utf-8")
