"""How much memory a rank needs for weights, gradients and optimizer state (Rajbhandari et al. 2020, section 3)."""

import resource
from dataclasses import dataclass

import torch

from pipeline.config.optimization import AdamW
from pipeline.config.run import RunConfig


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on one rank, activations and logits left out."""

    parameters: int
    gradients: int
    optimizer: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.parameters + self.gradients + self.optimizer


def estimate_memory(config: RunConfig, num_parameters: int, world_size: int) -> MemoryEstimate:
    """Bytes per rank: stage 1 shares the optimizer's state over ranks, 2 also gradients, 3 also parameters."""
    stage = config.engine.zero_stage
    weight_bytes = 4 if config.engine.precision == "fp32" else 2
    master_bytes = 4 if stage > 0 else 0
    moments = 4  # Lion has one; Muon one of almost every weight
    if isinstance(config.optimizer, AdamW):
        moments = 8 if config.optimizer.state_precision == "fp32" else 2
    average_bytes = 4 if config.ema.decay is not None else 0
    return MemoryEstimate(
        parameters=num_parameters * weight_bytes // (world_size if stage == 3 else 1),
        gradients=num_parameters * 4 // (world_size if stage >= 2 else 1),
        optimizer=num_parameters * (master_bytes + moments + average_bytes) // (world_size if stage >= 1 else 1),
    )


def peak_memory_bytes() -> dict[str, int]:
    """Most memory this process has used by now: `memory`, what tensors took on the GPU, `memory_reserved`, what torch
    holds there, and `host_memory`, resident on the host; without a GPU that is `memory`, the only one."""
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if not torch.cuda.is_available():
        return {"memory": resident}
    used, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    return {"memory": used, "memory_reserved": reserved, "host_memory": resident}
