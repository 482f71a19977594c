"""The estimator in scikit-learn's own hands."""

import io
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from news import LABELS, news_rows
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import validate_data
from tiny import interrupt_at_step

from submillion.commands.train import TrainResult, train_resolved
from submillion.sklearn import TextClassifier

ROWS = news_rows(40)
TEXTS, NAMES = [text for text, _ in ROWS], np.array([label for _, label in ROWS])
NEW, NEW_NAMES = zip(*news_rows(10, seed=2), strict=True)


def tiny(base: Path, **changes: Any) -> TextClassifier:
    values = {"head": "linear", "max_length": 32, "batch_size": 16, "epochs": 5, "learning_rate": 2e-2}
    return TextClassifier(**{"base": base, "precision": "fp32", **values, **changes})


@pytest.fixture(scope="module")
def fitted(tiny_base: Path) -> TextClassifier:
    return tiny(tiny_base).fit(TEXTS, NAMES)


def test_it_learns_and_answers_in_the_labels_it_was_given(fitted: TextClassifier) -> None:
    assert fitted.classes_.tolist() == sorted(LABELS)
    assert fitted.predict(list(NEW)).dtype == NAMES.dtype and fitted.score(list(NEW), list(NEW_NAMES)) > 0.8
    probabilities = fitted.predict_proba(list(NEW))
    assert probabilities.shape == (30, 3) and np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (fitted.classes_[probabilities.argmax(axis=1)] == fitted.predict(list(NEW))).all()
    assert fitted.metrics_["parameters"]["trainable"] > 0 and not hasattr(fitted, "n_features_in_")


@pytest.mark.parametrize(
    "classes", [[10, -3, 7], [True, False, True], ["b", " b", "a"], ["", "x", "y"], [2.0, 1.0, 0.0]], ids=str
)
def test_labels_of_any_kind_come_back_as_they_went_in(classes: list, tiny_base: Path) -> None:
    y = np.array([classes[LABELS.index(name)] for name in NAMES])
    found = tiny(tiny_base).fit(np.array(TEXTS), y)
    assert found.classes_.tolist() == sorted(set(classes)) and found.predict(TEXTS[:5]).dtype == y.dtype
    assert found.score(TEXTS, y) > 0.8


@pytest.mark.parametrize(
    "shaped",
    [
        np.array,
        pd.Series,
        tuple,
        pa.array,
        lambda texts: pd.Series(texts, index=np.arange(len(texts))[::-1] / 2),
        lambda texts: np.array(texts, dtype=object)[:, None],
        lambda t: pd.DataFrame({"t": t}),
    ],
)
def test_texts_of_any_shape_give_the_same_answers(shaped: Any, fitted: TextClassifier) -> None:
    assert (fitted.predict(shaped(TEXTS[:9])) == fitted.predict(TEXTS[:9])).all()


# In scikit-learn's tools


def test_in_a_pipeline_cross_validated(tiny_base: Path) -> None:
    pipeline = make_pipeline(FunctionTransformer(lambda texts: [text.lower() for text in texts]), tiny(tiny_base))
    assert cross_val_score(pipeline, TEXTS, NAMES, cv=3, error_score="raise").mean() > 0.8


def test_a_grid_search_over_its_parameters(tiny_base: Path) -> None:
    grid = {"rank": [0, 4], "learning_rate": np.array([1e-7, 2e-2])}
    search = GridSearchCV(tiny(tiny_base), grid, cv=2, error_score="raise").fit(TEXTS, NAMES)
    assert search.best_params_["learning_rate"] == 2e-2 and search.score(list(NEW), list(NEW_NAMES)) > 0.8


def test_a_clone_is_unfitted_and_fits_to_the_same_model(fitted: TextClassifier) -> None:
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(TEXTS)
    assert np.array_equal(copy.fit(TEXTS, NAMES).predict_proba(TEXTS), fitted.predict_proba(TEXTS))


def test_a_pickle_answers_bit_for_bit_in_another_process_and_folder(
    fitted: TextClassifier, tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fitted.predict_proba(list(NEW))
    dumped = io.BytesIO()
    joblib.dump(fitted, dumped)
    dumped.seek(0)
    for again in (pickle.loads(pickle.dumps(fitted)), joblib.load(dumped)):
        assert np.array_equal(again.predict_proba(list(NEW)), expected)
    monkeypatch.chdir(tiny_base.parent)
    relative = tiny(Path(tiny_base.name)).fit(TEXTS, NAMES)  # a base that is named from the working directory
    assert len(pickle.dumps(relative)) < 100_000
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(relative))
    code = (
        "import pickle, sys, numpy; model = pickle.load(open('model.pkl', 'rb'));"
        "numpy.save('out.npy', model.predict_proba(sys.argv[1:]))"
    )
    subprocess.run([sys.executable, "-c", code, *NEW], cwd=tmp_path, check=True, timeout=60)
    assert np.array_equal(np.load(tmp_path / "out.npy"), expected)


@pytest.mark.usefixtures("fitted")  # torch's first optimiser makes a temporary folder of its own
def test_nothing_is_printed_or_left_behind(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("submillion.runtime.progress._LINE_SECONDS", 0.0)
    # What the frozen layer below the last one computes is kept in a file.
    top_alone = {"lora.rank": 0, "model.unfreeze_layers": 1, "model.dropout": 0.0, "budget": 20_000_000}
    tiny(tiny_base, epochs=2, overrides=top_alone).fit(TEXTS, NAMES).predict(TEXTS)
    assert capfd.readouterr() == ("", "") and [path.name for path in tmp_path.rglob("*")] == ["temporary"]
    tiny(tiny_base, epochs=2, overrides=top_alone, verbose=True).fit(TEXTS, NAMES)
    printed = capfd.readouterr()
    assert "trainable" in printed.out and "prefix cache: " in printed.err and "training: " in printed.err


def test_threads_that_fit_at_once_leave_the_standard_streams_alone(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    streams, within = (sys.stdout, sys.stderr), []

    def seen(*args: Any, **kwargs: Any) -> TrainResult:
        result = train_resolved(*args, **kwargs)
        within.append((sys.stdout, sys.stderr))
        return result

    monkeypatch.setattr("submillion.commands.train.train_resolved", seen)
    vote = VotingClassifier([("a", tiny(tiny_base)), ("b", tiny(tiny_base, epochs=4))], voting="soft", n_jobs=2)
    with joblib.parallel_config("threading"):
        vote.fit(TEXTS, NAMES)
    assert within == [streams] * 2 and (sys.stdout, sys.stderr) == streams
    assert capfd.readouterr() == ("", "") and vote.score(list(NEW), list(NEW_NAMES)) > 0.8


def test_an_interrupt_ends_the_search_and_not_only_the_fit(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    interrupt_at_step(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        tiny(tiny_base).fit(TEXTS, NAMES)
    assert capfd.readouterr() == ("", "")


def test_parameters_of_every_kind_reach_the_run(tiny_base: Path) -> None:
    random = np.random.RandomState(3)
    model = tiny(tiny_base, random_state=random, rank=3, overrides={"model.dropout": 0.25}, recipe="quickstart")
    config = model.fit(TEXTS, NAMES)._classifier.config
    assert (config.lora.rank, config.model.dropout, config.model.ngram_buckets) == (3, 0.25, 8192)
    assert config.seed == np.random.RandomState(3).randint(2**31)


# Errors


@pytest.mark.parametrize(
    ("X", "y", "problem"),
    [
        (TEXTS, None, "requires y to be passed"),
        (TEXTS, ["a"] * len(TEXTS), "expected two classes or more in y, found only one"),
        (TEXTS, [np.nan, *NAMES[1:]], r"expected a label in y for every text, missing are 1: rows \[0\]"),
        (TEXTS, pd.Series([NAMES[0], None, *NAMES[2:]]), r"missing are 1: rows \[1\]"),
        (TEXTS, NAMES[:-1], "inconsistent numbers of samples"),
        ("one text", ["a"], "expected a 1-D sequence of texts, found str"),
        (np.zeros((4, 3)), [0, 1, 0, 1], r"found an array of shape \(4, 3\)"),
        (None, [0, 1], "expected a 1-D sequence of texts, found None"),
        (b"ab", [0, 1], "found bytes: decode it, and wrap it in a list"),
        ((text for text in "ab"), [0, 1], r"found a generator: wrap it in list\(\.\.\.\)"),
        ({"a", "b"}, [0, 1], "found a set, which has no order: give a list"),
        ({"a": 0, "b": 1}.keys(), [0, 1], r"found a dict_keys: wrap it in list\(\.\.\.\)"),
        ({"text": ["a", "b"]}, [0, 1], "found dict: give one column of it"),
        (pd.DataFrame({"a": ["x", "y"], "b": ["x", "y"]}), [0, 1], r"found an array of shape \(2, 2\)"),
        ([["a"], ["b", "c"]], [0, 1], "row 0: expected a str, found list"),
        (["a", "half \ud800 pair"], [0, 1], "row 1: half a surrogate pair"),
        (["a", 3, None], [0, 1, 0], "row 1: expected a str, found int\nrow 2: expected a str, found NoneType"),
        ([], [], "found 0 texts"),
        (["a", ""] * 10, [0, 1] * 10, "row 2: the text is empty"),
    ],
)
def test_rows_that_cannot_be_used_are_a_value_error(X: Any, y: Any, problem: str, tiny_base: Path) -> None:
    with pytest.raises(ValueError, match=problem):
        tiny(tiny_base).fit(X, y)


def test_predict_refuses_the_same(fitted: TextClassifier) -> None:
    for method in (fitted.predict, fitted.predict_proba):
        with pytest.raises(ValueError, match=r"found a generator: wrap it in list\(\.\.\.\)"):
            method(text for text in TEXTS)
        with pytest.raises(ValueError, match="row 1: half a surrogate pair"):
            method(["a", "half \ud800 pair"])


def test_so_are_parameters(tiny_base: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.epochs: expected at least 1, found 0"):
        tiny(tiny_base, epochs=0).fit(TEXTS, NAMES)
    with pytest.raises(ValueError, match="no_such_base"):
        tiny(Path("./no_such_base")).fit(TEXTS, NAMES)


def test_a_fit_that_fails_leaves_what_was_there(tiny_base: Path) -> None:
    model = tiny(tiny_base, epochs=0)
    with pytest.raises(ValueError, match=r"train\.epochs"):
        model.fit(TEXTS, NAMES)
    with pytest.raises(NotFittedError):
        model.predict(TEXTS)
    before = model.set_params(epochs=1).fit(TEXTS, NAMES).predict(TEXTS)
    with pytest.raises(ValueError, match=r"train\.epochs"):
        model.set_params(epochs=0).fit(TEXTS, np.char.add("new ", NAMES))
    assert (model.predict(TEXTS) == before).all()


# scikit-learn's own checks


class OfNumbers(TextClassifier):
    """Rows of numbers, written out as words: what scikit-learn's checks feed an estimator with."""

    def fit(self, X: Any, y: Any) -> "OfNumbers":
        validate_data(self, X)
        super().fit(X, y)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        validate_data(self, X, reset=False)
        return super().predict_proba(X)

    def _texts(self, X: Any) -> list[str]:
        X = validate_data(self, X, reset=not hasattr(self, "n_features_in_"), skip_check_array=False)
        words = [("of", "oil", "stock", "market"), ("and", "team", "game", "coach"), ("to", "war", "vote", "army")]
        return [
            " ".join(words[place % 3][int(np.digitize(value, [-1, 0, 1]))] for place, value in enumerate(row))
            for row in X
        ]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = True, False, False
        tags.classifier_tags.poor_score = True  # four words a number
        return tags


def test_scikit_learn_s_checks_on_texts(tiny_base: Path) -> None:
    tags = get_tags(tiny(tiny_base))
    assert tags.input_tags.string and not tags.input_tags.two_d_array and tags.target_tags.required
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # most checks are of 2-D numbers, and say that they do not apply
        assert [check["status"] for check in check_estimator(tiny(tiny_base), on_fail=None)].count("failed") == 0


def test_scikit_learn_s_checks_on_numbers_written_as_words(tiny_base: Path) -> None:
    estimator = OfNumbers(base=tiny_base, epochs=1, max_length=16, batch_size=64, rank=1, precision="fp32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checks = check_estimator(estimator, on_fail=None, on_skip=None)
    failed = {check["check_name"]: str(check["exception"])[:300] for check in checks if check["status"] == "failed"}
    assert failed == {}  # none is expected to fail, so none is excused
    assert sum(check["status"] == "passed" for check in checks) > 40
