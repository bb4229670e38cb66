"""How a run computes: ZeRO, offload, precision, compilation, attention."""

from typing import Literal

from pydantic import NonNegativeFloat, PositiveInt, model_validator

from pipeline.config.base import Config


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
    recompute: Literal["none", "selective", "full"] = "none"
    """What of a block is computed again in the backward pass instead of kept: nothing, all but products, all."""
    attention: Literal["documents", "eager", "sdpa", "flash_attention_2"] = "documents"
    """Document by document without a mask (on a GPU in half precision only), or one of transformers' own."""
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
