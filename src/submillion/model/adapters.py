"""What trains in an encoder, apart from the encoder itself: several sets can share one encoder, in one process."""

import copy
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import nn

from submillion.model.bert import BertLayer
from submillion.model.budget import adapted_layers
from submillion.model.lora import LinearAdapter
from submillion.model.modernbert import ModernBertLayer
from submillion.model.sharing import sharing
from submillion.model.spec import AdapterSpec

Layer = BertLayer | ModernBertLayer


class AdapterSet(nn.Module):
    """LoRA adapters for an encoder's layers, and copies of its last layers that train in full: the unfrozen layers.

    All its parameters are fp32. It holds no frozen weights and changes none: each pass of the encoder is given the set.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        spec: AdapterSpec,
        unfreeze_layers: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        """layers: all layers of the encoder. Adapters are drawn from `generator` in the encoder's order.

        Raises ConfigError for adapters on layers that the encoder does not have, and ValueError if a weight that
        adapters are added to is not in fp32, because the encoder was shared with other networks and cast already.
        """
        super().__init__()
        self.num_layers = len(layers)
        first_unfrozen = max(0, len(layers) - unfreeze_layers)
        self.unfrozen = nn.ModuleDict({str(i): _unfrozen(layers[i]) for i in range(first_unfrozen, len(layers))})
        self.lora = nn.ModuleDict()
        for index in adapted_layers(spec, len(layers)) if spec.rank else ():
            linears = [linear for linear in self.layer(index, layers[index]).linears() if linear.targeted(spec.targets)]
            for linear in linears:
                if linear.weight.dtype != torch.float32:
                    raise ValueError(
                        f"layer {index}, {linear.name}: expected a weight in fp32, found {linear.weight.dtype}; "
                        "build every network that shares an encoder before to_compute casts it"
                    )
                linear.keeps_fp32 = True
            adapters = {linear.name: LinearAdapter(linear, spec, generator) for linear in linears}
            if adapters:
                self.lora[str(index)] = nn.ModuleDict(adapters)

    def layer(self, index: int, pretrained: Layer) -> Layer:
        """Returns the layer that a pass computes at this index: the unfrozen one if there is one, else `pretrained`."""
        key = str(index)
        return cast(Layer, self.unfrozen[key]) if key in self.unfrozen else pretrained

    def of_layer(self, index: int) -> Mapping[str, LinearAdapter]:
        """Returns the adapters of an encoder layer by the names of its linear layers."""
        key = str(index)
        return dict(cast(Mapping[str, LinearAdapter], self.lora[key])) if key in self.lora else {}

    @property
    def first_trained_layer(self) -> int:
        """Returns the lowest layer with parameters, or the number of layers if none has any.

        What the layers below compute never changes.
        """
        return min((int(key) for key in (*self.lora, *self.unfrozen)), default=self.num_layers)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Returns every parameter by its name, such as layers.0.attention_input.lora_A.query, layer by layer.

        The order affects the result of training: the gradient's norm is summed in this order.
        """
        named: dict[str, nn.Parameter] = {}
        for key in map(str, range(self.num_layers)):
            unfrozen, adapters = (
                dict(group[key].named_children()) if key in group else {} for group in (self.unfrozen, self.lora)
            )
            for name in unfrozen or adapters:
                for module in (unfrozen.get(name), adapters.get(name)):
                    tensors = module.named_parameters() if module is not None else ()
                    named |= {f"layers.{key}.{name}.{tensor}": parameter for tensor, parameter in tensors}
        return named

    @torch.no_grad()
    def copy_pretrained(self, layers: Sequence[Layer]) -> None:
        """Sets the unfrozen layers to the encoder's layers with the same indices."""
        for key, layer in self.unfrozen.items():
            pretrained = dict(layers[int(key)].named_buffers())
            for name, parameter in layer.named_parameters():
                parameter.copy_(pretrained[name])

    @torch.no_grad()
    def scale(self, factor: float) -> None:
        """Multiplies the update of every adapter by `factor`: 0 leaves nothing of it, 1 changes nothing."""
        for name, parameter in self.lora.named_parameters():
            if ".lora_B." in name:
                parameter.mul_(factor)

    def merged_layer(self, index: int, pretrained: Layer) -> Layer:
        """Returns the layer with this set's adapters merged into its weights. All other tensors are shared."""
        layer, adapters = self.layer(index, pretrained), self.of_layer(index)
        return sharing(layer, **{linear.name: linear.merged(adapters.get(linear.name)) for linear in layer.linears()})


def _unfrozen(layer: Layer) -> Layer:
    """Returns a copy of a layer whose tensors are parameters, in fp32."""
    twin = copy.deepcopy(layer)
    for module in twin.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if name == "bias" and not getattr(module, "has_bias", True):
                continue  # zeros in the place of a bias that the architecture does not have
            delattr(module, name)
            module.register_parameter(name, nn.Parameter(buffer.float()))
    return twin
