"""The network as an ONNX graph: batch and length are free.

Built node by node from the network's own tensors, not traced, so that every operation in it is one written here.
"""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from submillion.errors import ExportError
from submillion.model.attention import PADDING_BIAS
from submillion.model.classifier import TextClassifier
from submillion.model.encoder import Encoder, EncoderLayer, Layer, relative_buckets
from submillion.model.lora import LoraLinear
from submillion.model.modernbert import ModernBertLayer
from submillion.model.ngrams import FIRST, PRIME, SECOND, Ngrams
from submillion.model.norm import LayerNorm
from submillion.model.shape import EncoderShape, ModernBertShape

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 20, 10  # the first opset with Gelu; onnxruntime 1.18 and later read both
_MOST_BYTES = 2_000_000_000  # protobuf's limit for one file is 2 GiB
_INT64, _FLOAT = 7, 1  # onnx.TensorProto's own numbers, so that importing this module does not need onnx


class _Graph:
    """Nodes in the order they run, and the constants they read. An operation's result is a name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.input_ids, self.attention_mask = "input_ids", "attention_mask"  # what the encoder reads
        self.mean_of_windows = ""  # [batch, windows]: times the windows' logits, the rows'; "" where rows are whole

    def constant(self, value: Tensor | np.ndarray, name: str = "") -> str:
        from onnx import numpy_helper

        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        name = name or f"constant_{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def number(self, value: float) -> str:
        return self.constant(np.array(value, dtype=np.float32))

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, dtype=np.int64))

    def scalar(self, value: int) -> str:
        return self.constant(np.array(value))

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

    def linear(self, x: str, weight: Tensor, bias: Tensor | None, name: str) -> str:
        """weight [out, in], stored the other way round: what MatMul, and its quantization, reads as it is."""
        product = self.op("MatMul", x, self.constant(weight.t(), f"{name}.weight"))
        return product if bias is None else self.op("Add", product, self.constant(bias, f"{name}.bias"))

    def layer_linear(self, x: str, linear: LoraLinear, name: str, first: int = 0, end: int | None = None) -> str:
        """The merged linear layer, or its rows from `first` to `end` alone."""
        return self.linear(x, linear.weight[first:end], linear.bias[first:end] if linear.has_bias else None, name)

    def norm(self, x: str, norm: LayerNorm, name: str) -> str:
        scale, shift = self.constant(norm.weight, f"{name}.weight"), self.constant(norm.bias, f"{name}.bias")
        return self.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=norm.eps)

    def numbers(self, end: str) -> str:
        """0, 1, ... below end, a scalar: int64 [end]."""
        return self.op("Range", self.scalar(0), end, self.scalar(1))

    def slice(self, x: str, axis: int, end: str) -> str:
        """The first `end` places of an axis; end is a name, int64 [1]."""
        return self.op("Slice", x, self.integers(0), end, self.integers(axis))


def to_onnx(
    network: TextClassifier, metadata: dict[str, str] | None = None, max_length: int = 0, end_id: int = 0
) -> "onnx.ModelProto":
    """The network, in fp32 and merged, as a checked model; its batch and its length are free.

    With n-grams it takes whole texts, padded on the right, and cuts them for the encoder: max_length tokens, of which
    the last is then end_id, the token that ends every text. With a window, too, its rows are padded on the right.
    Raises ValueError where adapters are not merged, ExportError above the 2 GB that one file holds.
    """
    import onnx
    from onnx import TensorProto, helper

    layers = network.encoder.layer_list()
    if any(len(linear.lora_A) and not linear.merged for linear in network.encoder.linears()):
        raise ValueError("merge the adapters first")
    num_bytes = sum(4 * tensor.numel() for tensor in network.encoder.published_tensors().values())
    if num_bytes > _MOST_BYTES:
        raise ExportError(f"the encoder takes {num_bytes / 1e9:.1f} GB in fp32, and one ONNX file holds at most 2 GB")
    graph = _Graph()
    if network.ngrams is not None:
        _cut(graph, max_length, end_id)
    if network.window:
        _windows(graph, network.window, network.encoder.shape.pad_id)
    bias = _attention_bias(graph, network.encoder)
    x = _embeddings(graph, network.encoder)
    modern = network.encoder.shape.modernbert
    reaches = _reaches(graph, network.encoder.shape, modern, bias) if modern else {}
    for index, layer in enumerate(layers):
        first_only = network.pooling == "first" and layer is layers[-1]
        if isinstance(layer, ModernBertLayer):
            x = _modernbert_layer(graph, layer, x, reaches[layer.is_global], f"layer.{index}", first_only)
        else:
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


def _cut(graph: _Graph, max_length: int, end_id: int) -> None:
    """Sets what the encoder reads: each row's first max_length tokens, a cut row's last replaced by end_id."""
    most = graph.integers(max_length)
    ids, mask = (graph.slice(name, 1, most) for name in ("input_ids", "attention_mask"))
    is_cut = graph.op("Greater", graph.op("ReduceSum", "attention_mask", graph.integers(1), keepdims=1), most)
    is_last = graph.op("Equal", _places(graph), graph.integers(max_length - 1))  # of the uncut length, so cut it too
    ends = graph.op("And", is_cut, graph.slice(is_last, 0, most))
    graph.input_ids, graph.attention_mask = graph.op("Where", ends, graph.integers(end_id), ids), mask


def _windows(graph: _Graph, longest: int, pad_id: int) -> None:
    """Sets what the encoder reads to the windows of each row, `Tokens.windows`, a row of the batch each."""
    op, one = graph.op, graph.integers(1)
    ids, lengths = graph.input_ids, op("ReduceSum", graph.attention_mask, one, keepdims=1)  # [batch, 1]
    inner = op("Sub", lengths, graph.integers(2))  # tokens between the first and the last
    count = op("Div", op("Add", inner, graph.integers(longest - 3)), graph.integers(longest - 2))  # rounded up
    count = op("Max", count, one)  # [batch, 1]
    each = op("Div", inner, count)
    more = op("Sub", inner, op("Mul", each, count))  # this many windows, the first ones, hold one token more
    numbers = graph.numbers(op("ReduceMax", count, keepdims=0))
    there_are = op("NonZero", op("Less", numbers, count))  # int64 [2, windows]
    row_of, number = (op("Gather", there_are, graph.scalar(row)) for row in range(2))
    number = op("Unsqueeze", number, one)
    count_of, each, more, end = (op("Gather", x, row_of) for x in (count, each, more, op("Sub", lengths, one)))
    start = op("Add", op("Mul", number, each), op("Min", number, more))
    size = op("Add", op("Add", each, op("Cast", op("Less", number, more), to=_INT64)), graph.integers(2))
    places = graph.numbers(op("ReduceMax", size, keepdims=0))  # [length]
    is_first = op("Equal", places, graph.integers(0))
    is_last = op("And", op("Equal", places, op("Sub", size, one)), op("Greater", count_of, one))
    is_token = op("Less", places, size)  # [windows, length]
    read = op("Where", is_first, graph.integers(0), op("Where", is_last, end, op("Add", start, places)))
    width = op("Shape", ids, start=1, end=2)
    flat = op("Add", op("Mul", op("Unsqueeze", row_of, one), width), op("Min", read, op("Sub", width, one)))
    ids = op("Gather", op("Reshape", ids, graph.integers(-1)), flat)
    graph.input_ids = op("Where", is_token, ids, graph.integers(pad_id))
    graph.attention_mask = op("Cast", is_token, to=_INT64)
    batch = graph.numbers(op("Squeeze", op("Shape", count, start=0, end=1)))
    is_of = op("Cast", op("Equal", op("Unsqueeze", batch, one), row_of), to=_FLOAT)  # [batch, windows]
    graph.mean_of_windows = op("Div", is_of, op("Cast", count, to=_FLOAT))


def _ngrams(graph: _Graph, ngrams: Ngrams) -> str:
    """[batch, labels]: `Ngrams.forward` of each row without its first token and its last."""
    table = graph.constant(ngrams.weight, "ngrams.weight")
    total, count = "", ""
    for size in (1, 2):
        # Of a row, the tokens from the second on that have one or two tokens behind them in the row.
        parts = [_from(graph, "input_ids", place, 1 + size - place) for place in range(1, size + 1)]
        hashed = graph.integers(FIRST if size == 1 else FIRST + SECOND)  # of the 1 that is added to each id
        for part, factor in zip(parts, (FIRST, SECOND), strict=False):
            hashed = graph.op("Add", hashed, graph.op("Mul", part, graph.integers(factor)))
        buckets = graph.op("Mod", graph.op("Mod", hashed, graph.integers(PRIME)), graph.integers(len(ngrams.weight)))
        mask = graph.op("Cast", _from(graph, "attention_mask", 1 + size, 0), to=_FLOAT)
        rows = graph.op("Mul", graph.op("Gather", table, buckets), graph.op("Unsqueeze", mask, graph.integers(2)))
        sums = graph.op("ReduceSum", rows, graph.integers(1), keepdims=0)
        counts = graph.op("ReduceSum", mask, graph.integers(1), keepdims=1)
        total, count = (graph.op("Add", total, sums), graph.op("Add", count, counts)) if total else (sums, counts)
    return graph.op("Div", total, graph.op("Sqrt", graph.op("Max", count, graph.number(1.0))))


def _from(graph: _Graph, x: str, first: int, without: int) -> str:
    """x [batch, length] -> its columns from `first` on, without the last so many."""
    end = graph.integers(-without if without else 2**31)
    return graph.op("Slice", x, graph.integers(first), end, graph.integers(1))


def _embeddings(graph: _Graph, encoder: Encoder) -> str:
    """What enters layer 0, [batch, length, hidden]: `Encoder.embed`."""
    shape = encoder.shape
    x = graph.op("Gather", graph.constant(encoder.word_embeddings, "word_embeddings"), graph.input_ids)
    if shape.position_rows:
        x = graph.op("Add", x, _positions(graph, encoder))
    if shape.num_token_types:
        x = graph.op("Add", x, graph.constant(encoder.token_type_embeddings[0], "token_type"))
    x = graph.norm(x, encoder.embedding_norm, "embedding_norm")
    if encoder.embedding_projection is None:
        return x
    return graph.layer_linear(x, encoder.embedding_projection, "embedding_projection")


def _positions(graph: _Graph, encoder: Encoder) -> str:
    """[batch, length, embedding], or [length, embedding] where all rows have the same."""
    shape = encoder.shape
    table = graph.constant(encoder.position_embeddings, "position_embeddings")
    if shape.position_offset:
        pad_id = graph.integers(shape.pad_id)
        is_token = graph.op("Cast", graph.op("Not", graph.op("Equal", graph.input_ids, pad_id)), to=_INT64)
        counted = graph.op("Mul", graph.op("CumSum", is_token, graph.scalar(1)), is_token)
        return graph.op("Gather", table, graph.op("Add", counted, pad_id))
    return graph.slice(table, 0, _length(graph))


def _length(graph: _Graph) -> str:
    """int64 [1]"""
    return graph.op("Shape", graph.input_ids, start=1, end=2)


def _places(graph: _Graph) -> str:
    """0, 1, ...: int64 [length]"""
    return graph.numbers(graph.op("Squeeze", _length(graph)))


def _distances(graph: _Graph, places: str) -> str:
    """Query minus key, int64 [length, length]."""
    queries, keys = (graph.op("Unsqueeze", places, graph.integers(axis)) for axis in (1, 0))
    return graph.op("Sub", queries, keys)


def _attention_bias(graph: _Graph, encoder: Encoder) -> str:
    """[batch, 1 or heads, 1 or length, length], added to attention scores: padding, and MPNet's relative bias."""
    is_padding = graph.op("Equal", graph.attention_mask, graph.integers(0))
    bias = graph.op("Mul", graph.op("Cast", is_padding, to=_FLOAT), graph.number(PADDING_BIAS))
    bias = graph.op("Unsqueeze", bias, graph.integers(1, 2))  # [batch, 1, 1, length]
    if not encoder.shape.relative_buckets:
        return bias
    # The bias depends on query minus key alone: a row a distance, from -(most - 1), picked by the distances there are.
    most = encoder.shape.max_tokens
    buckets = relative_buckets(most, encoder.shape.relative_buckets)
    distances = torch.cat([buckets[0].flip(0), buckets[1:, 0]])  # [2 * most - 1]
    table = graph.constant(encoder.relative_attention_bias[distances.to(encoder.word_embeddings.device)], "relative")
    distance = graph.op("Add", _distances(graph, _places(graph)), graph.integers(most - 1))
    relative = graph.op("Transpose", graph.op("Gather", table, distance), perm=[2, 0, 1])  # [heads, length, length]
    return graph.op("Add", graph.op("Unsqueeze", relative, graph.integers(0)), bias)


def _layer(graph: _Graph, layer: EncoderLayer, x: str, bias: str, name: str, first_only: bool) -> str:
    """x [batch, length, hidden] -> the same, or [batch, 1, hidden]: `EncoderLayer.forward`."""
    joined = layer.attention_input
    if first_only:  # the head reads the first token alone, so only its query is wanted
        one = graph.integers(1)
        start, end = joined.rows["query"]
        keys_values = graph.layer_linear(x, joined, f"{name}.key_value", end)
        x = graph.slice(x, 1, one)
        query = graph.layer_linear(x, joined, f"{name}.query", start, end)
        key, value = graph.split(keys_values, 2)
        bias = graph.slice(bias, 2, one)
    else:
        query, key, value = graph.split(graph.layer_linear(x, joined, f"{name}.attention_input"), 3)
    context = _attention(graph, layer, query, key, value, bias)
    y = graph.layer_linear(context, layer.attention_output, f"{name}.attention_output")
    x = graph.norm(graph.op("Add", y, x), layer.attention_norm, f"{name}.attention_norm")
    hidden = graph.layer_linear(x, layer.intermediate, f"{name}.intermediate")
    y = graph.layer_linear(graph.op("Gelu", hidden), layer.output, f"{name}.output")
    return graph.norm(graph.op("Add", y, x), layer.output_norm, f"{name}.output_norm")


class _Reach(NamedTuple):
    """`modernbert.Reach`, as names."""

    bias: str  # [batch or 1, 1, length or 1, length]
    cos: str  # [length, 1, head]
    sin: str  # the same, the first half negated


def _reaches(graph: _Graph, shape: EncoderShape, modern: ModernBertShape, padding: str) -> dict[bool, _Reach]:
    """By whether a layer attends to all tokens: `modernbert.reaches`."""
    places = _places(graph)
    is_far = graph.op("Greater", graph.op("Abs", _distances(graph, places)), graph.integers(modern.window))
    near = graph.op("Mul", graph.op("Cast", is_far, to=_FLOAT), graph.number(PADDING_BIAS))  # [length, length]
    near = graph.op("Min", padding, near)
    head_size = shape.hidden_size // shape.num_heads
    column = graph.op("Unsqueeze", graph.op("Cast", places, to=_FLOAT), graph.integers(1, 2))  # [length, 1, 1]
    thetas = {True: (padding, modern.global_theta), False: (near, modern.local_theta)}
    return {key: _Reach(bias, *_rotations(graph, column, head_size, theta)) for key, (bias, theta) in thetas.items()}


def _rotations(graph: _Graph, places: str, head_size: int, theta: float) -> tuple[str, str]:
    frequencies = graph.constant(1.0 / theta ** (torch.arange(0, head_size, 2).float() / head_size))
    angles = graph.op("Mul", places, frequencies)  # [length, 1, head / 2]
    cos, sin = graph.op("Cos", angles), graph.op("Sin", angles)
    return graph.op("Concat", cos, cos, axis=2), graph.op("Concat", graph.op("Neg", sin), sin, axis=2)


def _rotate(graph: _Graph, x: str, layer: Layer, cos: str, sin: str) -> str:
    """x [batch, length, hidden] -> the same, each head turned by its place's angles: `modernbert.rotate`."""
    hidden = layer.attention_output.in_features
    heads = graph.op("Reshape", x, graph.integers(0, 0, layer.num_heads, hidden // layer.num_heads))
    first, second = graph.split(heads, 2)
    swapped = graph.op("Concat", second, first, axis=3)
    turned = graph.op("Add", graph.op("Mul", heads, cos), graph.op("Mul", swapped, sin))
    return graph.op("Reshape", turned, graph.integers(0, 0, hidden))


def _modernbert_layer(graph: _Graph, layer: ModernBertLayer, x: str, reach: _Reach, name: str, first_only: bool) -> str:
    """x [batch, length, hidden] -> the same, or [batch, 1, hidden]: `ModernBertLayer.forward`."""
    bias, cos, sin = reach
    norm = layer.attention_norm
    normed = x if norm is None else graph.norm(x, norm, f"{name}.attention_norm")
    query, key, value = graph.split(graph.layer_linear(normed, layer.attention_input, f"{name}.attention_input"), 3)
    query, key = (_rotate(graph, part, layer, cos, sin) for part in (query, key))
    if first_only:  # the head reads the first token alone
        one = graph.integers(1)
        x, query, bias = graph.slice(x, 1, one), graph.slice(query, 1, one), graph.slice(bias, 2, one)
    context = _attention(graph, layer, query, key, value, bias)
    x = graph.op("Add", x, graph.layer_linear(context, layer.attention_output, f"{name}.attention_output"))
    normed = graph.norm(x, layer.output_norm, f"{name}.output_norm")
    hidden, gate = graph.split(graph.layer_linear(normed, layer.intermediate, f"{name}.intermediate"), 2)
    gated = graph.op("Mul", graph.op("Gelu", hidden), gate)
    x = graph.op("Add", x, graph.layer_linear(gated, layer.output, f"{name}.output"))
    return x if layer.final_norm is None else graph.norm(x, layer.final_norm, "final_norm")


def _attention(graph: _Graph, layer: Layer, query: str, key: str, value: str, bias: str) -> str:
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
        mask = graph.op("Cast", graph.attention_mask, to=_FLOAT)
        weights = graph.op("Div", mask, graph.op("ReduceSum", mask, graph.integers(1), keepdims=1))
        x = graph.op("MatMul", graph.op("Unsqueeze", weights, graph.integers(1)), x)  # [batch, 1, hidden]
    x = graph.op("Squeeze", x, graph.integers(1))
    head = network.head
    if head.dense is not None:
        x = graph.linear(x, head.dense.weight, head.dense.bias, "head.dense")
        x = graph.op(head.stock.activation.capitalize(), x)  # Tanh, Relu, Gelu
    if head.norm is not None:
        shift = torch.zeros_like(head.norm.weight) if head.norm.bias is None else head.norm.bias
        names = graph.constant(head.norm.weight, "head.norm.weight"), graph.constant(shift, "head.norm.bias")
        x = graph.op("LayerNormalization", x, *names, axis=-1, epsilon=head.norm.eps)
    x = graph.linear(x, network.head.out_proj.weight, network.head.out_proj.bias, "head.out_proj")
    if graph.mean_of_windows:
        x = graph.op("MatMul", graph.mean_of_windows, x)
    if network.ngrams is not None:
        x = graph.op("Add", x, _ngrams(graph, network.ngrams))
    graph.nodes.append(helper.make_node("Identity", [x], ["logits"], name="logits"))
