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
    decay_embeddings: bool = True
    """Whether embeddings decay as other matrices do."""
    state_precision: Literal["fp32", "8bit"] = "fp32"
    """The moments in memory; `8bit` (arXiv:2110.02861) by bitsandbytes. Checkpoints hold them in fp32."""


class Lion(Config):
    """The sign of an interpolated momentum (Chen et al. 2023, arXiv:2302.06675): one moment instead of two.

    Its authors take a rate 3 to 10 times smaller than AdamW's, and a weight decay as much larger.
    """

    type: Literal["lion"]
    """The optimizer."""
    lr: PositiveFloat
    """Peak learning rate: how far each weight moves in a step."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.99)
    """Share of the moment in the update, and in the next moment."""
    weight_decay: NonNegativeFloat = 1.0
    """Decoupled weight decay, on matrices only."""
    decay_embeddings: bool = True
    """Whether embeddings decay as other matrices do."""


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
    decay_embeddings: bool = True
    """Whether embeddings decay as other matrices do."""
    newton_schulz: Literal["standard", "gram"] = "standard"
    """Form of the orthogonalisation; `standard` runs in bf16, `gram` in fp16, either in fp32 where that is missing."""


Optimizer = Annotated[AdamW | Lion | Muon, Field(discriminator="type")]


class Schedule(Config):
    """The learning rate as a share of its peak: linear warm-up, then the given form down to `final_share`."""

    type: Literal["constant", "linear", "cosine", "wsd", "inverse_sqrt"] = "cosine"
    """`wsd` stays at the peak and falls at the end of the run (arXiv:2404.06395); `inverse_sqrt` falls as the square
    root of warm-up / seen, whatever the run's duration (arXiv:1706.03762)."""
    warmup_steps: NonNegativeInt = 0
    """Steps from 0 to the peak."""
    warmup_tokens: PositiveInt | None = None
    """The same in tokens seen; give one of the two at most."""
    decay_share: Fraction | None = None
    """Share of the run after warm-up that `wsd` decays over; 0.2 if neither of the next two is given."""
    decay_steps: PositiveInt | None = None
    """The same in steps, the last of the run."""
    decay_start: NonNegativeInt | None = None
    """The same as the number of steps that are made before it, so that a run at its peak can be annealed from there."""
    decay_form: Literal["linear", "sqrt"] = "linear"
    """How `wsd` falls: along a line, or as 1 - sqrt(way), steeply first (arXiv:2405.18392)."""
    final_share: Fraction = 0.1
    """Learning rate at the end, as a share of the peak; with `inverse_sqrt` the least it falls to."""

    @model_validator(mode="after")
    def one_warm_up_and_one_decay(self) -> "Schedule":
        """Each is given in one way, and `inverse_sqrt` is measured by its warm-up."""
        if self.warmup_steps and self.warmup_tokens:
            raise ValueError(
                f"give one of warmup_steps ({self.warmup_steps}) and warmup_tokens ({self.warmup_tokens}), not both"
            )
        decays = {"decay_share": self.decay_share, "decay_steps": self.decay_steps, "decay_start": self.decay_start}
        given = [f"{name} ({value})" for name, value in decays.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"give one of {' and '.join(given)}, and set the others to null")
        if given and self.type != "wsd":
            raise ValueError(f"{given[0]} is for type wsd and type is {self.type}; leave it out")
        if self.type == "inverse_sqrt" and not (self.warmup_steps or self.warmup_tokens):
            raise ValueError("type inverse_sqrt needs warmup_steps or warmup_tokens above 0: it falls by their measure")
        return self


class Ema(Config):
    """An exponential moving average of the weights beside them, in fp32; checkpoints hold both."""

    decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """How much of the average stays at each update, less in the first steps; no average is kept if not given."""


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
