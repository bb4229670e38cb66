"""fp8: linear layers whose products are taken in 8 bits on GPUs that have them (Micikevicius et al. 2022).

Weights, activations and gradients are scaled by tensor to e4m3, gradients of outputs to e5m2, anew at each product
(arXiv:2209.05433); what is kept, summed and updated stays as it is. By torchao.
"""

import torch
from torch import nn
from transformers import PreTrainedModel

from pipeline.errors import ConfigError, MissingDependencyError

_MULTIPLE = 16
"""Of which the sizes of an fp8 product must be multiples."""
_FIRST_CAPABILITY = (8, 9)
"""Ada; Hopper has 9.0."""


def require_fp8(device: torch.device) -> None:
    """Raise ConfigError where a device has no products in fp8."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < _FIRST_CAPABILITY:
        raise ConfigError(
            f"engine.fp8 (true) needs a GPU of compute capability 8.9 or above, and this device is {device.type};"
            " leave it out"
        )


def use_fp8(model: PreTrainedModel, emulate: bool = False) -> None:
    """Take the products of a model's linear layers in fp8, but for the output's; parameters stay the same objects.

    Args:
        model: Its layers are exchanged in place.
        emulate: Round to fp8 and take products in the wider type, on devices without fp8.

    Raises:
        MissingDependencyError: torchao is not installed.
    """
    try:
        from torchao.float8 import Float8LinearConfig, convert_to_float8_training
    except ImportError as error:
        raise MissingDependencyError("engine.fp8 needs torchao; install it with: pip install 'tarmac[fp8]'") from error
    output = model.get_output_embeddings()

    def fits(module: nn.Module, name: str) -> bool:
        sizes = (getattr(module, "in_features", 1), getattr(module, "out_features", 1))
        return module is not output and not any(size % _MULTIPLE for size in sizes)

    convert_to_float8_training(model, module_filter_fn=fits, config=Float8LinearConfig(emulate=emulate))
