"""Initial weights as a function of (seed, parameter name): independent of the order of creation, rank and stage."""

import math

import torch
from transformers import PretrainedConfig, PreTrainedModel

from pipeline.models.weights import Shape, Weights, parameter_shapes
from pipeline.runtime.seeds import derive_seed

_RESIDUAL_OUTPUTS = ("o_proj.weight", "down_proj.weight")


def initial_weights(model: PreTrainedModel, seed: int) -> Weights:
    """Weights that a model begins with: matrices normal, norms one, biases zero, drawn in fp32 on the CPU."""
    shapes = parameter_shapes(model)
    return Weights(shapes, lambda name: initial_weight(model.config, seed, name, shapes[name]))


def initial_weight(config: PretrainedConfig, seed: int, name: str, shape: Shape) -> torch.Tensor:
    """One of them.

    The matrices that write into the residual stream get a standard deviation smaller by sqrt(2 * num_layers), so
    that the stream's variance does not grow with depth (Radford et al. 2019, section 2.3).
    """
    if len(shape) < 2:
        return torch.full(shape, 0.0 if name.endswith("bias") else 1.0)
    std = config.initializer_range
    if name.endswith(_RESIDUAL_OUTPUTS):
        std /= math.sqrt(2 * config.num_hidden_layers)
    generator = torch.Generator().manual_seed(derive_seed(seed, "weights", name))
    return torch.randn(shape, generator=generator).mul_(std)
