"""Tokens to logits: encoder, pooling, head. Its parameters are exactly what trains; everything else is a buffer."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from submillion.model.adapters import AdapterSet
from submillion.model.cpu.dropout import Dropout
from submillion.model.encoder import Encoder
from submillion.model.head import Head
from submillion.model.lora import PretrainedLinear
from submillion.model.ngrams import Ngrams
from submillion.model.norm import LayerNorm
from submillion.model.shape import EncoderShape
from submillion.model.sharing import sharing
from submillion.model.spec import AdapterSpec, NetworkSpec


class TextClassifier(nn.Module):
    """The whole network: an encoder, which other networks may share, and this network's own adapters, head and n-grams.

    adapters: what trains in the encoder; None in a merged network, whose encoder has them in its weights. The compute
    type is the type of the encoder's buffers: see `to_compute`. A forward pass takes rows whole; `compute_logits` cuts
    them into windows.
    """

    adapters: AdapterSet | None

    def __init__(
        self,
        shape: EncoderShape,
        network: NetworkSpec,
        adapters: AdapterSpec,
        num_outputs: int,
        generator: torch.Generator | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        """generator: draws the weights of the head, then of the adapters.

        encoder: another network's encoder, to be shared by reference; None makes a new one, its weights zero until
        `load`. Raises ValueError if the encoder has another shape or dropout rate, or was cast already (see
        `AdapterSet`), and ConfigError for adapters on layers that the encoder does not have.
        """
        super().__init__()
        if encoder is not None and (encoder.shape, encoder.dropout_rate) != (shape, network.dropout):
            raise ValueError(
                f"expected an encoder of {shape} with dropout {network.dropout}, "
                f"found {encoder.shape} with dropout {encoder.dropout_rate}"
            )
        self.pooling = network.pooling
        self.window = network.window if network.has_windows else 0
        self.int8_margin: float | None = None
        self.encoder = encoder or Encoder(shape, network.dropout)
        head = Head(network.head, shape.hidden_size, num_outputs, network.dropout, generator, shape.stock_head)
        self.adapters = AdapterSet(self.encoder.layer_list(), adapters, network.unfreeze_layers, generator)
        self.head = head
        self.ngrams = Ngrams(network.ngram_buckets, num_outputs) if network.ngram_buckets else None

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Copies a published checkpoint's tensors into the encoder, and from there into the unfrozen layers.

        Networks that share the encoder get its new weights too. Raises BaseModelError as `Encoder.load` does, and
        ValueError for a merged network.
        """
        adapters = self._adapter_set()
        self.encoder.load(state)
        adapters.copy_pretrained(self.encoder.layer_list())

    def forward(self, input_ids: Tensor, attention_mask: Tensor, dropout: Dropout | None = None) -> Tensor:
        """Returns logits, fp32 [batch, outputs]; input_ids, attention_mask int64 [batch, length].

        dropout: None in evaluation. The logits lack what n-grams add: these read whole texts, and `compute_logits` adds
        them.
        """
        return self.head(self.pooled(self.encoder.embed(input_ids, dropout), attention_mask, dropout), dropout)

    def pooled(self, x: Tensor, attention_mask: Tensor, dropout: Dropout | None = None, first_layer: int = 0) -> Tensor:
        """Returns what the head reads, fp32 [batch, hidden]; x [batch, length, hidden] enters layer `first_layer`."""
        layers, first_only = range(first_layer, self.encoder.shape.num_layers), self.pooling == "first"
        int8 = self.int8_margin is not None
        x = self.encoder.run(x, attention_mask, layers, dropout, first_only, self.adapters, int8)
        return self._pool(x, attention_mask).float()

    def _pool(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        if self.pooling == "first":
            return hidden_states[:, 0]
        weights = attention_mask.float() / attention_mask.sum(dim=1, keepdim=True)  # [batch, length]
        return torch.einsum("blh,bl->bh", hidden_states.float(), weights)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Returns the parameters that train, by name, in a fixed order, all fp32. A saved model holds exactly these.

        Raises ValueError for a merged network: its parameters are in the network that it was merged from.
        """
        encoder = {f"encoder.{name}": parameter for name, parameter in self._adapter_set().trainable().items()}
        rest = {name: p for name, p in self.named_parameters() if name.startswith(("head.", "ngrams."))}
        return encoder | rest

    def _adapter_set(self) -> AdapterSet:
        if self.adapters is None:
            raise ValueError(
                "expected a network with its adapters apart, found a merged one: use the one it was merged from"
            )
        return self.adapters

    @property
    def first_trained_layer(self) -> int:
        """Returns the lowest encoder layer that trains, or the number of layers if none does.

        What the layers below compute never changes. Raises ValueError for a merged network.
        """
        return self._adapter_set().first_trained_layer

    def snapshot(self) -> dict[str, Tensor]:
        """Returns a copy of what `trainable` returns now, for `restore`."""
        return {name: parameter.detach().clone() for name, parameter in self.trainable().items()}

    @torch.no_grad()
    def restore(self, snapshot: dict[str, Tensor]) -> None:
        """Sets the parameters, in place, to those of a `snapshot`."""
        parameters = self.trainable()
        for name, tensor in snapshot.items():
            parameters[name].copy_(tensor)

    def scale_adapters(self, factor: float) -> None:
        """Multiplies what every adapter adds by `factor`: 0 leaves the pretrained weights, 1 changes nothing."""
        self._adapter_set().scale(factor)

    def to_compute(
        self, dtype: torch.dtype, device: torch.device | str = "cpu", int8: bool = False
    ) -> "TextClassifier":
        """Casts the frozen tensors to the compute type, moves all tensors to the device, and returns this network.

        Parameters, layer norms on a CPU and the weights that adapters are added to stay in fp32. Networks that share
        the encoder share the cast, so build them before it. int8: whether to use int8, see `use_int8`. Raises
        ValueError for a merged network: its weights would be rounded twice.
        """
        if self.is_merged:
            raise ValueError("expected a network with its adapters apart, found a merged one: cast it before merging")
        for module in self.modules():
            if isinstance(module, LayerNorm) and torch.device(device).type == "cpu":
                continue
            for name, buffer in module.named_buffers(recurse=False):
                if not (isinstance(module, PretrainedLinear) and name == "weight" and module.keeps_fp32):
                    setattr(module, name, buffer.to(dtype))
        self.use_int8(0.0 if int8 else None)
        return self.to(device)

    def use_int8(self, margin: float | None) -> None:
        """Switches products by whole frozen weights to int8 (`linear_int8`); None switches them to the compute type.

        margin: rows whose two best logits are closer than this are computed again in the compute type by
        `compute_logits`; a forward pass alone does not.
        """
        self.int8_margin = margin

    def without_int8(self) -> "TextClassifier":
        """Returns this network, every tensor shared, with all products in the compute type."""
        twin = sharing(self)
        twin.use_int8(None)
        return twin

    @property
    def is_merged(self) -> bool:
        return self.adapters is None

    def merged(self) -> "TextClassifier":
        """Returns a network with every adapter added to its weight: the same logits to rounding, without their cost.

        It shares all other tensors with this network, which does not change. After more training, merge again. A merged
        network returns itself.
        """
        if self.adapters is None:
            return self
        return sharing(self, encoder=self.encoder.merged(self.adapters), adapters=None)
