"""Initial weights as a function of (seed, parameter name): independent of the order of creation, rank and stage."""

import math

import torch
from transformers import PreTrainedModel

from pipeline.runtime.seeds import derive_seed

_RESIDUAL_OUTPUTS = ("o_proj.weight", "down_proj.weight", "Wo.weight")


@torch.no_grad()
def initialize_weights(model: PreTrainedModel, seed: int) -> None:
    """Fill every parameter: matrices normal, norms one, biases zero.

    The matrices that write into the residual stream get a standard deviation smaller by sqrt(2 * num_layers), so
    that the stream's variance does not grow with depth (Radford et al. 2019, section 2.3). Drawn in fp32 on the CPU.
    """
    std = model.config.initializer_range
    residual_std = std / math.sqrt(2 * model.config.num_hidden_layers)
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            generator = torch.Generator().manual_seed(derive_seed(seed, "weights", name))
            scale = residual_std if name.endswith(_RESIDUAL_OUTPUTS) else std
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
