"""Low-rank adapters, by peft."""

import warnings

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from pipeline.config.model import LoraAdapter
from pipeline.errors import ConfigError
from pipeline.runtime.seeds import derive_seed

_LINEAR = (nn.Linear, Conv1D)


@torch.no_grad()
def add_lora(model: PreTrainedModel, adapter: LoraAdapter, seed: int) -> nn.Module:
    """Freeze a model and put low-rank updates into its linear layers; returns the peft model around it.

    An update is `alpha / rank * B A`; A is drawn from (seed, name), B is zero, so that training starts at the model
    itself (Hu et al. 2021, section 4.1).

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
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of one library about the other
            wrapped = get_peft_model(model, settings)
    except ValueError as error:
        names = ", ".join(adapter.target_modules)
        linear = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, _LINEAR)}
        raise ConfigError(
            f"adapter.target_modules ({names}) match no layer; the model's are {', '.join(sorted(linear))}"
        ) from error
    for name, parameter in wrapped.named_parameters():
        if "lora_A" in name:
            generator = torch.Generator().manual_seed(derive_seed(seed, "weights", name))
            bound = (1.0 / parameter.shape[1]) ** 0.5
            parameter.copy_((torch.rand(parameter.shape, generator=generator) * 2 - 1) * bound)
    return wrapped


def merge_lora(model: nn.Module) -> PreTrainedModel:
    """The model inside a peft model, its updates added to its weights."""
    return model.merge_and_unload()
