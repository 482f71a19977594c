"""The classifier that a user holds: what it takes, what it answers, in threads and in forked processes."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest
from news import LABELS, news_rows

from submillion.commands.train import TrainResult
from submillion.errors import DataError
from submillion.inference.classifier import Classifier

TEXTS = [text for text, _ in news_rows(10, seed=2)]


@pytest.mark.parametrize("fresh", [True, False], ids=["trained", "loaded"])
def test_threads_that_predict_at_once_get_what_each_gets_alone(fresh: bool, trained: TrainResult) -> None:
    model = trained.classifier if fresh else Classifier.load(trained.folder)
    assert model.network.is_merged  # or each pass would merge the adapters
    requests = [[f"{text} " * 60 for text in TEXTS[start : start + 3]] for start in range(8)]
    alone = [model.logits(texts) for texts in requests]
    assert all(len(texts[0].split()) > model.config.model.max_length for texts in requests)
    with ThreadPoolExecutor(4) as pool:
        assert all(map(np.array_equal, pool.map(model.logits, requests * 10), alone * 10))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_process_forked_after_a_prediction_answers_too(trained: TrainResult) -> None:
    """As gunicorn --preload and multiprocessing's fork have it: without OpenMP's threads, it waited for ever."""
    code = (
        "import json, multiprocessing, sys; from submillion import Classifier\n"
        "model, texts = Classifier.load(sys.argv[1]), json.loads(sys.argv[2])\n"
        "def answer(): print(json.dumps(model.predict(texts)), flush=True)\n"
        "answer(); child = multiprocessing.get_context('fork').Process(target=answer)\n"
        "child.start(); child.join(60); child.kill()\n"
    )
    argv = [sys.executable, "-c", code, str(trained.folder), json.dumps(TEXTS)]
    two_threads = os.environ | {"OMP_NUM_THREADS": "2"}
    done = subprocess.run(argv, env=two_threads, stdout=subprocess.PIPE, text=True, check=True, timeout=120)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [trained.classifier.predict(TEXTS)] * 2


def test_a_str_is_no_list_of_texts(trained: TrainResult) -> None:
    for method in (trained.classifier.predict, trained.classifier.predict_proba, trained.classifier.logits):
        with pytest.raises(TypeError, match="wrap it in a list"):
            method("Oil prices climb")


@pytest.mark.parametrize("table", [pd.DataFrame({"text": TEXTS}), {"text": TEXTS}, np.array([TEXTS])])
def test_neither_is_a_table(table: Any, trained: TrainResult) -> None:
    with pytest.raises(TypeError, match="give one column of it"):
        trained.classifier.predict(table)
    assert trained.classifier.predict(pd.DataFrame({"text": TEXTS})["text"]) == trained.classifier.predict(TEXTS)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "logits"])
def test_every_method_takes_a_column_and_refuses_what_has_no_order(method: str, trained: TrainResult) -> None:
    answers = getattr(trained.classifier, method)
    column = pd.Series(TEXTS, index=np.arange(len(TEXTS))[::-1] / 2)  # whose slices go by its index
    assert np.array_equal(answers(column), answers(TEXTS))
    with pytest.raises(TypeError, match=r"found a generator: wrap it in list\(\.\.\.\)"):
        answers(text for text in TEXTS)
    with pytest.raises(TypeError, match="found None"):
        answers(None)
    with pytest.raises(DataError, match="row 0: expected a str, found list"):
        answers([TEXTS])


def test_a_batch_size_below_0_is_refused(trained: TrainResult) -> None:
    for method in (trained.classifier.predict, trained.classifier.predict_proba, trained.classifier.logits):
        with pytest.raises(ValueError, match="batch_size: expected at least 0, found -1"):
            method(TEXTS, batch_size=-1)


def test_every_bad_row_is_named_and_counted_from_0(trained: TrainResult) -> None:
    with pytest.raises(DataError) as refusal:
        trained.classifier.predict(["fine", None, "", 3.5, "half \ud800 pair"])  # type: ignore[list-item]
    assert str(refusal.value).splitlines() == [
        "row 1: expected a str, found NoneType",
        "row 3: expected a str, found float",
        "row 4: half a surrogate pair, which no UTF-8 text holds",
    ]


def test_no_texts_have_no_answers(trained: TrainResult) -> None:
    assert trained.classifier.predict([]) == []
    assert trained.classifier.predict_proba([]).shape == (0, len(LABELS))


def test_probabilities_are_the_calibrated_softmax_of_the_logits(trained: TrainResult) -> None:
    held = trained.classifier
    sharper = Classifier(held.network, held.task, held.tokenizer, held.spec, held.config, held.compute, temperature=0.5)
    logits = held.logits(TEXTS).astype(np.float64)
    for model, scaled in ((held, logits), (sharper, logits * 2)):
        expected = np.exp(scaled) / np.exp(scaled).sum(axis=1, keepdims=True)
        found = model.predict_proba(TEXTS)
        assert found.dtype == np.float32 and np.allclose(found, expected, atol=1e-6)
