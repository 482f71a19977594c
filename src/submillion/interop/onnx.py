"""To ONNX: the merged network as one graph that runs without torch, checked against ours before it is called done.

The graph is built node by node from the network's own tensors, not traced: batch and length are free, and every
operation in it is one that is written here.
"""

import json
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from submillion.atomic import check_replaceable, write_folder_atomically
from submillion.data.corpus import Rows
from submillion.data.tokenizer import Tokenizer, Tokens
from submillion.errors import ConfigError, DataError, ExportError
from submillion.inference.classifier import Classifier
from submillion.inference.run import rows_to_measure
from submillion.model.classifier import TextClassifier
from submillion.model.encoder import PADDING_BIAS, Encoder, EncoderLayer, LayerNorm, relative_buckets
from submillion.training.batches import evaluation_batches, pad_batch

if TYPE_CHECKING:
    import onnx
    import onnxruntime

FILES = ("model.onnx", "tokenizer.json", "labels.json")
OPSET, IR_VERSION = 20, 10  # the first opset with Gelu; onnxruntime 1.18 and later read both
TOLERANCE = 1e-4  # of a logit, fp32
LOUD_POINTS = 0.3  # of accuracy lost to int8 that are more than a note
_MOST_BYTES = 2_000_000_000  # protobuf's limit for one file is 2 GiB


@dataclass(frozen=True)
class OnnxReport:
    difference: float  # largest of any logit, fp32, on the ragged batches
    rows: int = 0  # measured; 0 where there were none to measure on
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
) -> OnnxReport:
    """Writes folder/model.onnx, tokenizer.json and labels.json, all or nothing, and prints how it was checked.

    model.onnx: input_ids, attention_mask int64 [batch, length] -> logits fp32 [batch, labels], adapters merged. It is
    run by onnxruntime on ragged batches first, and must give our fp32 logits to 1e-4. int8: onnxruntime's dynamic
    quantization of the encoder's weights, per channel, measured on `source` or, without it, on the test rows of the
    data it was trained on. Raises ConfigError where the packages are missing or the folder holds other files,
    ExportError where the logits differ, and what `Classifier.load` and `evaluate_source` raise.
    """
    check_packages()
    check_replaceable(folder, FILES)
    classifier = Classifier.load(model, base=base, precision="fp32")
    rows = None
    if source or int8:
        rows = _rows(classifier, source, text_column, label_column)
    with write_folder_atomically(folder, FILES) as part:
        path = part / "model.onnx"
        graph = to_onnx(classifier.network, _metadata(classifier))
        path.write_bytes(graph.SerializeToString())
        report = OnnxReport(check_logits(classifier, path))
        if int8:
            quantize(graph, path)
        if rows is not None:
            report = _measured(classifier, path, rows.texts, rows.labels, report.difference)
        (part / "tokenizer.json").write_text(_tokenizer_json(classifier), encoding="utf-8")
        (part / "labels.json").write_text(json.dumps(classifier.label_names, ensure_ascii=False), encoding="utf-8")
    _print_report(report, folder, int8)
    return report


def _rows(classifier: Classifier, source: str, text_column: str, label_column: str) -> Rows:
    try:
        return rows_to_measure(classifier, source or classifier.config.data.source, text_column, label_column)
    except DataError as error:
        if source:
            raise
        raise DataError(f"no rows to measure int8 on: {error}\nfix: --data.source with labelled rows") from None


def check_packages() -> None:
    """Raises ConfigError where onnx or onnxruntime cannot be imported."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"--to onnx needs the packages onnx and onnxruntime ({error})\nfix: pip install 'submillion[onnx]'"
        ) from None


# The graph


class _Graph:
    """Nodes in the order they run, and the constants they read. An operation's result is a name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, value: Tensor | np.ndarray, name: str = "") -> str:
        from onnx import numpy_helper

        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        name = name or f"constant_{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def number(self, value: float) -> str:
        return self.constant(np.array(value, dtype=np.float32))

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, dtype=np.int64))

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def split(self, x: str, parts: int) -> list[str]:
        """x [..., parts * n] -> as many of [..., n]."""
        from onnx import helper

        names = [f"Split_{len(self.nodes)}_{part}" for part in range(parts)]
        self.nodes.append(helper.make_node("Split", [x], names, name=names[0], axis=-1, num_outputs=parts))
        return names

    def linear(self, x: str, weight: Tensor, bias: Tensor, name: str) -> str:
        """weight [out, in], stored the other way round: what MatMul, and its quantization, reads as it is."""
        product = self.op("MatMul", x, self.constant(weight.t(), f"{name}.weight"))
        return self.op("Add", product, self.constant(bias, f"{name}.bias"))

    def norm(self, x: str, norm: LayerNorm, name: str) -> str:
        scale, shift = self.constant(norm.weight, f"{name}.weight"), self.constant(norm.bias, f"{name}.bias")
        return self.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=norm.eps)

    def slice(self, x: str, axis: int, end: str) -> str:
        """The first `end` places of an axis; end is a name, int64 [1]."""
        return self.op("Slice", x, self.integers(0), end, self.integers(axis))


def to_onnx(network: TextClassifier, metadata: dict[str, str] | None = None) -> "onnx.ModelProto":
    """The network, in fp32 and merged, as a checked model; its batch and its length are free.

    Raises ValueError where adapters are not merged, ExportError above the 2 GB that one file holds.
    """
    import onnx
    from onnx import TensorProto, helper

    layers = network.encoder.layer_list()
    if any(len(linear.lora_A) and not linear.merged for layer in layers for linear in layer.linears()):
        raise ValueError("merge the adapters first")
    num_bytes = sum(4 * tensor.numel() for tensor in network.encoder.published_tensors().values())
    if num_bytes > _MOST_BYTES:
        raise ExportError(f"the encoder takes {num_bytes / 1e9:.1f} GB in fp32, and one ONNX file holds at most 2 GB")
    graph = _Graph()
    bias = _attention_bias(graph, network.encoder)
    x = _embeddings(graph, network.encoder)
    for index, layer in enumerate(layers):
        first_only = network.pooling == "first" and layer is layers[-1]
        x = _layer(graph, layer, x, bias, f"layer.{index}", first_only)
    _head(graph, network, x)
    free = ["batch", "length"]
    proto = helper.make_graph(
        graph.nodes,
        "submillion",
        [helper.make_tensor_value_info(name, TensorProto.INT64, free) for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", network.head.out_proj.out_features])],
        list(graph.constants.values()),
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="submillion")
    model.ir_version = IR_VERSION
    helper.set_model_props(model, metadata or {})
    onnx.checker.check_model(model)
    return model


def _embeddings(graph: _Graph, encoder: Encoder) -> str:
    """What enters layer 0, [batch, length, hidden]: `Encoder.embed`."""
    shape = encoder.shape
    table = graph.constant(encoder.position_embeddings, "position_embeddings")
    if shape.position_offset:
        pad_id = graph.integers(shape.pad_id)
        is_token = graph.op("Cast", graph.op("Not", graph.op("Equal", "input_ids", pad_id)), to=_INT64)
        counted = graph.op("Mul", graph.op("CumSum", is_token, graph.constant(np.array(1))), is_token)
        placed = graph.op("Gather", table, graph.op("Add", counted, pad_id))  # [batch, length, hidden]
    else:
        placed = graph.slice(table, 0, _length(graph))  # [length, hidden]
    x = graph.op("Gather", graph.constant(encoder.word_embeddings, "word_embeddings"), "input_ids")
    x = graph.op("Add", x, placed)
    if shape.num_token_types:
        x = graph.op("Add", x, graph.constant(encoder.token_type_embeddings[0], "token_type"))
    return graph.norm(x, encoder.embedding_norm, "embedding_norm")


_INT64 = 7  # onnx.TensorProto.INT64, FLOAT: the format's own numbers, so that importing this module does not need onnx
_FLOAT = 1


def _length(graph: _Graph) -> str:
    """int64 [1]"""
    return graph.op("Shape", "input_ids", start=1, end=2)


def _attention_bias(graph: _Graph, encoder: Encoder) -> str:
    """[batch, 1 or heads, 1 or length, length], added to attention scores: padding, and MPNet's relative bias."""
    is_padding = graph.op("Equal", "attention_mask", graph.integers(0))
    bias = graph.op("Mul", graph.op("Cast", is_padding, to=_FLOAT), graph.number(PADDING_BIAS))
    bias = graph.op("Unsqueeze", bias, graph.integers(1, 2))  # [batch, 1, 1, length]
    if not encoder.shape.relative_buckets:
        return bias
    # The bias depends on query minus key alone: a row a distance, from -(most - 1), picked by the distances there are.
    most = encoder.shape.max_tokens
    buckets = relative_buckets(most, encoder.shape.relative_buckets)
    distances = torch.cat([buckets[0].flip(0), buckets[1:, 0]])  # [2 * most - 1]
    table = graph.constant(encoder.relative_attention_bias[distances.to(encoder.word_embeddings.device)], "relative")
    length = graph.op("Squeeze", _length(graph))
    places = graph.op("Range", graph.constant(np.array(0)), length, graph.constant(np.array(1)))
    queries, keys = (graph.op("Unsqueeze", places, graph.integers(axis)) for axis in (1, 0))
    distance = graph.op("Add", graph.op("Sub", queries, keys), graph.integers(most - 1))
    relative = graph.op("Transpose", graph.op("Gather", table, distance), perm=[2, 0, 1])  # [heads, length, length]
    return graph.op("Add", graph.op("Unsqueeze", relative, graph.integers(0)), bias)


def _layer(graph: _Graph, layer: EncoderLayer, x: str, bias: str, name: str, first_only: bool) -> str:
    """x [batch, length, hidden] -> the same, or [batch, 1, hidden]: `EncoderLayer.forward`."""
    joined = layer.attention_input
    if first_only:  # the head reads the first token alone, so only its query is wanted
        one = graph.integers(1)
        start, end = joined.rows["query"]
        keys_values = graph.linear(x, joined.weight[end:], joined.bias[end:], f"{name}.key_value")
        x = graph.slice(x, 1, one)
        query = graph.linear(x, joined.weight[start:end], joined.bias[start:end], f"{name}.query")
        key, value = graph.split(keys_values, 2)
        bias = graph.slice(bias, 2, one)
    else:
        query, key, value = graph.split(graph.linear(x, joined.weight, joined.bias, f"{name}.attention_input"), 3)
    context = _attention(graph, layer, query, key, value, bias)
    y = graph.linear(context, layer.attention_output.weight, layer.attention_output.bias, f"{name}.attention_output")
    x = graph.norm(graph.op("Add", y, x), layer.attention_norm, f"{name}.attention_norm")
    hidden = graph.linear(x, layer.intermediate.weight, layer.intermediate.bias, f"{name}.intermediate")
    y = graph.linear(graph.op("Gelu", hidden), layer.output.weight, layer.output.bias, f"{name}.output")
    return graph.norm(graph.op("Add", y, x), layer.output_norm, f"{name}.output_norm")


def _attention(graph: _Graph, layer: EncoderLayer, query: str, key: str, value: str, bias: str) -> str:
    """softmax(q k^T / sqrt(head) + bias) v: [batch, queries, hidden]."""
    hidden = layer.attention_output.in_features
    head = hidden // layer.num_heads
    heads = graph.integers(0, 0, layer.num_heads, head)  # 0: as it is
    q, k, v = (graph.op("Reshape", x, heads) for x in (query, key, value))
    q = graph.op("Transpose", q, perm=[0, 2, 1, 3])
    k = graph.op("Transpose", k, perm=[0, 2, 3, 1])
    v = graph.op("Transpose", v, perm=[0, 2, 1, 3])
    scores = graph.op("Mul", graph.op("MatMul", q, k), graph.number(1 / math.sqrt(head)))
    weights = graph.op("Softmax", graph.op("Add", scores, bias), axis=-1)
    context = graph.op("Transpose", graph.op("MatMul", weights, v), perm=[0, 2, 1, 3])
    return graph.op("Reshape", context, graph.integers(0, 0, hidden))


def _head(graph: _Graph, network: TextClassifier, x: str) -> None:
    """Pooling and head, ending in the output `logits`, [batch, labels]."""
    from onnx import helper

    if network.pooling == "mean":
        mask = graph.op("Cast", "attention_mask", to=_FLOAT)
        weights = graph.op("Div", mask, graph.op("ReduceSum", mask, graph.integers(1), keepdims=1))
        x = graph.op("MatMul", graph.op("Unsqueeze", weights, graph.integers(1)), x)  # [batch, 1, hidden]
    x = graph.op("Squeeze", x, graph.integers(1))
    if network.head.dense is not None:
        x = graph.op("Tanh", graph.linear(x, network.head.dense.weight, network.head.dense.bias, "head.dense"))
    x = graph.linear(x, network.head.out_proj.weight, network.head.out_proj.bias, "head.out_proj")
    graph.nodes.append(helper.make_node("Identity", [x], ["logits"], name="logits"))


# The check


def check_logits(classifier: Classifier, path: Path) -> float:
    """The largest difference of any logit between the file and our fp32 network, on ragged batches of random tokens.

    Raises ExportError above 1e-4.
    """
    session = open_session(path)
    difference = 0.0
    for input_ids, attention_mask in _ragged_batches(classifier):
        with torch.inference_mode():
            device = classifier.compute.device
            ours = classifier.network(input_ids.to(device), attention_mask.to(device)).cpu().numpy()
        difference = max(difference, float(np.abs(_run(session, input_ids, attention_mask) - ours).max()))
    if not difference <= TOLERANCE:  # NaN too
        raise ExportError(
            f"the ONNX graph's logits differ from ours by {difference:.1e}, expected at most {TOLERANCE:.0e}\n"
            "Nothing was written. This is a fault of the export: please report it with the name of the base model."
        )
    return difference


def open_session(path: Path) -> "onnxruntime.InferenceSession":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _run(session: "onnxruntime.InferenceSession", input_ids: Tensor, attention_mask: Tensor) -> np.ndarray:
    """float32 [batch, labels]"""
    inputs = {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()}
    return np.asarray(session.run(["logits"], inputs)[0])


def _ragged_batches(classifier: Classifier) -> Iterator[tuple[Tensor, Tensor]]:
    """input_ids and attention_mask, int64 [batch, length], padded on the right; lengths from 1 to the longest."""
    shape, longest = classifier.network.encoder.shape, classifier.config.model.max_length
    generator = torch.Generator().manual_seed(0)
    for lengths in ([longest], [3], [1, longest // 2, longest], [2, longest // 4 + 1, 3, longest // 3 + 1]):
        attention_mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
        input_ids = torch.randint(0, shape.vocab_size, attention_mask.shape, generator=generator)
        input_ids = torch.where(input_ids == shape.pad_id, shape.vocab_size - 1, input_ids)  # no padding inside a row
        yield torch.where(attention_mask == 1, input_ids, shape.pad_id), attention_mask


# int8


def quantize(model: "onnx.ModelProto", path: Path) -> None:
    """Writes the model with the encoder's MatMul weights and embeddings in int8, one scale a column, to `path`.

    Activations are quantized as they come, one scale a batch. The head and MPNet's relative bias stay in fp32.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    exact = [
        node.name for node in model.graph.node if any(name.startswith(("head.", "relative")) for name in node.input)
    ]
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
    """onnxruntime advises a preprocessing that folds what this graph does not have."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _measured(
    classifier: Classifier, path: Path, texts: list[str], labels: np.ndarray, difference: float
) -> OnnxReport:
    """Labels and accuracy of the file beside ours, on labels int64 [rows]."""
    tokens = classifier.tokenizer.encode(texts, classifier.config.model.max_length)
    ours = classifier.logits(texts).argmax(axis=1)
    theirs = _logits_of(open_session(path), classifier, tokens).argmax(axis=1)
    return OnnxReport(
        difference,
        len(texts),
        float((ours == theirs).mean()),
        float((theirs == labels).mean()),
        float((ours == labels).mean()),
    )


def _logits_of(session: "onnxruntime.InferenceSession", classifier: Classifier, tokens: Tokens) -> np.ndarray:
    """float32 [rows, labels]"""
    shape = classifier.network.encoder.shape
    logits = np.zeros((len(tokens), len(classifier.label_names)), dtype=np.float32)
    for rows in evaluation_batches(tokens.lengths, classifier.config.train.eval_batch_size):
        logits[rows] = _run(session, *pad_batch(tokens, rows, shape.pad_id, shape.max_tokens))
    return logits


# What lies beside it


def _tokenizer_json(classifier: Classifier) -> str:
    """The tokenizer, set to cut and pad as the model expects, so that its reader need not know how."""
    backend = Tokenizer.from_str(classifier.tokenizer.to_str(), "").backend
    pad_id = classifier.network.encoder.shape.pad_id
    backend.enable_truncation(classifier.config.model.max_length)
    backend.enable_padding(pad_id=pad_id, pad_token=backend.id_to_token(pad_id) or "[PAD]")
    return backend.to_str()


def _metadata(classifier: Classifier) -> dict[str, str]:
    return {
        "label_names": json.dumps(classifier.label_names, ensure_ascii=False),
        "temperature": str(classifier.temperature),
        "max_length": str(classifier.config.model.max_length),
        "base": classifier.config.model.base,
    }


def _print_report(report: OnnxReport, folder: Path, int8: bool) -> None:
    import onnxruntime
    from rich.console import Console

    kind = "int8" if int8 else "fp32"
    size = (folder / "model.onnx").stat().st_size / 1e6
    lines = [
        f"written  {folder}: model.onnx ({kind}, {size:.1f} MB), tokenizer.json, labels.json",
        f"checked  onnxruntime {onnxruntime.__version__}, ragged batches in fp32: "
        f"logits differ by {report.difference:.1e} at most",
    ]
    if report.rows:
        lines.append(
            f"{kind}     {report.rows:,} rows: accuracy {report.accuracy:.2%}, ours {report.our_accuracy:.2%}; "
            f"the same label for {report.agreement:.2%}"
        )
    Console().print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)
    if report.points_lost > LOUD_POINTS:
        Console(stderr=True).print(
            f"WARNING: {kind} loses {report.points_lost:.2f} points of accuracy on these rows\n"
            "fix: export without --int8, unless its size and speed are worth that",
            style="bold red",
            soft_wrap=True,
            highlight=False,
        )
