"""The command quickstart: trains on real news, then predicts the held-out rows from a file, as a newcomer would."""

import csv
from pathlib import Path
from typing import Any

from submillion.atomic import write_atomically
from submillion.commands.predict import predict_file
from submillion.commands.train import train_resolved
from submillion.config.resolve import Resolved, combine
from submillion.console import terminal
from submillion.data.corpus import load_corpus
from submillion.errors import ConfigError
from submillion.report.summary import print_summary
from submillion.runtime.distributed import join


def quickstart(resolved: Resolved) -> None:
    """Trains, predicts the test rows from a file with the saved model, and shows the result.

    Raises ConfigError if no rows are held out to predict, and what training and prediction raise.
    """
    config = resolved.config
    corpus = load_corpus(config.data, config.seed)
    if not corpus.test.texts:
        raise ConfigError("the quickstart predicts held-out rows\nfix: leave out --data.test-fraction 0")
    with join() as world:
        trained = train_resolved(resolved, corpus, summary=False)
        unlabelled, predictions = trained.folder / "test_unlabelled.csv", Path("predictions.csv")
        if world.is_first:
            with write_atomically(unlabelled) as file:
                csv.writer(file).writerows([["text"], *([text] for text in corpus.test.texts)])
        world.wait()
        predict_file(unlabelled, trained.folder, predictions)
        if world.is_first:
            print_summary(trained.result, trained.run, terminal(), predictions)


def run(values: dict[str, Any], words: list[str], recipe: str) -> None:
    """Runs `submillion quickstart` with these flags."""
    quickstart(combine(values.pop("recipe", "") or recipe, flags=values))
