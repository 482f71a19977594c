"""One trained model for the whole room: nothing that a test does may change its folder."""

from pathlib import Path
from typing import Any

import pytest
from news import news_rows, run_of, write_csv

from submillion.commands.train import TrainResult, train
from submillion.interop import onnx_graph
from submillion.interop.onnx_module import OnnxModule


@pytest.fixture(scope="session")
def news_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("news") / "news.csv", news_rows())


@pytest.fixture(scope="session")
def trained(tiny_base: Path, news_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    folder = tmp_path_factory.mktemp("trained")
    return train(data=news_csv, overrides=run_of(tiny_base, folder, lora__rank=4, lora__targets=["all-linear"]))


TRACES: dict[str, Any] = {}  # by what a graph depends on beside its weights


@pytest.fixture(autouse=True)
def _traces_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has torch's exporter trace each kind of network once, which takes seconds: another one's weights go into a copy.

    What a test compares are logits of the weights that it exports, so a wrong copy fails it.
    """
    original = onnx_graph._trace

    def trace(module: OnnxModule) -> Any:
        import onnx_ir

        tensors = module.state_dict()
        network = module.network
        sizes = [(name, tuple(tensor.shape)) for name, tensor in tensors.items()]
        key = repr(
            (
                OnnxModule.forward,
                network.encoder.shape,
                network.pooling,
                network.window,
                module.max_length,
                module.end_id,
                sizes,
            )
        )
        if key not in TRACES:
            TRACES[key] = original(module)
        model = TRACES[key].clone()
        for name, value in model.graph.initializers.items():
            if name in tensors:
                value.const_value = onnx_ir.tensor(tensors[name].detach().numpy().copy(), name=name)
        return model

    monkeypatch.setattr(onnx_graph, "_trace", trace)
