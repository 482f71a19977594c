"""submillion: fine-tune text classifiers with fewer than a million trainable parameters.

    from submillion import Classifier, train
    result = train("quickstart")
    Classifier.load("best_model").predict(["Oil prices climb as OPEC meets"])

Importing the package imports neither torch nor datasets: both names load their module on first use.
"""

from importlib import import_module

__version__ = "0.2.0"
__all__ = ["Classifier", "train"]

_HOME = {"Classifier": "submillion.inference.classifier", "train": "submillion.commands.train"}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'submillion' has no attribute {name!r}")
