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
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass instead of keeping them."""
    attention: Literal["eager", "sdpa", "flash_attention_2"] = "sdpa"
    """Which attention transformers uses."""
    timeout_seconds: PositiveInt = 1800
    """How long a collective may take before the job is aborted."""

    sequence_parallel: PositiveInt = 1
    """Ranks that share each sequence, all of them with a stretch of it (Ulysses; arXiv:2309.14509)."""
    tensor_parallel: PositiveInt = 1
    """Ranks that share each layer, all of them with a part of its weights (DeepSpeed AutoTP; arXiv:1909.08053)."""

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

    @model_validator(mode="after")
    def shared_layers_are_whole_at_each_data_rank(self) -> "Engine":
        """Stage 3 would cut again what is cut, and rows are shared in one way only."""
        if self.tensor_parallel > 1 and self.zero_stage > 2:
            raise ValueError(f"zero_stage ({self.zero_stage}) must be at most 2 with tensor_parallel above 1")
        if self.tensor_parallel > 1 and self.sequence_parallel > 1:
            raise ValueError(f"sequence_parallel ({self.sequence_parallel}) must be 1 with tensor_parallel above 1")
        return self

    @model_validator(mode="after")
    def shared_sequences_need_a_fused_attention(self) -> "Engine":
        """Eager attention has no interface that could be put around, and makes a dense mask of the whole sequence."""
        if self.sequence_parallel > 1 and self.attention == "eager":
            raise ValueError("attention (eager) must be sdpa or flash_attention_2 with sequence_parallel above 1")
        return self
