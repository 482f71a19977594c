"""To ONNX: the merged network as one file that runs without torch, checked against ours before it is called done."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from submillion.atomic import check_replaceable, write_folder_atomically
from submillion.console import terminal
from submillion.data.corpus import Rows
from submillion.data.formats.options import ReadOptions
from submillion.errors import ConfigError, DataError, ExportError
from submillion.evaluation.measured import rows_to_measure
from submillion.inference.artefact import Artefact
from submillion.inference.classifier import Classifier
from submillion.interop.onnx_folder import FILES, cuts, write_companions
from submillion.interop.onnx_graph import HEAD, NGRAMS, to_onnx
from submillion.model.base import find_base
from submillion.runtime.batches import EVALUATION_ROWS, evaluation_batches, pad_batch
from submillion.runtime.forward import compute_logits
from submillion.text.tokenizer import Tokens

if TYPE_CHECKING:
    import onnx
    import onnxruntime

TOLERANCE = 1e-4  # of a logit, fp32
LOUD_POINTS = 0.3  # of accuracy lost to int8 that are more than a note


@dataclass(frozen=True)
class OnnxReport:
    difference: float  # largest of any logit, fp32, on the ragged batches
    rows: int = 0  # measured; 0 if there were none to measure on
    agreement: float = 1.0  # share of the rows with the same label as ours
    accuracy: float = 0.0  # of the exported model
    our_accuracy: float = 0.0

    @property
    def points_lost(self) -> float:
        return 100 * (self.our_accuracy - self.accuracy)


def export_onnx(
    model: Path,
    folder: Path,
    int8: bool = False,
    source: str = "",
    text_column: str = "",
    label_column: str = "",
    base: str = "",
    options: ReadOptions | None = None,
) -> OnnxReport:
    """Writes folder/model.onnx and the files beside it, `write_companions`. All or nothing; prints how it was checked.

    model.onnx: input_ids, attention_mask int64 [batch, length] -> logits fp32 [batch, labels], adapters merged. It is
    run by onnxruntime on ragged batches first, and must give our fp32 logits to 1e-4. int8: onnxruntime's dynamic
    quantization of the encoder's weights, per channel, measured on `source` or, without it, on the test rows of the
    data it was trained on. options: how files are read. Raises ConfigError if the packages are missing or the folder
    holds other files, ExportError if the logits differ, and what `Classifier.load` and `evaluate_source` raise.
    """
    check_packages()
    check_replaceable(folder, FILES)
    classifier = Classifier.load(model, base=base, precision="fp32")
    rows = None
    if source or int8:
        rows = _rows(classifier, source, text_column, label_column, options)
    with write_folder_atomically(folder, FILES) as part:
        path = part / "model.onnx"
        graph = to_onnx(classifier.network, _metadata(classifier), **_ends(classifier))
        path.write_bytes(graph.SerializeToString())
        report = OnnxReport(check_logits(classifier, path))
        if int8:
            quantize(graph, path)
        if rows is not None:
            report = _measured(classifier, path, rows.texts, rows.labels, report.difference)
        names = write_companions(classifier, _base_folder(model, base), part)
    _print_report(report, folder, int8, names)
    return report


def _base_folder(model: Path, base: str) -> Path:
    """Returns the folder of the model's base, whose files `Classifier.load` has compared with those of training."""
    trained_on = Artefact.load(model).base
    return find_base(base or trained_on["name"], "" if base else trained_on["revision"]).folder


def _rows(
    classifier: Classifier, source: str, text_column: str, label_column: str, options: ReadOptions | None
) -> Rows:
    source_or_own = source or classifier.config.data.source
    try:
        return rows_to_measure(classifier, source_or_own, text_column, label_column, options=options)
    except DataError as error:
        if source:
            raise
        raise DataError(f"no rows to measure int8 on: {error}\nfix: --data.source with labelled rows") from None


def check_packages() -> None:
    """Raises ConfigError if onnx, onnxruntime or onnxscript cannot be imported."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"--to onnx needs the packages onnx, onnxruntime and onnxscript ({error})\n"
            "fix: pip install onnx onnxruntime onnxscript"
        ) from None


# The check


def check_logits(classifier: Classifier, path: Path) -> float:
    """Returns the largest difference of any logit between the file and our fp32 network.

    Both compute ragged batches of random tokens. Raises ExportError above 1e-4.
    """
    session = open_session(path)
    difference = 0.0
    for input_ids, attention_mask in _ragged_batches(classifier):
        theirs = _run(session, input_ids, attention_mask)
        difference = max(difference, float(np.abs(theirs - _ours(classifier, input_ids, attention_mask)).max()))
    if not difference <= TOLERANCE:  # NaN too
        raise ExportError(
            f"the ONNX graph's logits differ from ours by {difference:.1e}, expected at most {TOLERANCE:.0e}\n"
            "Nothing was written. This is a fault of the export: please report it with the name of the base model."
        )
    return difference


@torch.inference_mode()
def _ours(classifier: Classifier, input_ids: Tensor, attention_mask: Tensor) -> np.ndarray:
    """Returns our logits for the graph's inputs, float32 [batch, labels]."""
    ends = _ends(classifier)
    rows = [ids[:length].numpy() for ids, length in zip(input_ids, attention_mask.sum(dim=1).tolist(), strict=True)]
    tokens = replace(
        Tokens.of_rows([_cut(row, **ends) if ends else row for row in rows]),
        content=Tokens.of_rows([row[1:-1] for row in rows]),
    )
    return compute_logits(classifier.network, classifier.task, tokens, len(tokens), classifier.compute)


def _cut(row: np.ndarray, max_length: int, end_id: int) -> np.ndarray:
    return row if len(row) <= max_length else np.append(row[: max_length - 1], end_id)


def _ends(classifier: Classifier) -> dict[str, int]:
    """Returns what a graph with n-grams has to know to cut a text: max_length and end_id of `to_onnx`.

    end_id is the token that ends every text. Returns {} if there are no n-grams. Raises ExportError if the tokenizer
    does not set one token before and one behind each text.
    """
    if classifier.network.ngrams is None:
        return {}
    tokens = classifier.tokenizer.encode(["a b"], 100, content=True)
    assert tokens.content is not None
    row, content = tokens.row(0).tolist(), tokens.content.row(0).tolist()
    if row[1:-1] != content or len(row) != len(content) + 2:
        raise ExportError(
            "n-grams go to ONNX where a text is between two special tokens, as in all well-known encoders; found "
            f"{len(row) - len(content)} of them\nfix: train with --model.ngram-buckets 0"
        )
    return {"max_length": classifier.spec.max_length, "end_id": row[-1]}


def open_session(path: Path) -> "onnxruntime.InferenceSession":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _run(session: "onnxruntime.InferenceSession", input_ids: Tensor, attention_mask: Tensor) -> np.ndarray:
    """Runs the graph and returns its logits, float32 [batch, labels]."""
    inputs = {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()}
    return np.asarray(session.run(["logits"], inputs)[0])


def _ragged_batches(classifier: Classifier) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields input_ids and attention_mask, int64 [batch, length], padded on the right.

    Lengths go from 1 to the longest, and beyond if n-grams are read.
    """
    shape, longest = classifier.network.encoder.shape, classifier.spec.max_length
    generator = torch.Generator().manual_seed(0)
    batches = [[longest], [3], [1, longest // 2, longest], [2, longest // 4 + 1, 3, longest // 3 + 1]]
    for lengths in batches + [[2 * longest, 4, longest + 1]] * (classifier.network.ngrams is not None):
        attention_mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
        input_ids = torch.randint(0, shape.vocab_size, attention_mask.shape, generator=generator)
        input_ids = torch.where(input_ids == shape.pad_id, shape.vocab_size - 1, input_ids)  # no padding inside a row
        yield torch.where(attention_mask == 1, input_ids, shape.pad_id), attention_mask


# int8


def quantize(model: "onnx.ModelProto", path: Path) -> None:
    """Writes the model with the encoder's MatMul weights and embeddings in int8, one scale a column, to `path`.

    Activations are quantized as they come, one scale a batch. The head, n-grams, positions and MPNet's relative bias
    stay in fp32.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    exact = [node.name for node in model.graph.node if node.output[0].startswith(HEAD) or NGRAMS in node.input]
    exact += [f"{name}_MatMul" for name in exact]  # how onnxruntime names the MatMul that it makes of a Gemm
    with _no_advice():
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=["MatMul", "Gather"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=exact,
        )


@contextmanager
def _no_advice() -> Iterator[None]:
    """Silences onnxruntime, which advises a preprocessing that folds what this graph does not have."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _measured(
    classifier: Classifier, path: Path, texts: list[str], labels: np.ndarray, difference: float
) -> OnnxReport:
    """Returns the report on the file: its labels and accuracy beside ours, on labels int64 [rows]."""
    # With n-grams the graph cuts by itself what the encoder reads.
    most = classifier.spec.max_length if classifier.network.ngrams is None else 2**31
    tokens = classifier.tokenizer.encode(texts, most)
    decode = classifier.task.decode
    ours, theirs = decode(classifier.logits(texts)), decode(_logits_of(open_session(path), classifier, tokens))
    return OnnxReport(
        difference,
        len(texts),
        float((ours == theirs).mean()),
        float((theirs == labels).mean()),
        float((ours == labels).mean()),
    )


def _logits_of(session: "onnxruntime.InferenceSession", classifier: Classifier, tokens: Tokens) -> np.ndarray:
    """Returns the file's logits, float32 [rows, labels]."""
    shape = classifier.network.encoder.shape
    logits = np.zeros((len(tokens), len(classifier.label_names)), dtype=np.float32)
    for rows in evaluation_batches(tokens.lengths, EVALUATION_ROWS):
        logits[rows] = _run(session, *pad_batch(tokens, rows, shape.pad_id, shape.max_tokens))
    return logits


# What is said of it


def _metadata(classifier: Classifier) -> dict[str, str]:
    """Returns what the graph says of itself, in its metadata."""
    properties = {
        "label_names": json.dumps(classifier.label_names, ensure_ascii=False),
        "temperature": str(classifier.temperature),
        "base": classifier.config.model.base,
    }
    if cuts(classifier):
        properties["max_length"] = str(classifier.spec.max_length)
    return properties


def _print_report(report: OnnxReport, folder: Path, int8: bool, names: list[str]) -> None:
    """Prints what was written and how it was checked. names: the files beside model.onnx."""
    import onnxruntime

    kind = "int8" if int8 else "fp32"
    size = (folder / "model.onnx").stat().st_size / 1e6
    lines = [
        f"written  {folder}: model.onnx ({kind}, {size:.1f} MB), {', '.join(names)}",
        f"checked  onnxruntime {onnxruntime.__version__}, ragged batches in fp32: "
        f"logits differ by {report.difference:.1e} at most",
    ]
    if report.rows:
        lines.append(
            f"{kind}     {report.rows:,} rows: accuracy {report.accuracy:.2%}, ours {report.our_accuracy:.2%}; "
            f"the same label for {report.agreement:.2%}"
        )
    if "words.txt" in names:
        lines.append(
            "note     texts are corrected before they are tokenized: docs/onnx.md has how, with words.txt. optimum and "
            "transformers.js would not do it, so there is no config.json for them"
        )
    terminal().print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)
    if report.points_lost > LOUD_POINTS:
        terminal(stderr=True).print(
            f"WARNING: {kind} loses {report.points_lost:.2f} points of accuracy on these rows\n"
            "fix: export without --int8, unless its size and speed are worth that",
            style="bold red",
            soft_wrap=True,
            highlight=False,
        )
