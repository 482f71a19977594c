"""The model card: README.md beside model.pt, with the metadata that the Hugging Face hub reads.

Names that a user gave are escaped, and of local paths only the last part is shown. What lies between two marks belongs
to `evaluate --robustness` (card_file.py); everything else in the file is its owner's, until the next training run.
"""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from submillion.config.schema import IN_MEMORY, Config
from submillion.config.values import flat, shown
from submillion.data.short_names import short_name
from submillion.report.card_data import MOST_LABELS, data_section
from submillion.report.card_file import between_marks
from submillion.report.card_results import results_section
from submillion.report.card_robustness import NOT_MEASURED
from submillion.report.markdown import line, listed, table, text
from submillion.report.plan import parts
from submillion.report.sentences import after_the_kept_step
from submillion.training.result import RunResult
from submillion.training.run import Run

# Settings that are shown even at their default; others are shown if they are not.
ALWAYS = {"model.head", "model.max_length", "lora.rank", "lora.targets", "seed"}
ALWAYS |= {f"train.{name}" for name in ("learning_rate", "epochs", "batch_size", "precision")}
# Settings that other parts of the card show.
ELSEWHERE = ("model.base", "data.source", "data.unlabelled", "data.label_names")


def run_title(config: Config) -> str:
    """Returns the base and the source by their short names."""
    return f"{short_name(config.model.base)} on {short_name(config.data.source)}"


def render_card(run: Run, result: RunResult, base: Mapping[str, str], plots: Sequence[str]) -> str:
    """Returns the card of a run, Markdown with YAML before it.

    base: as the artefact holds it. plots: names of files that lie beside the card.
    """
    parameters = [row for section in parts(run.spec, run.adapters, run.plan, run.config.budget) for row in section]
    sections = {
        "Use": _use(run.config, base),
        "Data": data_section(run, result),
        "Recipe": _recipe(run, result),
        "Parameters": table(("part", "parameters", ""), parameters, [1]),
        "Results": results_section(run, result, plots),
        "Robustness": between_marks(NOT_MEASURED),
        "Limits": "\n".join(f"- {limit}" for limit in _limits(run, result)),
    }
    body = "\n\n".join(f"## {title}\n\n{content}" for title, content in sections.items())
    title = text(run_title(run.config))
    return f"---\n{_metadata(run, result, base)}\n---\n\n# {title}\n\n{_opening(run, result)}\n\n{body}\n"


def _metadata(run: Run, result: RunResult, base: Mapping[str, str]) -> str:
    """Returns the YAML of the hub, without its fences. Nothing in it is guessed: no language, no licence."""
    from huggingface_hub import ModelCardData

    figures = _eval_results(run, result)
    data = ModelCardData(
        base_model=base["name"] if base["revision"] else None,  # only a hub id has a revision
        base_model_relation="adapter" if base["revision"] else None,
        library_name="submillion",
        pipeline_tag="text-classification",
        tags=["submillion", "lora"],
        datasets=[run.corpus.hub_id] if run.corpus.hub_id else None,
        metrics=[figure.metric_type for figure in figures] or None,
        model_name=line(run_title(run.config)),
        eval_results=figures or None,
    )
    if not figures:
        del data.model_name  # without figures it would become a key of its own
    return data.to_yaml(line_break="\n")


def _eval_results(run: Run, result: RunResult) -> list[Any]:
    from huggingface_hub import EvalResult

    if not result.headline:
        return []
    (split, metrics), source, hub_id = result.headline, run.config.data.source, run.corpus.hub_id
    held_out = split in run.corpus.cut
    dataset: dict[str, Any] = {
        "task_type": "text-classification",
        "task_name": "Text Classification",
        "dataset_type": hub_id or "custom",
        "dataset_name": line(short_name(source)) + (f" ({split} rows held out)" if held_out else ""),
        "dataset_revision": (hub_id and source.partition("@")[2]) or None,
        "dataset_split": None if held_out else split,  # a split of the data set is something else than our cut
    }
    accuracy, f1, macro = metrics["accuracy"], metrics["macro_f1"], {"average": "macro"}
    return [
        EvalResult(**dataset, metric_type="accuracy", metric_name="accuracy", metric_value=accuracy),
        EvalResult(**dataset, metric_type="f1", metric_name="macro-F1", metric_value=f1, metric_args=macro),
    ]


def _opening(run: Run, result: RunResult) -> str:
    labels = run.task.label_names
    names = ", ".join(map(text, labels[:MOST_LABELS]))
    more = f" and {len(labels) - MOST_LABELS} more" if len(labels) > MOST_LABELS else ""
    trained = ["low-rank adapters (LoRA)"] * (run.adapters.rank != 0) + ["a head"]
    trained += [f"a table of {run.spec.ngram_buckets:,} n-grams"] * (result.ngram_weight is not None)
    if layers := run.spec.unfreeze_layers:
        trained.append("the last encoder layer in full" if layers == 1 else f"the last {layers} encoder layers in full")
    return (
        f"A text classifier. It answers with one of {len(labels)} labels: {names}{more}.\n\n{_score(result)} It is the "
        f"pretrained encoder {text(short_name(run.config.model.base))} with {result.parameters['trainable']:,} trained "
        f"parameters: {listed(trained)}."
    )


def _score(result: RunResult) -> str:
    if result.headline:
        split, metrics = result.headline
        return f"Right on **{metrics['accuracy']:.2%}** of {metrics['rows']:,} {split} rows."
    if crossed := result.cross_validation:
        return (
            f"No rows were held out. By cross-validation, models like it are right on "
            f"**{crossed.metrics['accuracy']:.0%}** of {crossed.metrics['rows']:,} rows that they did not learn from."
        )
    return "Its accuracy was not measured: no rows were held out."


def _use(config: Config, base: Mapping[str, str]) -> str:
    folder = line(Path(config.output.dir).resolve().name) or "."
    return (
        f"```bash\nsubmillion predict texts.csv --model {shlex.quote(folder)} --scores\n```\n\n"
        "```python\nfrom submillion import Classifier\n\n"
        f"model = Classifier.load({json.dumps(folder, ensure_ascii=False)})  # the folder of this card\n"
        'texts = ["a text like those it was trained on", "another"]\n'
        "model.predict(texts)  # the name of a label for each\n"
        "model.predict_proba(texts)  # float32 [rows, labels], the columns as in model.label_names\n```\n\n"
        "`model.pt` holds what was trained, the tokenizer and the labels, but not the encoder. "
        f"{_encoder_place(base)} Another encoder is refused: the SHA-256 of its weights has to be "
        f"`{base['weights_sha256']}`."
    )


def _encoder_place(base: Mapping[str, str]) -> str:
    """Returns where the encoder comes from, and what to do if it is somewhere else."""
    name, revision = text(short_name(base["name"])), base["revision"]
    if revision:
        address = f"https://huggingface.co/{base['name']}"
        return f"The encoder is [{name}]({address}) on the hub, at revision {text(revision)}."
    if base["name"].startswith("package:"):
        return f"The encoder comes from the Python package {name}, which has to be installed."
    return (
        f"The encoder was a local folder, {name}. Elsewhere, say where it is: `--base DIR` in the shell, "
        "`Classifier.load(..., base=DIR)` in Python."
    )


def _recipe(run: Run, result: RunResult) -> str:
    values, defaults = flat(run.config), flat(Config())
    keys = [key for key in values if key not in ELSEWHERE and not key.startswith("output.")]
    # "auto" alone would not say what was trained.
    resolved = {"lora.rank": f": {result.rank}", "train.precision": f": {result.precision}"}
    cells = {key: shown(values[key]) + (resolved.get(key, "") if values[key] == "auto" else "") for key in keys}
    rows = [(key, cells[key]) for key in keys if values[key] != defaults[key]]
    rows += [(key, f"{cells[key]} (default)") for key in keys if key in ALWAYS and values[key] == defaults[key]]
    reads = "the mean over all tokens" if run.spec.pooling == "mean" else "the first token"
    scale = f" Adapters are scaled by {run.adapters.alpha / run.adapters.rank:g}." if run.adapters.rank else ""
    source = " --data.source FILE`, a file with the rows it was given," if run.config.data.source == IN_MEMORY else "`"
    why = "the one of the lowest validation loss" if result.validation else "the last"
    return (
        f"{table(('setting', 'value'), rows)}\n\nThe head reads {reads}.{scale}\n\n"
        f"[config.toml](config.toml) holds every setting; `submillion train --recipe config.toml{source} trains the "
        f"model again. Step {result.best_step:,} of {result.steps:,} was kept, {why}{after_the_kept_step(run, result)}."
    )


def _limits(run: Run, result: RunResult) -> Iterator[str]:
    yield (
        "Made for texts like the training rows, in their language and of their kind; on others it may be wrong and "
        "sure of it. Which languages those are was not determined."
    )
    yield f"It always answers with one of its {len(run.task.label_names)} labels, also if none fits."
    reader, beyond = "it", ""
    if result.ngram_weight is not None:
        reader, beyond = "its encoder", "; what lies beyond is read by its n-grams alone"
    windows = ""
    if result.window:
        windows = f" More than {result.window} it reads in equal windows, whose logits are averaged."
    yield (
        f"Of a text {reader} reads the first {run.spec.max_length:,} tokens, special ones included, and no more"
        f"{beyond}.{windows}"
    )
    if run.tokenizer.spelling:
        yield (
            "A word of four letters or more that the training texts do not hold is read as the most frequent of theirs "
            "that is one letter from it, if there is one, so a name that is new may be read as another. `model.pt` "
            "holds the words of the training texts, the most frequent first: whoever has the file can read them."
        )
    yield (
        "Whether the licences of the encoder and of the texts allow a use was not checked. Neither were the texts "
        "checked for bias or for personal data."
    )
    yield "One run with one seed: how much the figures move from run to run was not measured."
    if result.validation and not result.test:
        yield "There were no test rows. The validation rows chose the step that was kept, so their figures flatter it."
