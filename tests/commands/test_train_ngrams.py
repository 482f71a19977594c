"""N-grams beside the encoder: what they read, how much they weigh, and that they are saved."""

from pathlib import Path

import numpy as np
import pytest
from news import assert_same_tensors, news_rows, run_of
from runs import ADAPTERS, HEAD

from submillion.commands.train import TrainResult, train
from submillion.inference.classifier import Classifier


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
    assert "weight 1.00 beside 1 for the encoder's logits" in capsys.readouterr().out
    train(data=late_rows(40), overrides=few)
    assert "n-grams    stay zero: 84 rows, fewer than 100" in capsys.readouterr().out


def test_the_card_tells_of_n_grams(whole_texts: TrainResult) -> None:
    card = (whole_texts.folder / "README.md").read_text("utf-8")
    for sentence in (
        "low-rank adapters (LoRA), a head and a table of 512 n-grams.",
        "chose the step that was kept, the weight of the n-grams and the temperature of the probabilities.",
        "Of a text its encoder reads the first 6 tokens, special ones included, and no more; what lies beyond is read",
        "without the n-grams, which came after",
    ):
        assert sentence in card, card


def test_a_model_with_n_grams_comes_back_bit_for_bit(whole_texts: TrainResult, tmp_path: Path) -> None:
    texts = [text for text, _ in late_rows(10)]
    loaded = Classifier.load(whole_texts.folder)
    assert np.array_equal(loaded.logits(texts), whole_texts.classifier.logits(texts))
    assert np.allclose(loaded.logits(texts[3:4])[0], loaded.logits(texts)[3], rtol=0, atol=1e-6)
    again = train(whole_texts.folder / "config.toml", late_rows(), {"output.dir": str(tmp_path)})
    assert_same_tensors(whole_texts.folder / "model.pt", again.folder / "model.pt")
