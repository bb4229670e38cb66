"""Initial weights as a function of (seed, parameter name): independent of the order of creation, rank and stage."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from pipeline.config.decoders import Decoder
from pipeline.models.weights import Shape, Weights, parameter_shapes
from pipeline.runtime.seeds import derive_seed

EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "wpe.weight")
"""Endings of the names of matrices that are looked up in."""
OUTPUTS = ("lm_head.weight", "mlp.gate.weight")
"""Of those whose number of outputs does not grow with the width: the vocabulary's and a router's."""
WIDTH_MULTIPLIER = "mup_width_multiplier"
"""Attribute of transformers' config of a model."""
_RESIDUAL_OUTPUTS = ("o_proj.weight", "down_proj.weight", "experts.down_proj", "c_proj.weight", "Wo.weight")
_VOCABULARIES = ("embed_tokens.weight", "wte.weight", "lm_head.weight")


def width_multiplier(form: PretrainedConfig) -> float:
    """How much wider a model is than the one its hyperparameters were found with; 1 but for `init: mup`. It goes with
    the model, to be found by runs that go on from its weights."""
    return float(getattr(form, WIDTH_MULTIPLIER, 1.0))


@dataclass(frozen=True)
class Spread:
    """How wide initial matrices are spread."""

    residual_scaling: bool = True
    """Less by sqrt(2 * num_layers) where a matrix writes into the residual stream, so that the stream's variance does
    not grow with depth (Radford et al. 2019, section 2.3)."""
    width_multiplier: float = 1.0
    """Less by its root in hidden matrices, and by it where the number of outputs stays (Yang et al. 2022,
    arXiv:2203.03466, table 3)."""
    vocab_size: int | None = None
    """Rows of the embeddings beyond it are zero; None: there are none."""

    @classmethod
    def of(cls, model: Decoder, vocab_size: int) -> "Spread":
        """That of a fresh model."""
        return cls(model.init != "plain", model.width_multiplier, vocab_size)


SCALED = Spread()
"""That of a model with a width of its own and no row too many."""


def initial_weights(model: PreTrainedModel, seed: int, spread: Spread = SCALED) -> Weights:
    """Weights that a model begins with: matrices (and stacks of them) normal, norms one, biases zero."""
    shapes = parameter_shapes(model)
    return Weights(shapes, lambda name: initial_values(name, shapes[name], model.config, seed, spread))


def initial_values(
    name: str, shape: Shape, config: PretrainedConfig, seed: int, spread: Spread = SCALED
) -> torch.Tensor:
    """The first values of a parameter of that name and whole shape, drawn in fp32 on the CPU."""
    if len(shape) < 2:
        return torch.full(shape, 0.0 if name.endswith("bias") else 1.0)
    generator = torch.Generator().manual_seed(derive_seed(seed, "weights", name))
    std = _standard_deviation(name, config, spread)
    rows = min(shape[0], spread.vocab_size or shape[0]) if name.endswith(_VOCABULARIES) else shape[0]
    values = torch.randn((rows, *shape[1:]), generator=generator) * std
    return values if rows == shape[0] else torch.nn.functional.pad(values, (0, 0, 0, shape[0] - rows))


def _standard_deviation(name: str, config: PretrainedConfig, spread: Spread) -> float:
    std: float = config.initializer_range
    if name.endswith(EMBEDDINGS):
        return std
    if name.endswith(OUTPUTS):
        return std / spread.width_multiplier
    if spread.residual_scaling and name.endswith(_RESIDUAL_OUTPUTS):
        std /= math.sqrt(2 * config.num_hidden_layers)
    return std / math.sqrt(spread.width_multiplier)


def muon_fault(model: PreTrainedModel) -> str | None:
    """Why DeepSpeed's Muon would treat a model wrongly, in words; None if it would not.

    It is for the matrices of hidden layers, which DeepSpeed tells from embeddings by `embed` in their names.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and "embed" not in name:
            return f"DeepSpeed would take the embedding {name} for a hidden layer"
    stacked = [name for name, parameter in model.named_parameters() if parameter.ndim > 2]
    return f"{stacked[0]} is a stack of matrices" if stacked else None
