"""How much memory a rank needs (Rajbhandari et al. 2020, section 3), and how much it has used."""

import resource
from dataclasses import dataclass, replace
from fnmatch import fnmatch

import torch
from torch import nn

from pipeline.config.optimization import AdamW, Muon, Optimizer
from pipeline.config.run import RunConfig
from pipeline.engine.mesh import mesh_of

BUCKET_ELEMENTS = 50_000_000
"""Elements of gradients that go to other ranks at a time, which is what a buffer for them holds."""
GATHERED_ELEMENTS = 1_000_000_000
"""At stage 3, elements of parameters that a rank may hold whole at a time."""


@dataclass(frozen=True)
class PassMemory:
    """Most bytes alive in a micro batch's passes; weights, their gradients and buffers for these are left out."""

    forward: int
    """Until the first gradient of a weight is there: the forward pass, the loss and its gradient."""
    backward: int
    """From then on."""
    logits: int
    """Of the larger of the two, what is as wide as the vocabulary."""

    @property
    def most(self) -> int:
        """The larger of the two."""
        return max(self.forward, self.backward)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on one rank, activations and logits left out."""

    parameters: int
    gradients: int
    optimizer: int
    buffers: int
    """For gradients on their way to other ranks and, at stage 3, parameters on their way from them."""
    are_kept: bool
    """Whether gradients and buffers take their memory from the beginning, and not as the first ones come."""

    @property
    def total(self) -> int:
        """What lasts: without buffers."""
        return self.parameters + self.gradients + self.optimizer

    def most(self, passes: PassMemory, num_micro_batches: int) -> int:
        """At the worst moment of a step: where they are not kept, buffers are there in backward passes only, and the
        gradients of a step's first micro batch come as its activations go."""
        lasting = self.parameters + self.optimizer
        if self.are_kept:
            return lasting + self.gradients + self.buffers + passes.most
        if num_micro_batches > 1:
            return lasting + self.gradients + max(passes.forward, self.buffers + passes.backward)
        return lasting + max(passes.forward, self.buffers + max(passes.backward, self.gradients))


def estimate_memory(config: RunConfig, num_parameters: int, world_size: int) -> MemoryEstimate:
    """Bytes per rank: stage 1 shares the optimizer's state over ranks, 2 also gradients, 3 also parameters."""
    stage = config.engine.zero_stage
    master_bytes = 4 if stage > 0 else 0
    average_bytes = 4 if config.ema.decay is not None else 0
    state_bytes = master_bytes + _moment_bytes(config.optimizer) + average_bytes
    return MemoryEstimate(
        parameters=num_parameters * _weight_bytes(config) // (world_size if stage == 3 else 1),
        gradients=num_parameters * 4 // (world_size if stage >= 2 else 1),
        optimizer=num_parameters * state_bytes // (world_size if stage >= 1 else 1),
        buffers=BUCKET_ELEMENTS * _buffer_bytes(config) + _gathered_bytes(config, num_parameters, world_size),
        are_kept=stage == 3 or _is_bf16_optimizer(config),
    )


def without_offloaded(estimate: MemoryEstimate, config: RunConfig, is_gpu: bool) -> MemoryEstimate:
    """What of an estimate the device's own memory takes: a CPU's is the host's, so only files are elsewhere."""
    offload, elsewhere = config.engine.offload, ("cpu", "nvme") if is_gpu else ("nvme",)
    if offload.optimizer in elsewhere:
        estimate = replace(estimate, optimizer=0, gradients=0 if is_gpu else estimate.gradients)
    has_left = offload.parameters in elsewhere and config.engine.zero_stage == 3  # doctor asks of other stages, too
    return replace(estimate, parameters=0) if has_left else estimate


def estimate_model(config: RunConfig, model: nn.Module, world_size: int) -> MemoryEstimate:
    """The same of a model with its adapter: of weights that are not trained there are neither gradients nor moments."""
    size = config.engine.tensor_parallel
    mine = {name: _held(name, one, model, size) for name, one in model.named_parameters()}
    trained = sum(mine[name] for name, one in model.named_parameters() if one.requires_grad)
    ranks = mesh_of(config.engine, 0, world_size).gradient_world_size
    estimate = estimate_memory(config, trained, ranks)
    frozen = (sum(mine.values()) - trained) * _weight_bytes(config) // (ranks if config.engine.zero_stage == 3 else 1)
    more = sum(mine[name] for name, one in model.named_parameters() if one.requires_grad and has_two_moments(name, one))
    second = 4 * more // (ranks if config.engine.zero_stage > 0 else 1) if isinstance(config.optimizer, Muon) else 0
    return replace(estimate, parameters=estimate.parameters + frozen, optimizer=estimate.optimizer + second)


def _held(name: str, parameter: nn.Parameter, model: nn.Module, size: int) -> int:
    """Elements of a parameter that a rank holds where `size` ranks share layers, by transformers' plan."""
    plan = (getattr(model, "config", None) and model.config.base_model_tp_plan) or {}
    is_cut = any(fnmatch(name, f"*{layer}.weight") for layer in plan)
    return int(getattr(parameter, "ds_numel", parameter.numel())) // (size if is_cut else 1)


def has_two_moments(name: str, parameter: nn.Parameter) -> bool:
    """Whether AdamW updates it beside Muon, by DeepSpeed's own rule (`deepspeed.set_optimizer_flags`)."""
    return parameter.ndim < 2 or any(word in name.lower() for word in ("embed", "lm_head"))


def _weight_bytes(config: RunConfig) -> int:
    return 4 if config.engine.precision == "fp32" else 2


def _moment_bytes(optimizer: Optimizer) -> int:
    if isinstance(optimizer, AdamW):
        return 8 if optimizer.state_precision == "fp32" else 2
    return 4  # Lion has one; Muon, too, of hidden matrices


def _is_bf16_optimizer(config: RunConfig) -> bool:
    """Whether DeepSpeed takes its `BF16_Optimizer`, which keeps all gradients in fp32 and needs no buffers."""
    engine = config.engine
    return engine.zero_stage == 1 and engine.precision == "bf16" and engine.offload.optimizer == "none"


def _buffer_bytes(config: RunConfig) -> int:
    """Bytes of all buffers for each of a bucket's elements: two, as communication goes on beside; one at stage 3."""
    stage = config.engine.zero_stage
    if stage == 0 or _is_bf16_optimizer(config):
        return 0
    return {1: 2 * 4, 2: 2 * _weight_bytes(config), 3: _weight_bytes(config)}[stage]


def _gathered_bytes(config: RunConfig, num_parameters: int, world_size: int) -> int:
    if config.engine.zero_stage < 3 or world_size == 1:
        return 0
    return min(num_parameters, GATHERED_ELEMENTS) * _weight_bytes(config)


def peak_memory_bytes() -> dict[str, int]:
    """Most memory this process has used by now: `memory`, what tensors took on the GPU, `memory_reserved`, what torch
    holds there, and `host_memory`, resident on the host; without a GPU that is `memory`, the only one."""
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if not torch.cuda.is_available():
        return {"memory": resident}
    used, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    return {"memory": used, "memory_reserved": reserved, "host_memory": resident}
