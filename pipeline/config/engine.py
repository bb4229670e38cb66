"""How a run computes: ZeRO, offload, precision, compilation, attention."""

from typing import Literal

from pydantic import NonNegativeFloat, PositiveInt, model_validator

from pipeline.config.base import Config


class Offload(Config):
    """What is kept in host memory (`cpu`), or in files on a fast disk (`nvme`), instead of the device's memory."""

    optimizer: Literal["none", "cpu", "nvme"] = "none"
    """fp32 weights and moments, and the update itself (stages 1 to 3; arXiv:2101.06840)."""
    parameters: Literal["none", "cpu", "nvme"] = "none"
    """This rank's part of the parameters, brought to the device block by block (stage 3; arXiv:2104.07857)."""
    folder: str | None = None
    """With nvme: a folder on each node's own disk. Nothing is left in it, also after a kill."""

    @property
    def to_files(self) -> bool:
        """Whether anything goes to files."""
        return "nvme" in (self.optimizer, self.parameters)

    @model_validator(mode="after")
    def files_have_a_folder(self) -> "Offload":
        """There is no place that is right for all."""
        if self.to_files and self.folder is None:
            raise ValueError("folder must be given with nvme: one on each node's own disk")
        if self.folder is not None and not self.to_files:
            raise ValueError(f"folder ({self.folder}) is for nvme; leave it out")
        return self


class ZeroPlusPlus(Config):
    """Less communication between nodes at stage 3 (arXiv:2306.10209)."""

    partition_size: PositiveInt = 1
    """So many ranks, those of a node, hold a second copy of all parameters: backward passes gather inside them only."""
    quantized_weights: bool = False
    """Gather parameters in 8 bits (CUDA only)."""
    quantized_gradients: bool = False
    """Reduce gradients in 4 bits (CUDA only)."""

    @property
    def is_quantized(self) -> bool:
        """Whether anything is."""
        return self.quantized_weights or self.quantized_gradients


class Engine(Config):
    """What DeepSpeed is asked for; the whole DeepSpeed dict is generated from this and the rest of the config."""

    zero_stage: Literal[0, 1, 2, 3] = 2
    """What is partitioned over ranks: nothing, optimizer states, also gradients, also parameters (arXiv:1910.02054)."""
    offload: Offload = Offload()
    """What is kept in host memory."""
    zeropp: ZeroPlusPlus = ZeroPlusPlus()
    """Less communication at stage 3."""
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    """Type of parameters and activations; master weights and gradient accumulation are fp32. fp16 scales the loss."""
    fp8: bool = False
    """Take the products of linear layers in fp8, from bf16 and back (torchao; GPUs from compute capability 8.9)."""
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
        if self.zero_stage == 0 and self.offload.optimizer != "none":
            raise ValueError(
                f"offload.optimizer ({self.offload.optimizer}) must be none at zero_stage 0; or use zero_stage 1"
            )
        if self.zero_stage < 3 and self.offload.parameters != "none":
            raise ValueError(
                f"offload.parameters ({self.offload.parameters}) must be none at zero_stage {self.zero_stage}; or use"
                " zero_stage 3"
            )
        return self

    @model_validator(mode="after")
    def fp8_is_of_bf16(self) -> "Engine":
        """Weights and activations between products are bf16."""
        if self.fp8 and self.precision != "bf16":
            raise ValueError(f"precision ({self.precision}) must be bf16 with fp8")
        if self.fp8 and self.tensor_parallel > 1:  # AutoTP puts layers of its own in the place of all others
            raise ValueError(f"tensor_parallel ({self.tensor_parallel}) must be 1 with fp8")
        return self

    @model_validator(mode="after")
    def zeropp_is_stage_three(self) -> "Engine":
        """Only there parameters are gathered."""
        if self.zero_stage < 3 and self.zeropp != ZeroPlusPlus():
            raise ValueError(f"zeropp is for zero_stage 3 and zero_stage is {self.zero_stage}; leave it out")
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
            raise ValueError("attention (eager) must be another one with sequence_parallel above 1")
        return self
