"""Which parameters decay, and which learn at a rate of their own."""

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from pipeline.config.optimization import Optimizer
from pipeline.models.initialization import EMBEDDINGS, width_multiplier
from pipeline.models.weights import whole_shape


def parameter_groups(model: nn.Module, optimizer: Optimizer) -> list[dict[str, Any]]:
    """Trainable parameters in groups: matrices, which decay, embeddings, which may, and the rest, which do not.

    In a model that is so many times wider than the one its hyperparameters were found with (`init: mup`) matrices that
    are no embeddings learn at a share of the rate that is smaller by it (Yang et al. 2022, arXiv:2203.03466, table 3)
    and decay as much as the others (Wang and Aitchison 2024, arXiv:2405.13698).
    """
    wider = _width_multiplier(model)
    embeddings = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    spared = set() if optimizer.decay_embeddings else embeddings
    found: dict[str, list[nn.Parameter]] = {"matrices": [], "wide matrices": [], "embeddings": [], "vectors": []}
    for name, one in model.named_parameters():
        if one.requires_grad:
            is_wide = wider != 1 and one not in embeddings and not name.endswith(EMBEDDINGS)
            found[_group(one, is_wide, one in spared)].append(one)
    decays = {"matrices": optimizer.weight_decay, "wide matrices": optimizer.weight_decay * wider}
    return [
        {"params": parameters, "weight_decay": decays.get(name, 0.0), "name": name,
         "rate_share": 1 / wider if name == "wide matrices" else 1.0}
        for name, parameters in found.items() if parameters
    ]  # fmt: skip


def _width_multiplier(model: nn.Module) -> float:
    """Of the transformers model inside; low-rank updates have a width of their own."""
    inner = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    is_whole = all(parameter.requires_grad for parameter in model.parameters())
    return width_multiplier(inner.config) if inner is not None and is_whole else 1.0


def _group(parameter: nn.Parameter, is_wide: bool, is_spared: bool) -> str:
    if len(whole_shape(parameter)) < 2:
        return "vectors"
    if is_spared:
        return "embeddings"
    return "wide matrices" if is_wide else "matrices"
