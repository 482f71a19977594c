"""A tiny pretrained base as files: the real layout, with random weights."""

import json
import string
from pathlib import Path

import torch
from safetensors.torch import save_file

HIDDEN, INTERMEDIATE, LAYERS, POSITIONS = 32, 64, 2, 160
WORDS = """
the of and to in on for at with by from as is was are be has have will its new said says after over up out more than
world country president election government minister vote war peace army attack police court border treaty talks nation
team game season coach player win wins won lost match league cup score goal race medal final olympic champion title
oil price prices stock stocks market shares profit company sales bank dollar economy trade growth deal merger jobs rate
software computer internet web search space nasa scientists research phone wireless chip security virus online data
climb fall rise meets opec city weather farmers street music movie travel food health school
"""


def write_tiny_base(folder: Path) -> None:
    """Writes a random BERT into the folder: its configuration, its vocabulary and its weights, the same each time."""
    vocab = vocabulary()
    config = {
        "model_type": "bert",
        "vocab_size": len(vocab),
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "pad_token_id": 0,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
    }
    (folder / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    save_file(random_weights(len(vocab)), folder / "model.safetensors")


def vocabulary() -> list[str]:
    """Returns the word pieces: the special tokens, every ASCII character, and WORDS."""
    characters = string.ascii_lowercase + string.digits
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.punctuation, *characters]
    vocab += [f"##{character}" for character in characters]
    return vocab + list(dict.fromkeys(word for word in WORDS.split() if len(word) > 1))


def random_weights(vocab_size: int) -> dict[str, torch.Tensor]:
    """Returns BERT's tensors under their published names."""
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, torch.Tensor] = {}

    def add(name: str, *shape: int) -> None:
        # Wide enough that the first token hears of the others; 0.02 would leave it deaf at this size.
        tensors[name] = torch.randn(shape, generator=generator) * 0.2

    def add_linear(name: str, size_in: int, size_out: int) -> None:
        add(f"{name}.weight", size_out, size_in)
        add(f"{name}.bias", size_out)

    def add_norm(name: str) -> None:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = torch.ones(HIDDEN), torch.zeros(HIDDEN)

    for table, rows in (("word", vocab_size), ("position", POSITIONS), ("token_type", 2)):
        add(f"embeddings.{table}_embeddings.weight", rows, HIDDEN)
    add_norm("embeddings.LayerNorm")
    for index in range(LAYERS):
        layer = f"encoder.layer.{index}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            add_linear(f"{layer}.{name}", HIDDEN, HIDDEN)
        add_linear(f"{layer}.intermediate.dense", HIDDEN, INTERMEDIATE)
        add_linear(f"{layer}.output.dense", INTERMEDIATE, HIDDEN)
        add_norm(f"{layer}.attention.output.LayerNorm")
        add_norm(f"{layer}.output.LayerNorm")
    return tensors
