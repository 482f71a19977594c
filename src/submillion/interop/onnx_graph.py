"""The network as an ONNX graph: torch's exporter traces the forward pass that predicts; batch and length are free."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from submillion.errors import ExportError
from submillion.interop.onnx_module import OnnxModule
from submillion.model.classifier import TextClassifier

if TYPE_CHECKING:
    import onnx
    import onnx_ir

OPSET, IR_VERSION = 20, 10  # the first opset with Gelu; onnxruntime 1.18 and later read both
HEAD = ("head.", "logits")  # how the names of what the head computes begin
NGRAMS = "network.ngrams.weight"  # the table's name
_MOST_BYTES = 2_000_000_000  # protobuf's limit for one file is 2 GiB


@torch.no_grad()
def to_onnx(
    network: TextClassifier, metadata: dict[str, str] | None = None, max_length: int = 0, end_id: int = 0
) -> "onnx.ModelProto":
    """Returns the network, in fp32 and merged, as a checked model; its batch and its length are free.

    With n-grams it takes whole texts, padded on the right, and cuts them for the encoder: max_length tokens, of which
    the last is then end_id, the token that ends every text. With a window, too, its rows are padded on the right.
    Raises ValueError if adapters are not merged, ExportError above the 2 GB that one file holds and if this torch
    cannot export the network.
    """
    import onnx
    import onnx_ir
    from onnxscript import optimizer

    if not network.is_merged:
        raise ValueError("merge the adapters first")
    num_bytes = sum(4 * tensor.numel() for tensor in network.encoder.published_tensors().values())
    if num_bytes > _MOST_BYTES:
        raise ExportError(f"the encoder takes {num_bytes / 1e9:.1f} GB in fp32, and one ONNX file holds at most 2 GB")
    traced = _trace(OnnxModule(network, max_length, end_id).eval())
    _name_head(traced.graph)
    # Every weight is stored as MatMul, and its quantization, reads it: the transpose of torch's.
    optimizer.optimize(traced, input_size_limit=_MOST_BYTES, output_size_limit=_MOST_BYTES)
    model = onnx_ir.to_proto(traced)
    _keep_what_is_needed(model)
    model.producer_name, model.ir_version = "submillion", IR_VERSION
    onnx.helper.set_model_props(model, metadata or {})
    onnx.checker.check_model(model)
    return model


def _trace(module: OnnxModule) -> "onnx_ir.Model":
    """Returns the module as torch's exporter writes it. Raises ExportError if it cannot."""
    input_ids = torch.full((2, 3), module.network.encoder.shape.pad_id + 1)  # its values and sizes are not looked at
    inputs = (input_ids, torch.ones_like(input_ids))
    module(*inputs)  # so that tables the encoder keeps from one pass to the next are not made while it is traced
    free = {0: "batch", 1: "length"}
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                inputs,
                dynamo=True,
                opset_version=OPSET,
                input_names=["input_ids", "attention_mask"],
                output_names=["logits"],
                dynamic_shapes={"input_ids": free, "attention_mask": free},
                optimize=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(
            f"torch {torch.__version__} cannot export this network to ONNX: {error}\n"
            "fix: install the torch and onnxscript of constraints.txt, with which exports are tested"
        ) from error
    assert program is not None
    return program.model


def _name_head(graph: "onnx_ir.Graph") -> None:
    """Begins the names of what the head's nodes compute with "head.", so that `quantize` finds them."""
    for node in graph:
        if "'network.head'" in node.metadata_props.get("pkg.torch.onnx.name_scopes", ""):
            for value in node.outputs:
                if not value.is_graph_output():
                    value.name = f"head.{value.name}"


def _keep_what_is_needed(model: "onnx.ModelProto") -> None:
    """Removes where in our code each node comes from, and the shapes between nodes.

    With these shapes onnxruntime joins each addition and layer norm to a kernel with which MiniLM-L6 is 10 % slower on
    a CPU.
    """
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]
    for item in (*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        del item.metadata_props[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences torch's exporter.

    It names each optional package that it does not find, and each name that stands for two equal sizes.
    """
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
