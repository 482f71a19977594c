"""Lists the flags of every command but train, and the text of each command's help. Nothing here is slow to import."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from submillion.config.resolve import RunFlags
from submillion.config.schema import LabelForm
from submillion.errors import ConfigError

TRAIN = """\
Train a classifier and save it in best_model/ (--output.dir).

A value comes from its flag, else from the recipe, else from the defaults below; the run prints which.

Recipes: {recipes}, or any .toml file."""

QUICKSTART = """\
Train on real news from PyPI, predict the held-out rows with the saved model, and show the result.

The flags are those of `submillion train`; the recipe is quickstart unless --recipe says otherwise.

Recipes: {recipes}, or any .toml file."""

PLAN = """\
Count the trainable parameters of a run, part by part, against its budget. Nothing is trained.

The flags are those of `submillion train`.

Recipes: {recipes}, or any .toml file."""

PREDICT = """\
Label the rows of INPUT with a saved classifier.

INPUT: rows with a text column (csv, tsv, jsonl, json, parquet, arrow, xlsx, pkl; text also as .gz, .bz2, .xz, .zst or
.zip), or one text per line (txt); without it, the one such file in the model's folder. With - texts are read from
standard input, one per line, and each label is written to standard output as soon as it is computed."""

EVALUATE = """\
Measure a saved classifier on labelled rows. Required: --data.source."""

IMPORT = """\
Save the PEFT adapter FOLDER (LoRA on a sequence classifier; a folder or a hub id) as a classifier.

The logits are those of peft, or the adapter is refused. A refused one that changes more than linear layers (DoRA,
biases, embeddings, layer norms) is taken with --merge. A whole checkpoint of transformers needs no import: predict and
evaluate take its folder as --model."""

EXPORT = """\
Write the saved classifier MODEL in another tool's format into FOLDER, which is new, empty, or an earlier export.

--to onnx: a folder to run without torch, with onnxruntime, optimum or transformers.js; checked with onnxruntime first.
--to peft: the adapters and the head, for PeftModel.from_pretrained on the same base.
--to transformers: the merged model and its tokenizer, for AutoModelForSequenceClassification and pipeline."""

AnswerFormat = Literal["auto", "labels", "csv", "tsv", "jsonl"]
Precision = Literal["auto", "int8", "bf16", "fp32"]


@dataclass(frozen=True)
class PlanFlags(RunFlags):
    labels: int = 0
    """Number of labels. 0: as many as data.label_names has."""


@dataclass(frozen=True)
class ModelFlags:
    """How a saved classifier is opened and computed."""

    model: str = "best_model"
    """Folder of the saved classifier, or of a checkpoint that transformers saved."""
    base: str = ""
    """The pretrained encoder, if it is not found under the name that the classifier was trained with."""
    batch_size: int = 0
    """Rows computed at once. 0: 64."""
    precision: Precision = "auto"
    """Compute precision of the encoder. auto: fp32 for a model trained in fp32 and for a checkpoint of transformers,
    else the fastest that suits this processor, int8 only if the model was measured in it."""
    adapter_scale: float = 1.0
    """Scales the adapters. Below 1 the model stays closer to the pretrained encoder, which helps on texts unlike the
    training rows. Models whose last layers trained in full take 1 alone."""


@dataclass(frozen=True)
class PredictFlags(ModelFlags):
    output: str = "predictions.csv"
    """File for the answers. -: standard output, the default if INPUT is -."""
    format: AnswerFormat = "auto"
    """csv and tsv: ID,Label; jsonl: one object per row; labels: one label name per line. auto: what the output's name
    ends in, else csv; on standard output labels (csv with --scores, --id-column or --keep)."""
    scores: bool = False
    """Also write the label's name, whether the text is blank, and every label's probability."""
    labels: LabelForm = "names"
    """What the column Label holds. names: the label's name; integers: its place among the names, counted from 0. Names
    that look like numbers are always written as they are."""
    text_column: str = ""
    """Column of the texts; several are joined: Title,Description. Empty: the column that the model was trained on, else
    found by its name (text, sentence, content ...)."""
    id_column: str = ""
    """Column of the IDs, which are copied as they are. Empty: a column called id with unique values, else IDs are
    counted from 0."""
    keep: tuple[str, ...] = ()
    """Columns of INPUT to copy to the answers; all: every column. INPUT stands before this flag."""
    reading: tuple[str, ...] = ()
    """How to read a file that is read wrongly: separator=tab, encoding=cp1252, header=no, quoting=no. Short forms:
    --separator tab, --encoding cp1252, --no-header, --quoting no."""


@dataclass(frozen=True)
class EvaluateData:
    source: str = ""
    """Labelled rows to measure on: a file, a folder with test.*, package:NAME/CORPUS, or a hub id."""
    text_column: str = ""
    """Column of the texts; several are joined: Title,Description. Empty: the column that the model was trained on, else
    found by its name (text, sentence, content ...)."""
    label_column: str = ""
    """Column of the labels. Empty: the column that the model was trained on, else found by its name (label, labels,
    category ...)."""
    reading: tuple[str, ...] = ()
    """How to read a file that is read wrongly: separator=tab, encoding=cp1252, header=no, quoting=no. Short forms:
    --data.separator tab, --data.encoding cp1252, --no-header, --data.quoting no."""


@dataclass(frozen=True)
class EvaluateFlags(ModelFlags):
    data: EvaluateData = field(default_factory=EvaluateData)
    output: str = ""
    """A .json file for the metrics. Empty: they are only printed."""
    robustness: bool = False
    """Also measure noise, style, shift and attack, and add them to the model card: some minutes on two cores."""
    robustness_rows: int = 500
    """Rows drawn for noise, style and attack. 0: all."""
    shift: tuple[str, ...] = ()
    """Labelled rows unlike the training rows, one source or several. Their columns are those of data.source, else found
    by their names."""
    label_map: tuple[str, ...] = ()
    """What the model calls the labels of these rows, THEIRS=OURS: sport=Sports tech=Technology ..."""
    assets: str = "assets"
    """Folder for the plots of the robustness."""
    seed: int = 0
    """Seed of the rows drawn, the noise and the attack."""


@dataclass(frozen=True)
class ExportFlags:
    to: str = ""
    """Required. The format: onnx, peft or transformers."""
    int8: bool = False
    """onnx: quantise the encoder's weights to int8, and measure on the rows of data.source what that costs."""
    data: EvaluateData = field(default_factory=EvaluateData)
    base: str = ""
    """The pretrained encoder, if it is not found under the name that the classifier was trained with."""


@dataclass(frozen=True)
class ImportOutput:
    dir: str = "best_model"
    """Folder to save the classifier in: new, empty, or an earlier import of the same form."""


@dataclass(frozen=True)
class ImportFlags:
    output: ImportOutput = field(default_factory=ImportOutput)
    merge: bool = False
    """Merge the adapter into its base and save a checkpoint of transformers, as large as the base; --model DIR opens
    it. Otherwise model.pt holds the adapter alone and needs the base again."""
    base: str = ""
    """The pretrained encoder. Empty: the one that the adapter names, at the revision that it names."""
    label_names: tuple[str, ...] = ()
    """Names of the labels in the order of the logits. Empty: as the adapter's folder or the base has them."""
    max_length: int = 0
    """Most tokens of a text. 0: the tokenizer's model_max_length, else the longest that the encoder can read."""


def model_path(name: str, spelling: str) -> Path:
    """Returns the path of a saved classifier. Raises ConfigError for an empty name, which would mean this folder."""
    if not name.strip():
        raise ConfigError(f"{spelling}: expected the folder of a saved classifier, found an empty name\nfix: name it")
    return Path(name)
