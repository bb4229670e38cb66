"""How a run learns: optimizer, learning-rate schedule, batch, duration, precision and ZeRO settings."""

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


class Engine(Config):
    """What DeepSpeed is asked for; the whole DeepSpeed dict is generated from this and the rest of the config."""

    zero_stage: Literal[0, 1, 2, 3] = 2
    """What is partitioned over ranks: nothing, optimizer states, also gradients, also parameters (arXiv:1910.02054)."""
    offload_optimizer: bool = False
    """Keep fp32 weights and moments in host memory and update there (stages 1 to 3; arXiv:2101.06840)."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Type of parameters and activations; master weights and gradient accumulation are fp32."""
    gradient_clipping: NonNegativeFloat = 1.0
    """Largest global gradient norm; 0 turns clipping off."""
    compile: bool = True
    """Compile the decoder blocks with torch.compile."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass instead of keeping them."""
    attention: Literal["eager", "sdpa", "flash_attention_2"] = "sdpa"
    """Which attention transformers uses."""
    timeout_seconds: PositiveInt = 1800
    """How long a collective may take before the job is aborted."""

    @model_validator(mode="after")
    def stage_zero_is_fp32(self) -> "Engine":
        """DeepSpeed refuses fp32 gradient accumulation over bf16 parameters at stage 0."""
        if self.zero_stage == 0 and self.precision != "fp32":
            raise ValueError(f"precision ({self.precision}) must be fp32 at zero_stage 0; or use zero_stage 1")
        return self

    @model_validator(mode="after")
    def offload_needs_partitions(self) -> "Engine":
        """DeepSpeed offloads its own partitions only."""
        if self.zero_stage == 0 and self.offload_optimizer:
            raise ValueError("offload_optimizer (true) must be false at zero_stage 0; or use zero_stage 1")
        return self
