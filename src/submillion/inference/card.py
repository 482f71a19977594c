"""The model card: README.md beside model.pt, with the metadata that the Hugging Face hub reads.

Names that a user gave are escaped, and of local paths only the last part is told. What lies between two marks belongs
to `evaluate --robustness`; everything else in the file is its owner's, until the next training run.
"""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from submillion.atomic import write_atomically
from submillion.config import IN_MEMORY, Config, flat, shown
from submillion.data.corpus import Corpus
from submillion.inference.calibration import LEAST_CROSSED, LEAST_ROWS, LEAST_TEXTS
from submillion.inference.markdown import line, table, text
from submillion.inference.plan import parts
from submillion.model.budget import Plan
from submillion.robustness.noise import STRENGTHS

FILE_NAME = "README.md"
BEGIN, END = "<!-- robustness: evaluate --robustness writes what follows -->", "<!-- robustness: end -->"
MOST_LABELS = 50  # rows of a table by label
NAMED_LABELS = 10  # in a sentence
# Told even where they are the default; of the rest of the configuration, what is not.
ALWAYS = {"model.head", "model.pooling", "model.max_length", "lora.rank", "lora.alpha", "lora.targets", "seed"}
ALWAYS |= {f"train.{name}" for name in ("learning_rate", "epochs", "batch_size", "precision")}
# In other parts of the card.
ELSEWHERE = ("model.base", "model.revision", "data.source", "data.unlabelled", "data.teacher", "data.label_names")
_NOT_MEASURED = (
    "Not measured. `submillion evaluate --data.source FILE --robustness --model DIR`, with this folder as DIR, "
    "measures noise, style, shift and an attack, and writes what it finds here."
)
ABOUT = {"loss": "training and validation loss", "accuracy": "training and validation accuracy"}
ABOUT |= {"reliability": "confidence against accuracy", "coverage": "accuracy on the surest rows"}
ABOUT |= {"noise": "accuracy under each kind of noise"}


def render_card(
    config: Config,
    base: Mapping[str, str],
    corpus: Corpus,
    plan: Plan,
    metrics: Mapping[str, Any],
    plots: Sequence[str],
) -> str:
    """The card of a run as Markdown with YAML before it. It reads nothing but its arguments, and raises nothing.

    config: resolved. base: as the artefact holds it. metrics: the content of metrics.json. plots: names of files that
    lie beside the card.
    """
    sections = {
        "Use": _use(config, base),
        "Data": _data(config, corpus, metrics),
        "Recipe": _recipe(config, metrics),
        "Parameters": table(("part", "parameters", ""), [row for part in parts(config, plan) for row in part], [1]),
        "Results": _results(metrics, corpus, plots),
        "Robustness": f"{BEGIN}\n\n{_NOT_MEASURED}\n\n{END}",
        "Limits": _limits(config, metrics, len(corpus.label_names)),
    }
    body = "\n\n".join(f"## {title}\n\n{content}" for title, content in sections.items())
    front = _metadata(config, base, corpus, metrics)
    return f"---\n{front}\n---\n\n# {text(_title(config))}\n\n{_opening(config, corpus, metrics)}\n\n{body}\n"


def render_robustness(metrics: Mapping[str, Any], source: str, adapter_scale: float, plots: Sequence[str]) -> str:
    """What stands between the marks: metrics as `evaluate_source` returns them, measured on `source`."""
    found, calibration = metrics["robustness"], metrics["calibration"]
    surest = ", ".join(
        f"{right:.1%} of the surest {float(share):.0%}"
        for share, right in calibration["coverage"].items()
        if float(share) < 1
    )
    told = [
        f"Measured on {text(short_name(source))}: {found['rows']:,} of {found['of_rows']:,} rows, drawn with seed "
        f"{found['seed']}" + (f", with --adapter-scale {adapter_scale:g}." if adapter_scale != 1 else "."),
        table(("measure", "rows", "accuracy"), list(_measures(found)), [1, 2]),
        f"On all {metrics['rows']:,} rows: accuracy {metrics['accuracy']:.2%} ({surest}), calibration error (ECE, 15 "
        f"bins) {calibration['ece']:.2%} at temperature {calibration['temperature']:.2f}.",
        *([] if "shift" in found else ["Rows of another kind were not measured."]),
        *_pictures(plots),
    ]
    return "\n\n".join(told)


def put_beside(folder: Path, plots: Sequence[Path]) -> None:
    """Copies the plots to where the card is, for the hub to show them. Raises OSError."""
    for plot in plots:
        if plot.resolve() != (folder / plot.name).resolve():
            with write_atomically(folder / plot.name, "wb") as file:
                file.write(plot.read_bytes())


def refresh_card(model: Path, section: str, plots: Sequence[Path]) -> Path | None:
    """Replaces what stands between the marks of the model's card, and puts the plots beside it; returns its path.

    None, and nothing is written, where the folder has no card with both marks: it is not of this version's making, or
    its owner wants it otherwise. Raises OSError where it cannot be written.
    """
    path = (model if model.is_dir() else model.parent) / FILE_NAME
    try:
        card = path.read_bytes().decode()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    before, begin, rest = card.rpartition(BEGIN)  # the last: in the metadata a name may say anything
    _, end, after = rest.partition(END)
    if not (begin and end):
        return None
    put_beside(path.parent, plots)
    with write_atomically(path) as file:
        file.write(f"{before}{BEGIN}\n\n{section}\n\n{END}{after}")
    return path


def short_name(name: str) -> str:
    """A source or a base without the folders it lies in, which say more about a machine than about a model."""
    path = Path(name).expanduser()
    if path.exists() or name.startswith((".", "/", "~")):
        return path.resolve().name or name
    return name.removeprefix("package:")


# The parts


def _title(config: Config) -> str:
    return f"{short_name(config.model.base)} on {short_name(config.data.source)}"


def _metadata(config: Config, base: Mapping[str, str], corpus: Corpus, metrics: Mapping[str, Any]) -> str:
    """The YAML of the hub, without its fences. Nothing in it is guessed: no language, no licence."""
    from huggingface_hub import ModelCardData

    results = _eval_results(config, corpus, metrics)
    data = ModelCardData(
        base_model=base["name"] if base["revision"] else None,  # of a hub id alone
        base_model_relation="adapter" if base["revision"] else None,
        library_name="submillion",
        pipeline_tag="text-classification",
        tags=["submillion", "lora"],
        datasets=[corpus.hub_id] if corpus.hub_id else None,
        metrics=[result.metric_type for result in results] or None,
        model_name=line(_title(config)),
        eval_results=results or None,
    )
    if not results:
        del data.model_name  # which else becomes a key of its own
    return data.to_yaml(line_break="\n")


def _eval_results(config: Config, corpus: Corpus, metrics: Mapping[str, Any]) -> list[Any]:
    from huggingface_hub import EvalResult

    split = headline(metrics)
    if not split:
        return []
    held_out = split in corpus.cut
    dataset: dict[str, Any] = {
        "task_type": "text-classification",
        "task_name": "Text Classification",
        "dataset_type": corpus.hub_id or "custom",
        "dataset_name": line(short_name(config.data.source)) + (f" ({split} rows held out)" if held_out else ""),
        "dataset_revision": (corpus.hub_id and config.data.source.partition("@")[2]) or None,
        "dataset_split": None if held_out else split,  # a split of the data set is something else than our cut
    }
    found = metrics[split]
    return [
        EvalResult(**dataset, metric_type="accuracy", metric_name="accuracy", metric_value=found["accuracy"]),
        EvalResult(
            **dataset,
            metric_type="f1",
            metric_name="macro-F1",
            metric_value=found["macro_f1"],
            metric_args={"average": "macro"},
        ),
    ]


def _opening(config: Config, corpus: Corpus, metrics: Mapping[str, Any]) -> str:
    names = [text(name) for name in corpus.label_names[:MOST_LABELS]]
    more = f" and {len(corpus.label_names) - MOST_LABELS} more" if len(corpus.label_names) > MOST_LABELS else ""
    trained = f"{metrics['parameters']['trainable']:,} trained parameters"
    parts = ["low-rank adapters (LoRA)"] * (config.lora.rank != 0) + ["a head"]
    parts += [f"a table of {config.model.ngram_buckets:,} n-grams"] * ("ngram_weight" in metrics)
    if opened := config.model.opened_layers:
        parts.append("the last encoder layer in full" if opened == 1 else f"the last {opened} encoder layers in full")
    by = _listed(parts)
    split = headline(metrics)
    score = "Its accuracy was not measured: no rows were held out."
    if crossed := metrics.get("cross_validation"):
        score = (
            f"No rows were held out. By cross-validation, models like it are right on **{crossed['accuracy']:.0%}** of "
            f"{crossed['rows']:,} rows that they did not learn from."
        )
    if split:
        score = f"Right on **{metrics[split]['accuracy']:.2%}** of {metrics[split]['rows']:,} {split} rows."
    return (
        f"A text classifier. It answers with one of {len(corpus.label_names)} labels: {', '.join(names)}{more}.\n\n"
        f"{score} It is the pretrained encoder {text(short_name(config.model.base))} with {trained}: {by}."
    )


def _listed(items: Sequence[str]) -> str:
    """a, b and c"""
    return " and ".join(filter(None, (", ".join(items[:-1]), items[-1])))


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
        f"{_where(base)} Another encoder is refused: the SHA-256 of its weights has to be `{base['weights_sha256']}`."
    )


def _where(base: Mapping[str, str]) -> str:
    """Where the encoder comes from, and what to do where it is somewhere else."""
    name, revision = text(short_name(base["name"])), base["revision"]
    if revision:
        return (
            f"The encoder is [{name}](https://huggingface.co/{base['name']}) on the hub, at revision {text(revision)}."
        )
    if base["name"].startswith("package:"):
        return f"The encoder comes from the Python package {name}, which has to be installed."
    return (
        f"The encoder was a local folder, {name}. Elsewhere, say where it is: `--base DIR` in the shell, "
        "`Classifier.load(..., base=DIR)` in Python."
    )


def _data(config: Config, corpus: Corpus, metrics: Mapping[str, Any]) -> str:
    splits = {"training": corpus.train, "validation": corpus.validation, "test": corpus.test}
    counts = [np.bincount(rows.labels, minlength=len(corpus.label_names)) for rows in splits.values()]
    lines = [("all labels", *(f"{len(rows.texts):,}" for rows in splits.values()))]
    lines += [(name, *(f"{count[label]:,}" for count in counts)) for label, name in enumerate(corpus.label_names)]
    name = text(short_name(config.data.source))
    told = [f"[{name}](https://huggingface.co/datasets/{corpus.hub_id})" if corpus.hub_id else name]
    if corpus.cut:
        told.append(
            f"The {' and '.join(corpus.cut)} rows were cut from its training rows, by label; near-equal texts were "
            "kept on one side."
        )
    if metrics.get("label_names", {}).get("read"):
        told.append(f"Each label's name trained the model too, as a text: {text(config.data.label_template)}")
    if "self_labelled" in metrics:
        told.append(
            f"Beside its training rows, {metrics['self_labelled']:,} of {len(corpus.unlabelled):,} unlabelled texts "
            f"of {text(short_name(config.data.unlabelled))} trained the model, with labels that it gave them itself."
        )
    if "teacher_labelled" in metrics:
        told.append(
            f"Beside its training rows, {metrics['teacher_labelled']:,} of {len(corpus.unlabelled):,} unlabelled texts "
            f"of {text(short_name(config.data.unlabelled))} trained the model, with labels of another model, "
            f"{text(short_name(config.data.teacher))}."
        )
    if shares := metrics.get("label_proportions"):
        named = [f"{text(name)} {share:.0%}" for name, share in sorted(shares.items(), key=lambda each: -each[1])]
        if len(named) > NAMED_LABELS:
            named[NAMED_LABELS:] = [f"{len(named) - NAMED_LABELS:,} labels more"]
        told.append(f"It gave them in other proportions than its training rows have: {_listed(named)}.")
    if "validation" in metrics:
        chosen = ["the step that was kept"]
        chosen += ["the weight of the n-grams"] * (metrics.get("ngram_weight", 1.0) != 1.0)
        chosen += ["the temperature of the probabilities"] * (metrics.get("temperature_fitted_to") == "validation")
        told.append(f"The validation rows chose {_listed(chosen)}.")
    if "test" in metrics:
        told.append("The test rows were read once, at the end.")
    terms = text(corpus.notice) or "not known"
    shown_table = table(("rows", *splits), lines, [1, 2, 3], MOST_LABELS + 1)
    return "\n\n".join(
        [f"Source: {told[0]}. {' '.join(told[1:])}".rstrip(), shown_table, f"Terms of the texts: {terms}."]
    )


def _recipe(config: Config, metrics: Mapping[str, Any]) -> str:
    values, defaults = flat(config), flat(Config())
    keys = [key for key in values if key not in ELSEWHERE and not key.startswith("output.")]
    chosen = [(key, shown(values[key])) for key in keys if values[key] != defaults[key]]
    chosen += [
        (key, f"{shown(values[key])} (default)") for key in keys if key in ALWAYS and values[key] == defaults[key]
    ]
    rows = " --data.source FILE`, a file with the rows it was given," if config.data.source == IN_MEMORY else "`"
    why = "the one of the lowest validation loss" if "validation" in metrics else "the last"
    return (
        f"{table(('setting', 'value'), chosen)}\n\n"
        f"[config.toml](config.toml) holds every setting; `submillion train --recipe config.toml{rows} trains the "
        f"model again. Step {metrics['best_step']:,} of {metrics['steps']:,} was kept, {why}{stopped_early(metrics)}"
        f"{scaled(config)}."
    )


def scaled(config: Config) -> str:
    """What follows a sentence about the step that was kept, where its adapters were then made smaller."""
    scale = config.train.adapter_scale
    return f"; its adapters were then multiplied by {scale:g}" if config.lora.rank and scale != 1 else ""


def stopped_early(metrics: Mapping[str, Any]) -> str:
    """What follows a sentence about the steps where patience or Ctrl-C ended the training before its schedule did."""
    planned = metrics["planned_steps"]
    return f"; the schedule was made for {planned:,} steps" if metrics["steps"] < planned else ""


def _results(metrics: Mapping[str, Any], corpus: Corpus, plots: Sequence[str]) -> str:
    split = headline(metrics)
    encoder_alone = "The plots are of the training of adapters and head, without the n-grams, which came after."
    pictures = [encoder_alone] * ("ngram_weight" in metrics) + list(_pictures(plots))
    if not split:
        told = list(_crossed(metrics)) or ["Nothing was measured: no rows were held out."]
        return "\n\n".join([*told, _temperature(metrics), *pictures])
    lines = [_measured(name, metrics[name]) for name in ("test", "validation") if name in metrics]
    header = ("rows", "n", "accuracy", "95% interval", "macro-F1", "loss", "calibration error")
    per_label = [
        (name, f"{found['rows']:,}", *(f"{found[key]:.3f}" for key in ("precision", "recall", "f1")))
        for name, found in metrics[split]["per_label"].items()
    ]
    most = max(found["rows"] for found in metrics[split]["per_label"].values()) / metrics[split]["rows"]
    told = [
        table(header, lines, range(1, 7)),
        "The interval is Wilson's, for the choice of these rows alone. Loss is cross-entropy in nats, calibration "
        f"error the ECE over 15 bins. {_temperature(metrics)} The most frequent label of the {split} rows, given to "
        f"all of them, would be right on {most:.1%}.",
        *(told for name in ("test", "validation") if name in metrics for told in overlapping(name, metrics[name])),
        f"By label, on the {metrics[split]['rows']:,} {split} rows:",
        table(("label", "n", "precision", "recall", "F1"), per_label, range(1, 5), MOST_LABELS),
        *_crossed(metrics),
        *_precision(metrics),
        *_mistakes(np.array(metrics[split]["confusion"]), corpus.label_names),
        *pictures,
    ]
    return "\n\n".join(told)


def _limits(config: Config, metrics: Mapping[str, Any], labels: int) -> str:
    has_ngrams = "ngram_weight" in metrics
    known = [
        "Made for texts like the training rows, in their language and of their kind; on others it may be wrong and "
        "sure of it. Which languages those are was not determined.",
        f"It always answers with one of its {labels} labels, also where none fits.",
        f"Of a text {'its encoder' if has_ngrams else 'it'} reads the first "
        f"{config.model.max_length:,} tokens, special ones included, and no more"
        f"{'; what lies beyond is read by its n-grams alone' if has_ngrams else ''}."
        + f" More than {config.model.window} it reads in equal windows, whose logits are averaged."
        * config.model.has_windows,
        *_spelling(config),
        "Whether the licences of the encoder and of the texts allow a use was not checked. Neither were the texts "
        "checked for bias or for personal data.",
        "One run with one seed: how much the figures move from run to run was not measured.",
    ]
    if "test" not in metrics and "validation" in metrics:
        known.append(
            "There were no test rows. The validation rows chose the step that was kept, so their figures flatter it."
        )
    return "\n".join(f"- {limit}" for limit in known)


def _spelling(config: Config) -> Iterator[str]:
    if config.model.correct_spelling:
        yield (
            "A word of four letters or more that the training texts do not hold is read as the most frequent of theirs "
            "that is one letter from it, if there is one, so a name that is new may be read as another. `model.pt` "
            "holds the words of the training texts, the most frequent first: whoever has the file can read them."
        )


def _measures(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The table of robustness: (measure, rows, accuracy) of what `measure_robustness` returns."""
    rows, noise = f"{found['rows']:,}", found["noise"]
    yield "clean", rows, f"{found['clean']:.1%}"
    for strength in STRENGTHS:
        kinds = f"{len(noise['each'])} kinds of noise at {strength} strength"
        yield f"{kinds}, mean", rows, f"{noise['mean'][strength]:.1%}"
        worst = noise["worst"][strength]
        yield f"{kinds}, the worst ({worst['name']})", rows, f"{worst['accuracy']:.1%}"
    yield "right under all of 20 random corruptions of medium strength", rows, f"{found['worst_of_20']:.1%}"
    for name, accuracy in found["style"].items():
        yield f"rewritten by rule as a {name}", rows, f"{accuracy:.1%}"
    yield "greedy character attack, at most a fifth of the words", rows, f"{found['attack']['accuracy']:.1%}"
    for name, shift in found.get("shift", {}).items():
        yield f"rows of another kind: {name}", f"{shift['rows']:,}", f"{shift['accuracy']:.1%}"


# Details


def headline(metrics: Mapping[str, Any]) -> str:
    """The split whose figures come first; empty where none was measured."""
    return next((split for split in ("test", "validation") if split in metrics), "")


def overlapping(split: str, found: Mapping[str, Any]) -> Iterator[str]:
    """A sentence on those rows of a measured split that are near duplicates of training rows, where there are any.

    found: as `classification_metrics` returns it.
    """
    if own := found.get("overlap"):
        others = own["accuracy_of_others"]
        told = "" if others is None else f", {others:.2%} of the others"
        rows = f"{own['rows']:,} of the {found['rows']:,} {split} rows are near duplicates of training rows"
        yield f"{rows}: {own['accuracy']:.2%} of these are right{told}."


def _measured(split: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = wilson_interval(found["accuracy"], found["rows"])
    figures = (f"{found['accuracy']:.2%}", f"{low:.1%} to {high:.1%}", f"{found['macro_f1']:.3f}")
    return split, f"{found['rows']:,}", *figures, f"{found['loss']:.3f}", f"{found['ece']:.1%}"


def wilson_interval(share: float, rows: int) -> tuple[float, float]:
    """The 95 % interval of a share of so many rows: E. B. Wilson, 1927, J. Am. Stat. Assoc. 22, 209-212."""
    z = 1.959964
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z * sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows)) / (1 + z * z / rows)
    return max(0.0, centre - half), min(1.0, centre + half)


def _temperature(metrics: Mapping[str, Any]) -> str:
    if metrics["temperature"] == 1.0:
        return (
            f"Probabilities are the bare softmax: a temperature takes {LEAST_ROWS} validation rows to fit, "
            f"{LEAST_TEXTS} unlabelled texts, or cross-validation (`train.cross_validation`) of {LEAST_CROSSED} rows."
        )
    back = f"of {metrics.get('held_back', 0):,} texts held back"
    rows = {
        "validation": "the validation rows",
        "neighbours": f"what neighbours say {back}",
        "teacher": f"what the other model says {back}",
        "folds": "what the models of the cross-validation say of rows that they did not learn from",
    }[metrics["temperature_fitted_to"]]
    split = headline(metrics)
    before = f"; without it the calibration error would be {metrics[split]['ece_uncalibrated']:.1%}" if split else ""
    return f"Probabilities are calibrated with temperature {metrics['temperature']:.2f}, fitted to {rows}{before}."


def _crossed(metrics: Mapping[str, Any]) -> Iterator[str]:
    if found := metrics.get("cross_validation"):
        low, high = wilson_interval(found["accuracy"], found["rows"])
        yield (
            f"Cross-validation: {found['folds']} models were trained as this one was, each without a part of the "
            f"training rows. They are right on {found['accuracy']:.1%} of {found['rows']:,} rows, each asked of the "
            f"model that did not learn from it (95% interval of the choice of rows {low:.0%} to {high:.0%}), macro-F1 "
            f"{found['macro_f1']:.3f}. The model itself has learned from all of them."
        )


def _precision(metrics: Mapping[str, Any]) -> Iterator[str]:
    if "int8" in metrics:
        margin, again = metrics["int8"]["margin"], metrics["int8"]["again"]
        yield (
            "These figures are of int8 products, in which the model predicts where the processor gains by it; rows "
            f"whose two best logits are within {margin:.2g} of each other, {again:.1%} of those compared, are computed "
            "again in bf16."
        )


def _mistakes(confusion: np.ndarray, names: Sequence[str]) -> Iterator[str]:
    """confusion int [labels, labels]: rows of the first called the second."""
    wrong = confusion - np.diag(np.diag(confusion))
    worst = [divmod(int(place), len(names)) for place in np.argsort(-wrong, axis=None, kind="stable")[:3]]
    told = [f"{text(names[i])} called {text(names[j])} ({wrong[i, j]:,})" for i, j in worst if wrong[i, j]]
    if told:
        yield f"The most frequent mistakes, of {int(wrong.sum()):,} in all: {', '.join(told)}."


def _pictures(plots: Sequence[str]) -> Iterator[str]:
    for name in plots:
        yield f"![{ABOUT.get(Path(name).stem, 'plot')}]({name})"
