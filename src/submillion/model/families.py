"""The families of encoders, as tables: the names in their config.json and their checkpoints, and how they differ.

A family that computes what BERT does needs a row in each table here. ModernBERT computes something else: modernbert.py.
"""

from dataclasses import dataclass
from typing import Literal

from submillion.config.schema import TARGETS

Family = Literal["bert", "roberta", "mpnet", "distilbert", "electra", "modernbert"]

# model_type of a config.json -> the family that its checkpoints belong to.
FAMILY_OF_TYPE: dict[str, Family] = {
    "bert": "bert",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
    "camembert": "roberta",
    "mpnet": "mpnet",
    "distilbert": "distilbert",
    "electra": "electra",
    "modernbert": "modernbert",
}
DEFAULT_PAD_ID: dict[Family, int] = {"roberta": 1, "mpnet": 1, "modernbert": 50283}  # the others: 0
DEFAULT_NORM_EPS: dict[Family, float] = {"modernbert": 1e-5}  # the others: 1e-12
COUNTS_FROM_PADDING = ("roberta", "mpnet")  # the first token's position is the padding id + 1

# BERT's key in config.json -> the family's own key, if it has another name.
CONFIG_KEYS: dict[Family, dict[str, str]] = {
    "distilbert": {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_act": "activation",
    },
    "modernbert": {"hidden_act": "hidden_activation", "layer_norm_eps": "norm_eps"},
}

# Our module -> the published checkpoints' name within an encoder layer.
_BERT_KEYS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
}
LAYER_KEYS: dict[Family, dict[str, str]] = {
    "bert": _BERT_KEYS,
    "roberta": _BERT_KEYS,
    "electra": _BERT_KEYS,
    "mpnet": _BERT_KEYS
    | {
        "query": "attention.attn.q",
        "key": "attention.attn.k",
        "value": "attention.attn.v",
        "attention_output": "attention.attn.o",
        "attention_norm": "attention.LayerNorm",
    },
    "distilbert": {
        "query": "attention.q_lin",
        "key": "attention.k_lin",
        "value": "attention.v_lin",
        "attention_output": "attention.out_lin",
        "attention_norm": "sa_layer_norm",
        "intermediate": "ffn.lin1",
        "output": "ffn.lin2",
        "output_norm": "output_layer_norm",
    },
    "modernbert": {
        "query": "attn.Wqkv",  # one matrix holds all three, in this order
        "key": "attn.Wqkv",
        "value": "attn.Wqkv",
        "attention_output": "attn.Wo",
        "attention_norm": "attn_norm",
        "intermediate": "mlp.Wi",
        "output": "mlp.Wo",
        "output_norm": "mlp_norm",
    },
}
_LAYER_PREFIX: dict[Family, str] = {"distilbert": "transformer.layer.", "modernbert": "layers."}
WORD_EMBEDDINGS: dict[Family, str] = {"modernbert": "embeddings.tok_embeddings"}
EMBEDDING_NORM: dict[Family, str] = {"modernbert": "embeddings.norm"}
FINAL_NORM = "final_norm"  # ModernBERT's, after the last layer


@dataclass(frozen=True)
class StockHead:
    """What transformers' class for sequence classification computes: out_proj(norm(activation(dense(pooled))))."""

    activation: Literal["tanh", "relu", "gelu"] = "tanh"
    dense_bias: bool = True
    norm: bool = False
    norm_bias: bool = False
    norm_eps: float = 1e-5


ROBERTA_HEAD = StockHead()  # and BERT's, whose pooler and classifier compute the same
STOCK_HEADS: dict[Family, StockHead] = {"distilbert": StockHead("relu"), "electra": StockHead("gelu")}


def layer_prefix(family: Family, layer: int) -> str:
    """Returns the prefix of the published names of a layer's modules, such as 'encoder.layer.0.'."""
    return f"{_LAYER_PREFIX.get(family, 'encoder.layer.')}{layer}."


def layer_modules(family: Family, layer: int) -> dict[str, tuple[str, ...]]:
    """Returns, for one encoder layer, {published linear module: our parts stored in it, in the order of its rows}."""
    prefix, keys = layer_prefix(family, layer), LAYER_KEYS[family]
    modules: dict[str, tuple[str, ...]] = {}
    for part in TARGETS:
        name = prefix + keys[part]
        modules[name] = (*modules.get(name, ()), part)
    return modules
