"""Weights by name, read one at a time: whoever puts them into a model never needs room for all of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Weights:
    """Where the weights of a model come from: a seed, a checkpoint, another model."""

    shapes: Mapping[str, Shape]
    """Of each, whole, by the name of the model's parameter or buffer."""
    read: Callable[[str], torch.Tensor]
    """One of them, whole, in fp32 on the CPU."""


def whole_shape(parameter: torch.Tensor) -> Shape:
    """Shape of a parameter, also where a rank holds but a part of it (ZeRO 3)."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def parameter_shapes(model: nn.Module) -> dict[str, Shape]:
    """Whole shapes of a model's parameters; one that two layers share comes once."""
    return {name: whole_shape(parameter) for name, parameter in model.named_parameters()}


def weights_of(model: nn.Module) -> Weights:
    """The parameters of a whole model."""
    parameters = dict(model.named_parameters())
    return Weights(parameter_shapes(model), lambda name: parameters[name].detach().float())


@torch.no_grad()
def fill_model(model: nn.Module, weights: Weights) -> None:
    """Put weights into a whole model, rounded to its types."""
    for name, tensor in (*model.named_parameters(), *saved_buffers(model).items()):
        if name in weights.shapes:
            tensor.copy_(weights.read(name))


def saved_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """The buffers that belong to a model's state, by name."""
    names = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name in names}


def misfits(model: nn.Module, weights: Weights) -> list[str]:
    """Names that are in a model and not among the weights, that have another shape there, or are in no model."""
    buffers = {name: tuple(buffer.shape) for name, buffer in saved_buffers(model).items()}
    needed = parameter_shapes(model) | buffers
    differing = [name for name, shape in needed.items() if weights.shapes.get(name) != shape]
    return differing + sorted(weights.shapes.keys() - model.state_dict().keys())
