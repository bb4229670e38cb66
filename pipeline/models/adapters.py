"""Low-rank adapters, by peft."""

import warnings

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.pytorch_utils import Conv1D

from pipeline.config.model import LoraAdapter
from pipeline.errors import ConfigError
from pipeline.models.weights import Shape, Weights, parameter_shapes
from pipeline.runtime.seeds import derive_seed

_INSIDE = "base_model.model."
"""What peft puts before the names of the model inside."""
_LINEAR = (nn.Linear, Conv1D)


@torch.no_grad()
def add_lora(model: PreTrainedModel, adapter: LoraAdapter, seed: int) -> nn.Module:
    """Freeze a model and put low-rank updates into its linear layers; returns the peft model around it.

    An update is `alpha / rank * B A`; A is drawn from (seed, name), B is zero, so that training starts at the model
    itself (Hu et al. 2021, section 4.1). Where ranks hold parts of a model, these are to be filled in.

    Raises:
        ConfigError: No layer has one of the target names.
    """
    settings = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        target_modules=list(adapter.target_modules),
        lora_dropout=0.0,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning), no_init_weights():  # of libraries
            wrapped = get_peft_model(model, settings, autocast_adapter_dtype=False)
    except ValueError as error:
        names = ", ".join(adapter.target_modules)
        linear = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, _LINEAR)}
        raise ConfigError(
            f"adapter.target_modules ({names}) match no layer; the model's are {', '.join(sorted(linear))}"
        ) from error
    for name, parameter in wrapped.named_parameters():
        if _is_factor(name) and not hasattr(parameter, "ds_shape"):
            parameter.copy_(_initial_factor(name, tuple(parameter.shape), seed))
    return wrapped


def adapted_weights(wrapped: nn.Module, base: Weights, seed: int) -> Weights:
    """First weights of a model with low-rank updates, by the names that they have inside of it."""
    shapes = parameter_shapes(wrapped)

    def read(name: str) -> torch.Tensor:
        if _is_factor(name):
            return _initial_factor(name, shapes[name], seed)
        return base.read(name.removeprefix(_INSIDE).replace(".base_layer.", "."))

    return Weights(shapes, read)


def _is_factor(name: str) -> bool:
    return ".lora_A." in name or ".lora_B." in name


def _initial_factor(name: str, shape: Shape, seed: int) -> torch.Tensor:
    if ".lora_B." in name:
        return torch.zeros(shape)
    generator = torch.Generator().manual_seed(derive_seed(seed, "weights", name))
    return (torch.rand(shape, generator=generator) * 2 - 1) * (1.0 / shape[1]) ** 0.5


def merge_lora(model: nn.Module) -> PreTrainedModel:
    """The model inside a peft model, its updates added to its weights."""
    return model.merge_and_unload()
