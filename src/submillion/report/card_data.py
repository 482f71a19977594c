"""The card's section on data: rows by label, where they come from, and what each split was used for."""

from collections.abc import Iterator
from itertools import chain

from submillion.data.short_names import short_name
from submillion.report.markdown import listed, table, text
from submillion.training.result import RunResult
from submillion.training.run import Run

MOST_LABELS = 50  # rows of a table by label
NAMED_LABELS = 10  # in a sentence


def data_section(run: Run, result: RunResult) -> str:
    """Returns the section as Markdown."""
    splits = run.corpus.splits()
    counts = [run.task.count(rows.labels) for rows in splits.values()]
    lines = [("all labels", *(f"{len(rows.texts):,}" for rows in splits.values()))]
    lines += [(name, *(f"{count[place]:,}" for count in counts)) for place, name in enumerate(run.task.label_names)]
    sentences = chain(_source(run), _trained_too(run, result), _use_of_splits(result))
    return "\n\n".join(
        [
            " ".join(sentences),
            table(("rows", *splits), lines, [1, 2, 3], MOST_LABELS + 1),
            f"Terms of the texts: {text(run.corpus.notice) or 'not known'}.",
        ]
    )


def _source(run: Run) -> Iterator[str]:
    name, hub_id = text(short_name(run.config.data.source)), run.corpus.hub_id
    yield f"Source: [{name}](https://huggingface.co/datasets/{hub_id})." if hub_id else f"Source: {name}."
    if run.corpus.cut:
        yield (
            f"The {' and '.join(run.corpus.cut)} rows were cut from its training rows, by label; near-equal texts were "
            "kept on one side."
        )


def _trained_too(run: Run, result: RunResult) -> Iterator[str]:
    """Yields what the model learned from beside the training rows."""
    if result.label_names and result.label_names.read:
        yield "Each label's name trained the model too, in a sentence."
    if texts := result.self_labelled:
        yield (
            f"Beside its training rows, {texts.trained:,} of {len(run.corpus.unlabelled):,} unlabelled texts of "
            f"{text(short_name(run.config.data.unlabelled))} trained the model, with labels that it gave them itself."
        )
        if texts.proportions:
            shares = sorted(texts.proportions.items(), key=lambda item: -item[1])
            names = [f"{text(name)} {share:.0%}" for name, share in shares]
            if len(names) > NAMED_LABELS:
                names[NAMED_LABELS:] = [f"{len(names) - NAMED_LABELS:,} labels more"]
            yield f"It gave them in other proportions than its training rows have: {listed(names)}."


def _use_of_splits(result: RunResult) -> Iterator[str]:
    if result.validation:
        chosen = ["the step that was kept"]
        chosen += ["the weight of the n-grams"] * (result.ngram_weight not in (None, 1.0))
        chosen += ["the temperature of the probabilities"] * (result.temperature.fitted_to == "validation")
        yield f"The validation rows chose {listed(chosen)}."
    if result.test:
        yield "The test rows were read once, at the end."
