"""Tokens to logits: encoder, pooling, head. Its parameters are exactly what trains; everything else is a buffer."""

import torch
from torch import Tensor, nn

from submillion.config import LoraConfig, ModelConfig
from submillion.model.encoder import Encoder
from submillion.model.functional import Dropout
from submillion.model.head import Head
from submillion.model.lora import LoraLinear
from submillion.model.ngrams import Ngrams
from submillion.model.norm import LayerNorm
from submillion.model.shape import EncoderShape


class TextClassifier(nn.Module):
    """The whole network. The compute type is the type its buffers have: see `to_compute`.

    Without weights until `encoder.load`. `lora.rank` and `model.window` are numbers here: "auto" is resolved by then.
    A forward pass takes rows whole: windows are `compute_logits`' work.
    """

    def __init__(
        self,
        shape: EncoderShape,
        model: ModelConfig,
        lora: LoraConfig,
        num_labels: int,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.pooling = model.pooling
        self.window = int(model.window) if model.has_windows else 0
        self.int8_margin: float | None = None
        self.encoder = Encoder(shape, model.dropout)
        self.head = Head(model.head, shape.hidden_size, num_labels, model.dropout, generator, shape.stock_head)
        self.ngrams = Ngrams(model.ngram_buckets, num_labels) if model.ngram_buckets else None
        self.encoder.add_adapters(lora, generator)
        if not model.freeze_base:
            self.encoder.open_layers(model.train_last_k_layers)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, dropout: Dropout | None = None) -> Tensor:
        """input_ids, attention_mask int64 [batch, length] -> logits fp32 [batch, labels]. dropout None: evaluation.

        Without what n-grams add: they read whole texts, which `compute_logits` has.
        """
        return self.head(self.pooled(self.encoder.embed(input_ids, dropout), attention_mask, dropout), dropout)

    def pooled(self, x: Tensor, attention_mask: Tensor, dropout: Dropout | None = None, first_layer: int = 0) -> Tensor:
        """What enters layer `first_layer`, x [batch, length, hidden], to what the head reads, fp32 [batch, hidden]."""
        layers = range(first_layer, self.encoder.shape.num_layers)
        x = self.encoder.run(x, attention_mask, layers, dropout, first_only=self.pooling == "first")
        return self._pool(x, attention_mask).float()

    def _pool(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        if self.pooling == "first":
            return hidden_states[:, 0]
        weights = attention_mask.float() / attention_mask.sum(dim=1, keepdim=True)  # [batch, length]
        return torch.einsum("blh,bl->bh", hidden_states.float(), weights)

    def trainable(self) -> dict[str, nn.Parameter]:
        """The declared trainable set: name -> fp32 parameter, in a fixed order. The artefact holds exactly these."""
        return dict(self.named_parameters())

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of what `trainable` holds now, for `restore`."""
        return {name: parameter.detach().clone() for name, parameter in self.trainable().items()}

    @torch.no_grad()
    def restore(self, snapshot: dict[str, Tensor]) -> None:
        """Puts back, in place, what a `snapshot` holds."""
        parameters = self.trainable()
        for name, tensor in snapshot.items():
            parameters[name].copy_(tensor)

    @torch.no_grad()
    def scale_adapters(self, factor: float) -> None:
        """Multiplies what every adapter adds: by 0 the encoder is the pretrained one, by 1 nothing changes."""
        for linear in self.encoder.linears():
            for lora_B in linear.lora_B.values():
                lora_B.mul_(factor)

    def to_compute(
        self, dtype: torch.dtype, device: torch.device | str = "cpu", int8: bool = False
    ) -> "TextClassifier":
        """Casts what is frozen to the compute type, once, and moves all to the device.

        Parameters, layer norms on a CPU and the weights that have adapters stay in fp32. int8: see `use_int8`.

        Raises ValueError while merged: the weights to restore would be left behind.
        """
        if self.merged:
            raise ValueError("unmerge the adapters before changing the compute type")
        for module in self.modules():
            if isinstance(module, LayerNorm) and torch.device(device).type == "cpu":
                continue
            for name, buffer in module.named_buffers(recurse=False):
                if not (isinstance(module, LoraLinear) and name == "weight" and module.keeps_fp32):
                    setattr(module, name, buffer.to(dtype))
        self.use_int8(0.0 if int8 else None)
        return self.to(device)

    def use_int8(self, margin: float | None) -> None:
        """From here on, products by whole frozen weights are in int8 (`linear_int8`); None: in the compute type.

        margin: rows whose two best logits are closer than this are computed again in the compute type by
        `compute_logits`; a forward pass alone does not.
        """
        self.int8_margin = margin
        for linear in self.encoder.linears():
            linear.int8 = margin is not None

    @property
    def merged(self) -> bool:
        return any(linear.merged for linear in self.encoder.linears())

    def merge(self) -> None:
        """Adds every adapter to its pretrained weight: the same logits to rounding, no adapter cost. Twice is once."""
        for linear in self.encoder.linears():
            linear.merge()

    def unmerge(self) -> None:
        """Puts every pretrained weight back, bit for bit. Twice is once."""
        for linear in self.encoder.linears():
            linear.unmerge()
