"""Robustness of a saved classifier: noise, style, attack, and rows of another kind."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from submillion.data.columns import Columns
from submillion.data.labelled import Rows
from submillion.errors import ConfigError
from submillion.evaluation import suite
from submillion.evaluation.shift import check_label_map, measure_shift, read_shifted
from submillion.inference.classifier import Classifier
from submillion.runtime.distributed import World
from submillion.runtime.progress import progress
from submillion.seeds import numpy_generator


@dataclass(frozen=True)
class RobustnessOptions:
    rows: int = 500  # drawn from the measured rows for noise, style and attack; 0 takes all
    shift: tuple[str, ...] = ()  # labelled sources of another kind
    label_map: tuple[str, ...] = ()  # "theirs=ours", for labels of these sources
    seed: int = 0
    assets: Path = Path("assets")  # folder of the plots


def check_options(options: RobustnessOptions, label_names: Sequence[str]) -> dict[str, str]:
    """Returns the label map as a dict.

    Raises ConfigError for an entry that is not theirs=ours, for a map without a source, and for rows below 0.
    """
    label_map = check_label_map(options.label_map, label_names)
    if label_map and not options.shift:
        raise ConfigError(
            "--label-map: expected a source whose labels it renames, found no --shift\nfix: add --shift SOURCE"
        )
    if options.rows < 0:
        raise ConfigError(f"--robustness-rows: expected 0 (all) or more, found {options.rows}")
    return label_map


def measure_robustness(
    classifier: Classifier,
    rows: Rows,
    options: RobustnessOptions,
    batch_size: int,
    world: World,
    text_column: str = "",
    label_column: str = "",
) -> dict[str, Any]:
    """Returns what `suite.measure` returns for the drawn rows, with of_rows, the number they are drawn from.

    If options name sources of another kind, "shift" holds {source: `measure_shift`} too. text_column, label_column: as
    for `rows`; a source that has these columns is read by them. Raises SubmillionError.
    """
    label_map = check_options(options, classifier.label_names)

    def logits_of(title: str, texts: Sequence[str]) -> np.ndarray:
        with progress(title, len(texts), world.is_first) as advance:
            return classifier.logits(texts, batch_size, advance, world)

    def probabilities_of(title: str, texts: Sequence[str]) -> np.ndarray:
        return classifier.probabilities(logits_of(title, texts))

    # The sources are read first: a mistake in one should not show after minutes of noise.
    named = Columns(text_column, label_column)
    shifted = read_shifted(options.shift, classifier.task, label_map, named, classifier.columns)
    order = numpy_generator(options.seed, "robustness").permutation(len(rows.texts))
    drawn = np.sort(order[: options.rows or None])
    texts = [rows.texts[index] for index in drawn]
    measured = suite.measure(classifier.task, probabilities_of, texts, rows.labels[drawn], options.seed)
    measured["of_rows"] = len(rows.texts)
    if shifted:
        measured["shift"] = {
            name: measure_shift(classifier.task, logits_of(name, part.rows.texts), part)
            for name, part in shifted.items()
        }
    return measured
