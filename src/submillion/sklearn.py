"""Trains and predicts as a scikit-learn estimator: for Pipeline, cross_val_score, GridSearchCV, clone and pickle.

    from submillion.sklearn import TextClassifier
    cross_val_score(TextClassifier("quickstart", rank=8, learning_rate=1e-3), texts, labels)

Importing it imports scikit-learn; torch waits for the first fit.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from submillion.config.resolve import Resolved, resolve
from submillion.config.schema import IN_MEMORY
from submillion.data.tables import is_missing
from submillion.data.texts import described, listed, texts_of
from submillion.errors import DataError, SubmillionError

if TYPE_CHECKING:
    from sklearn.utils import Tags

    from submillion.commands.train import TrainResult
    from submillion.inference.classifier import Classifier

_KEYS = {  # parameter -> setting
    "base": "model.base",
    "head": "model.head",
    "max_length": "model.max_length",
    "rank": "lora.rank",
    "targets": "lora.targets",
    "learning_rate": "train.learning_rate",
    "epochs": "train.epochs",
    "batch_size": "train.batch_size",
    "class_weights": "train.class_weights",
    "precision": "train.precision",
    "validation_fraction": "data.validation_fraction",
}


class TextClassifier(ClassifierMixin, BaseEstimator):
    """Classifies texts, with fewer than a million trainable parameters.

    recipe: a shipped recipe's name or a .toml file. Every other parameter that is not None replaces the recipe's value
    of the same name: `submillion train --help` explains each. overrides: any other value, {"model.dropout": 0.0}.
    random_state: None is the recipe's seed, so that equal fits give equal models. verbose: print what training prints.

    After fit: classes_, the labels in the order of predict_proba's columns; metrics_, as in metrics.json; artefact_,
    the bytes of model.pt, which is what a pickle holds. Nothing is left in the working directory.
    """

    def __init__(
        self,
        recipe: str | Path | None = None,
        *,
        base: str | Path | None = None,
        head: str | None = None,
        max_length: int | None = None,
        rank: int | str | None = None,
        targets: Sequence[str] | None = None,
        learning_rate: float | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        class_weights: str | None = None,
        precision: str | None = None,
        validation_fraction: float | None = None,
        random_state: int | np.random.RandomState | None = None,
        overrides: Mapping[str, object] | None = None,
        verbose: bool = False,
    ) -> None:
        self.recipe = recipe
        self.base = base
        self.head = head
        self.max_length = max_length
        self.rank = rank
        self.targets = targets
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.class_weights = class_weights
        self.precision = precision
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.overrides = overrides
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> "TextClassifier":
        """Trains on texts and their labels.

        X: a 1-D sequence of str (a list, an array, a Series) or one column of them; y: [rows], strings, numbers or
        booleans. Raises ValueError for rows, labels or parameters that cannot be used.
        """
        texts = self._texts(X)
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        missing = [row for row, label in enumerate(np.asarray(y, dtype=object).ravel()) if is_missing(label)]
        if missing:  # in an array of strings NaN would be a class of that name
            raise ValueError(f"expected a label in y for every text, missing are {len(missing)}: rows {missing[:8]}")
        y = column_or_1d(y, warn=True)
        check_consistent_length(texts, y)
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"expected two classes or more in y, found only one class: {classes[0]!r}")
        with TemporaryDirectory(prefix="submillion-") as folder:
            try:
                result = self._train(texts, labels, classes, folder)
            except SubmillionError as error:
                raise ValueError(str(error)) from error
            artefact = (result.folder / "model.pt").read_bytes()
        # All at once: a fit that fails leaves the model of the last one whole.
        self.classes_, self.artefact_, self.metrics_ = classes, artefact, result.metrics
        self._classifier = result.classifier
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Returns the class of each text, [rows], of y's dtype. Raises ValueError for rows that cannot be used."""
        check_is_fitted(self, "artefact_")
        classifier = self._loaded()
        return self.classes_[classifier.task.decode(classifier.logits(self._texts(X)))]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Returns float32 [rows, classes] in the order of classes_, each row summing to 1.

        Raises ValueError for rows that cannot be used.
        """
        check_is_fitted(self, "artefact_")
        return self._loaded().predict_proba(self._texts(X))

    def _train(self, texts: list[str], labels: np.ndarray, classes: np.ndarray, folder: str) -> "TrainResult":
        """Trains in the folder. labels: int64 [rows], indices into classes."""
        from submillion.commands.train import train_resolved
        from submillion.runtime.progress import quiet

        names = [str(name).strip() for name in classes]
        if not all(names) or len(set(names)) < len(names):
            names = [f"class {index}" for index in range(len(names))]
        resolved = self._resolved(folder, names)
        with nullcontext() if self.verbose else quiet():
            data = {"text": texts, "label": [names[label] for label in labels]}
            trained = train_resolved(resolved, data, summary=self.verbose)
        if trained.metrics["interrupted"]:  # whoever presses Ctrl-C in a grid search wants none of the fits to come
            raise KeyboardInterrupt
        return trained

    def _resolved(self, folder: str, names: list[str]) -> Resolved:
        """Returns the run's configuration. A local base gets its whole path: a pickle finds it from anywhere."""
        values = {key: getattr(self, name) for name, key in _KEYS.items() if getattr(self, name) is not None}
        values = {key: value.item() if isinstance(value, np.generic) else value for key, value in values.items()}
        if isinstance(self.random_state, np.random.RandomState):
            values["seed"] = int(self.random_state.randint(2**31))
        elif self.random_state is not None:
            values["seed"] = int(self.random_state)
        values |= {"output.dir": f"{folder}/best_model", "data.test_fraction": 0.0}
        values |= self.overrides or {}
        values |= {"data.source": IN_MEMORY, "data.label_names": names}
        values |= {"data.text_column": "text", "data.label_column": "label"}
        resolved = resolve(recipe=self.recipe, overrides=values)
        model = resolved.config.model
        base = Path(model.base).expanduser()
        if not base.is_dir():
            return resolved
        model = replace(model, base=str(base.absolute()))
        return replace(resolved, config=replace(resolved.config, model=model))

    def _loaded(self) -> "Classifier":
        """Returns the classifier of the fit, or the artefact's if this object came out of a pickle."""
        if "_classifier" not in vars(self):
            from submillion.inference.classifier import Classifier

            with TemporaryDirectory(prefix="submillion-") as folder:
                path = Path(folder) / "model.pt"
                path.write_bytes(self.artefact_)
                self._classifier = Classifier.load(path)
        return self._classifier

    def _texts(self, X: Any) -> list[str]:
        """Returns X, a sequence of texts or a table of one column of them, as a list of str.

        Raises ValueError for anything else, as scikit-learn's estimators do, naming the first rows that are no text.
        """
        shape = tuple(getattr(X, "shape", ()))
        if len(shape) == 2 and shape[1:] == (1,):
            X = np.asarray(X, dtype=object)[:, 0]
        elif len(shape) > 1:
            raise ValueError(f"expected a 1-D sequence of texts, found an array of shape {shape}")
        if listed(X) is None:
            raise ValueError(f"expected a 1-D sequence of texts, found {described(X)}")
        try:
            texts = texts_of(X)
        except DataError as error:
            raise ValueError(str(error)) from None
        if not texts:
            raise ValueError("found 0 texts, expected one or more")
        return texts

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a pickle holds: all but the network, which the artefact and the pretrained weights give back."""
        return {name: value for name, value in super().__getstate__().items() if name != "_classifier"}

    def __sklearn_tags__(self) -> "Tags":
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        return tags
