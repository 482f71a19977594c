"""A PEFT adapter's tensors, sorted by what they do to the stock class of its base, and checked against both."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from submillion.errors import ArtefactError, BaseModelError
from submillion.inference.json_files import read_json
from submillion.inference.pretrained import check_problem_type
from submillion.inference.stock import STOCK_CLASSES, StockClass, stock_class
from submillion.interop.peft_files import PeftAdapter, read_tensors
from submillion.interop.peft_settings import is_saved, is_targeted, rank_and_scale, token_indices
from submillion.model.budget import head_shapes
from submillion.model.config_json import read_shape
from submillion.model.encoder import Encoder
from submillion.model.families import WORD_EMBEDDINGS, layer_modules
from submillion.model.shape import EncoderShape

Shapes = dict[str, tuple[int, ...]]
_LORA = re.compile(
    r"(.+)\.lora_(embedding_[AB]|[AB]|magnitude_vector)(?:\.(?!weight$|bias$)[^.]+)?(?:\.(weight|bias))?"
)
_TOKEN_ROWS = re.compile(r"(.+)\.token_adapter\.trainable_tokens_delta(?:\.[^.]+)?")


@dataclass(frozen=True)
class StockModel:
    """The stock class of transformers that the adapter changes, with the sizes of its base."""

    settings: dict[str, Any]  # config.json of the base
    shape: EncoderShape
    stock: StockClass

    @property
    def head(self) -> dict[str, str]:
        """Returns {the stock class's name of a tensor of the head: our name}."""
        names = head_shapes("stock", self.shape.hidden_size, 1, self.shape.stock_head)
        layers = {name: name.rpartition(".") for name in names}
        return {
            f"{self.stock.head[f'head.{layer}']}.{kind}": f"head.{name}" for name, (layer, _, kind) in layers.items()
        }

    @property
    def last_bias(self) -> str:
        """Returns the name of the tensor with a number for each label."""
        return f"{self.stock.head['head.out_proj']}.bias"

    @property
    def word_embeddings(self) -> str:
        return self.stock.prefix + WORD_EMBEDDINGS.get(self.shape.family, "embeddings.word_embeddings")

    @property
    def layer_modules(self) -> dict[str, tuple[int, tuple[str, ...]]]:
        """Returns {linear module of an encoder layer: (layer, our parts stored in it)}."""
        return {
            f"{self.stock.prefix}{module}": (layer, parts)
            for layer in range(self.shape.num_layers)
            for module, parts in layer_modules(self.shape.family, layer).items()
        }

    @property
    def encoder_modules(self) -> list[str]:
        """Returns the names of the encoder's linear modules and embeddings."""
        shapes = self.shapes(num_labels=1).items()
        return [name.removesuffix(".weight") for name, size in shapes if len(size) == 2 and name not in self.head]

    def shapes(self, num_labels: int) -> Shapes:
        """Returns the shape of every tensor of the class, by its name."""
        with torch.device("meta"):
            tensors = Encoder(self.shape).published_tensors()
        sizes = head_shapes("stock", self.shape.hidden_size, num_labels, self.shape.stock_head)
        encoder = {f"{self.stock.prefix}{name}": tuple(tensor.shape) for name, tensor in tensors.items()}
        return encoder | {theirs: sizes[ours.removeprefix("head.")] for theirs, ours in self.head.items()}

    def is_embedding(self, module: str) -> bool:
        return module.endswith(("_embeddings", "relative_attention_bias"))


@dataclass(frozen=True)
class Parts:
    """What an adapter holds, by the stock class's names."""

    lora: dict[str, dict[str, Tensor]]  # by module: A, B, B.bias, embedding_A, embedding_B, magnitude_vector
    saved: dict[str, Tensor]  # tensors that take the place of the base's
    token_rows: dict[str, Tensor]  # by embedding module: rows that take the place of the base's
    label_names: list[str]  # as our exports carry them; else empty


def read_stock_model(adapter: PeftAdapter) -> StockModel:
    """Reads the base's config.json. Raises BaseModelError for a base that no classifier here can be built on."""
    path = adapter.base.folder / "config.json"
    settings = read_json(path) if path.is_file() else {}
    model_type = settings.get("model_type")
    if settings and model_type not in STOCK_CLASSES:
        raise BaseModelError(
            f"the adapter's base {adapter.base.name} has model_type {model_type!r}, expected one of "
            f"{', '.join(STOCK_CLASSES)}\nfix: use the adapter with transformers and peft"
        )
    shape = read_shape(adapter.base.folder)
    check_problem_type(settings, path)
    stock = stock_class(model_type, path)
    return StockModel(settings, shape, stock)


def read_parts(adapter: PeftAdapter, stock_model: StockModel) -> Parts:
    """Reads and sorts the adapter's tensors.

    Raises ArtefactError if they are not whole, or not those that adapter_config.json says peft put into this class.
    """
    state, label_names = read_tensors(adapter.folder)
    known = stock_model.shapes(num_labels=1)
    parts = Parts({}, {}, {}, label_names)
    problems: list[str] = []
    for name, tensor in state.items():
        if ".original_module." in name:  # what modules_to_save left unused
            continue
        lora, rows, plain = _LORA.fullmatch(name), _TOKEN_ROWS.fullmatch(name), _plain_name(name, known)
        half = lora[2] + ".bias" * (lora[3] == "bias") if lora else ""
        earlier = parts.lora.get(lora[1], {}).get(half) if lora else parts.saved.get(plain)
        if earlier is not None and not torch.equal(earlier, tensor):
            problems.append(f"{name}: a second adapter's, beside another one's")
        elif lora and f"{lora[1]}.weight" in known:
            parts.lora.setdefault(lora[1], {})[half] = tensor
        elif rows and f"{rows[1]}.weight" in known:
            parts.token_rows[rows[1]] = tensor
        elif plain in known:
            parts.saved[plain] = tensor
        else:
            problems.append(f"{name}: this model has no place for it")
    problems += _wrong_modules(parts, adapter.settings, stock_model)
    problems += [
        f"{name}: expected in the adapter, found nothing"
        for name in known
        if is_saved(name, adapter.settings) and name not in parts.saved
    ]
    refuse(problems)
    return parts


def _wrong_modules(parts: Parts, settings: dict[str, Any], stock_model: StockModel) -> list[str]:
    """Returns a problem for each adapter that adapter_config.json does not name, lacks, or names of another kind."""
    problems = []
    for module in stock_model.encoder_modules:
        is_embedding = stock_model.is_embedding(module)
        if is_targeted(module, settings, not is_embedding) and module not in parts.lora:
            problems.append(f"{module}: target_modules names it, found no adapter for it")
        trains_rows = token_indices(module, settings, module == stock_model.word_embeddings)
        if trains_rows and module not in parts.token_rows:
            problems.append(f"{module}: trainable_token_indices names rows of it, found none")
    for module, tensors in parts.lora.items():
        is_embedding = stock_model.is_embedding(module)
        expected = {"embedding_A", "embedding_B"} if is_embedding else {"A", "B"}
        expected |= {"magnitude_vector"} if settings.get("use_dora") else set()
        expected |= {"B.bias"} if settings.get("lora_bias") else set()
        if not is_targeted(module, settings, not is_embedding):
            problems.append(f"{module}: has an adapter that target_modules does not name")
        elif set(tensors) != expected:
            names = [", ".join(f"lora_{name}" for name in sorted(group)) for group in (expected, tensors)]
            problems.append(f"{module}: expected {names[0]}; found {names[1]}")
    return problems


def _plain_name(name: str, known: Collection[str]) -> str:
    """Returns the name without what peft wraps around modules.

    Examples: classifier.modules_to_save.default.weight, x.base_layer.bias.
    """
    name = name.replace(".token_adapter.base_layer.", ".").replace(".base_layer.", ".")
    before, wrapped, after = name.partition(".modules_to_save.")
    if not wrapped:
        return name
    return f"{before}.{after}" if f"{before}.{after}" in known else f"{before}.{after.partition('.')[2]}"


def whole_head(parts: Parts, base_state: Mapping[str, Tensor], stock_model: StockModel) -> dict[str, Tensor]:
    """Returns the head's tensors, fp32, by the stock class's names: the adapter's, else those of the base.

    Raises ArtefactError if neither has one, or if their shapes do not fit each other.
    """
    head: dict[str, Tensor] = {}
    for name in stock_model.head:
        # Of a base saved without its stock class, such as a sentence encoder's, BERT's pooler is pooler.dense.
        found = parts.saved.get(name, base_state.get(name, base_state.get(name.removeprefix(stock_model.stock.prefix))))
        if found is not None:
            head[name] = found.float()
    missing = [name for name in stock_model.head if name not in head]
    if missing:
        modules = dict.fromkeys(name.removeprefix(stock_model.stock.prefix).split(".")[0] for name in stock_model.head)
        raise ArtefactError(
            f"expected the head of {stock_model.stock.name} in the adapter or its base, found no {', '.join(missing)}\n"
            "the base came without them, and the adapter's modules_to_save left them out: they were random numbers in "
            "training and were never saved, and peft draws new ones at each load\n"
            f"fix: train the adapter again with modules_to_save={list(modules)}; or --base with the model "
            "that has them"
        )
    check_shapes(
        head,
        {name: size for name, size in stock_model.shapes(len(head[stock_model.last_bias])).items() if name in head},
    )
    return head


def lora_of(
    module: str, tensors: dict[str, Tensor], sizes: tuple[int, int], settings: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """Returns A [rank, in] and B [out, rank] of a module, with the scale in B.

    sizes: (in, out). Raises ArtefactError if the tensors have other shapes than adapter_config.json says.
    """
    rank, scale = rank_and_scale(module, settings)
    kind = "embedding_" if "embedding_A" in tensors else ""
    lora_A, lora_B = tensors[f"{kind}A"], tensors[f"{kind}B"]
    expected = (rank, sizes[0]), (sizes[1], rank)
    if (lora_A.shape, lora_B.shape) != expected:
        refuse(
            [
                f"{module}: expected lora_{kind}A {list(expected[0])} and lora_{kind}B {list(expected[1])}, "
                f"found {list(lora_A.shape)} and {list(lora_B.shape)}"
            ]
        )
    return lora_A, lora_B * scale


def check_shapes(tensors: Mapping[str, Tensor], expected: Shapes) -> None:
    """Raises ArtefactError naming the tensors that have another shape than expected."""
    wrong = {name: size for name, size in expected.items() if tensors[name].shape != size}
    refuse([f"{name}: expected {list(size)}, found {list(tensors[name].shape)}" for name, size in wrong.items()])


def refuse(problems: list[str]) -> None:
    """Raises ArtefactError with these problems, if there are any."""
    if problems:
        raise ArtefactError(
            f"the adapter does not fit this base's stock class:\n{indented(problems)}\n"
            "fix: --base with the model it was trained on; the adapter's folder as peft saved it"
        )


def indented(lines: list[str]) -> str:
    """Returns the first lines of a list for a message, and how many more there are."""
    more = f"\n  and {len(lines) - 12} more" * (len(lines) > 12)
    return "\n".join(f"  {line}" for line in lines[:12]) + more
