"""How a run learns: optimizer, learning-rate schedule, batch and duration."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pipeline.config.base import Config

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class AdamW(Config):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101)."""

    type: Literal["adamw"]
    """The optimizer."""
    lr: PositiveFloat
    """Peak learning rate."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    """Decay rates of the two moments."""
    eps: PositiveFloat = 1e-8
    """Added to the denominator."""
    weight_decay: NonNegativeFloat = 0.1
    """Decoupled weight decay, on matrices only."""


class Muon(Config):
    """Orthogonalised momentum for hidden matrices, AdamW for embeddings, norms and the output (Jordan et al. 2024)."""

    type: Literal["muon"]
    """The optimizer."""
    lr: PositiveFloat
    """Peak learning rate of the hidden matrices."""
    adam_lr: PositiveFloat = 3e-4
    """Peak learning rate of everything else."""
    momentum: Fraction = 0.95
    """Decay of the momentum."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    """Decay rates of AdamW's moments."""
    eps: PositiveFloat = 1e-8
    """Added to AdamW's denominator."""
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled weight decay, on matrices only."""
    newton_schulz: Literal["standard", "gram"] = "standard"
    """Form of the orthogonalisation; `standard` runs in bf16, `gram` in fp16, either in fp32 where that is missing."""


Optimizer = Annotated[AdamW | Muon, Field(discriminator="type")]


class Schedule(Config):
    """The learning rate as a share of its peak: linear warm-up, then the given form down to `final_share`."""

    type: Literal["constant", "linear", "cosine", "wsd"] = "cosine"
    """`wsd` stays at the peak and falls linearly over the last `decay_share` of the run (arXiv:2404.06395)."""
    warmup_steps: NonNegativeInt = 0
    """Steps from 0 to the peak."""
    decay_share: Fraction = 0.2
    """Share of the run that `wsd` decays over."""
    final_share: Fraction = 0.1
    """Learning rate at the last step, as a share of the peak."""


class Batch(Config):
    """How many sequences make one update."""

    global_size: PositiveInt
    """Sequences per update over all ranks; it does not depend on the number of ranks."""
    micro_size: PositiveInt
    """Sequences per forward pass on one rank."""


class Duration(Config):
    """How long to train: a number of steps, or of tokens (rounded up to whole steps)."""

    steps: PositiveInt | None = None
    """Number of updates."""
    tokens: PositiveInt | None = None
    """Number of tokens seen."""

    @model_validator(mode="after")
    def exactly_one(self) -> "Duration":
        """One of the two must be given."""
        if (self.steps is None) == (self.tokens is None):
            raise ValueError("give exactly one of steps and tokens")
        return self
