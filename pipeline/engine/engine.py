"""The training step: forward, backward and update of one global batch on this rank, through DeepSpeed."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
import xxhash
from torch import nn
from transformers import PreTrainedModel

from pipeline.config.optimization import Muon
from pipeline.config.run import RunConfig
from pipeline.data.batch import IGNORED, Batch, MicroBatch
from pipeline.engine.finite import LossGuard, drop_offloaded_gradients, look_before_muon
from pipeline.engine.mesh import mesh_of
from pipeline.engine.process_group import ProcessGroup
from pipeline.engine.settings import deepspeed_dict, peak_learning_rate
from pipeline.engine.stopwatch import Stopwatch
from pipeline.engine.tensor_parallel import plan_cuts, total_norm
from pipeline.engine.ulysses import SequenceParallel
from pipeline.models.blocks import compile_blocks
from pipeline.runtime.seeds import derive_seed


@dataclass(frozen=True)
class StepOutcome:
    """What a step did; its tensors are still on the device, so that nothing waits for them."""

    loss_sum: torch.Tensor
    """This rank's part of the sum of losses in nats, a scalar; 0 where another rank has the same rows and tokens."""
    num_tokens: torch.Tensor
    """Valid tokens of all ranks, a scalar."""
    digest: str
    """xxh3 of this rank's rows as they went forward, in order: inputs, labels, positions where there are any."""
    skipped: bool
    """Whether no update was made, because a loss or the gradient was not finite; the same on all ranks."""
    forward_seconds: float
    """What this rank's forward passes took; up to ZeRO 2 no other rank has a part in it."""


class Engine:
    """A model under DeepSpeed."""

    def __init__(self, model: nn.Module, config: RunConfig, group: ProcessGroup) -> None:
        """Hand the model (objective included: its forward returns a sum of losses) to DeepSpeed."""
        self.group = group
        self._config = config
        self._seed = config.seed
        self._plain_norm: torch.Tensor | None = None  # at stage 0, where DeepSpeed keeps none
        self._is_muon = isinstance(config.optimizer, Muon)
        self._guard = LossGuard(model)
        self.mesh = mesh_of(config.engine, group.ranks.rank, group.ranks.world_size)
        """Which rows are this rank's."""
        if self.mesh.tensor_size > 1:
            plan_cuts(model, self.mesh.tensor_size)
        self._sequence = SequenceParallel(model, self.mesh, group) if self.mesh.sequence_size > 1 else None
        prepare_blocks(model, config)
        self._deepspeed, _, _, _ = deepspeed.initialize(
            model=model,
            model_parameters=parameter_groups(model, config.optimizer.weight_decay),
            config=deepspeed_dict(config, group.ranks.world_size),
        )
        if self._is_muon and config.engine.zero_stage > 0:
            look_before_muon(self._deepspeed.optimizer, config.engine.zero_stage)

    @property
    def config(self) -> RunConfig:
        """What it was set up by."""
        return self._config

    @property
    def deepspeed(self) -> Any:
        """DeepSpeed's own engine, for checkpoints."""
        return self._deepspeed

    def train_step(self, batch: Batch, learning_rate_share: float) -> StepOutcome:
        """Update the weights with one global batch, unless a loss or the gradient is not finite on any rank.

        The loss is normalised by the number of valid tokens of *all* micro batches and ranks, counted before the
        first backward pass: DeepSpeed averages gradients over ranks, so each sum is scaled by ranks / tokens.

        Args:
            batch: The micro batches of this rank's data rank; ranks that share them are given the same.
            learning_rate_share: Learning rate as a share of its peak.
        """
        self._set_learning_rates(learning_rate_share)
        torch.manual_seed(derive_seed(self._seed, "step", batch.step, self.group.ranks.rank))
        num_tokens = self._count_tokens(batch)
        scale = self.mesh.gradient_world_size / num_tokens.clamp(min=1)
        loss_sum = torch.zeros((), device=self.group.device)
        digest, stopwatch = xxhash.xxh3_128(), Stopwatch(self.group.device)
        for left, micro_batch in zip(reversed(range(len(batch.micro_batches))), batch.micro_batches, strict=True):
            self._deepspeed.set_gradient_accumulation_boundary(left == 0)  # their number may change between steps
            with stopwatch.running():
                loss = self._forward(micro_batch, digest)
            self._guard.watch(loss)
            self._deepspeed.backward(loss * scale, scale_wrt_gas=False)
            self._step(is_boundary=left == 0)
            loss_sum += self._counted(loss.detach())
        skipped = not self._deepspeed.was_step_applied()  # to know it, DeepSpeed has waited for the gradients
        return StepOutcome(loss_sum, num_tokens, digest.hexdigest(), skipped, stopwatch.seconds())

    def _step(self, is_boundary: bool) -> None:
        """Update at the last micro batch, unless the gradient is not finite; but for stage 0 DeepSpeed looks itself."""
        if is_boundary and self._config.engine.zero_stage == 0:
            self._plain_norm = total_norm(
                self._deepspeed.module, self.mesh.tensor_size
            )  # of averaged gradients: the same on all ranks
            if not self._plain_norm.isfinite():
                self._deepspeed.zero_grad()
                self._deepspeed.set_gradient_accumulation_boundary(False)
        self._deepspeed.step()
        if is_boundary and self._config.engine.offload_optimizer and not self._deepspeed.was_step_applied():
            drop_offloaded_gradients(self._deepspeed.optimizer)

    def _forward(self, micro_batch: MicroBatch, digest: xxhash.xxh3_128 | None = None) -> torch.Tensor:
        parts = [micro_batch.input_ids, micro_batch.labels]
        if micro_batch.position_ids is not None:
            parts.append(micro_batch.position_ids)
        if digest is not None:
            for part in parts:
                digest.update(part.numpy().data)
        if self._sequence is not None:
            parts = self._sequence.cut(parts)
        return self._deepspeed(*(part.to(self.group.device, non_blocking=True) for part in parts))

    def _counted(self, loss: torch.Tensor) -> torch.Tensor:
        """A loss where it counts: ranks that share layers all have the same."""
        return loss if self.mesh.tensor_rank == 0 else torch.zeros_like(loss)

    def _count_tokens(self, batch: Batch) -> torch.Tensor:
        count = sum(int((micro_batch.labels != IGNORED).sum()) for micro_batch in batch.micro_batches)
        tokens = torch.tensor(count, device=self.group.device)
        dist.all_reduce(tokens)
        return tokens // self.mesh.ranks_per_row  # each of them counted whole rows

    def _set_learning_rates(self, share: float) -> None:
        for group in self._deepspeed.optimizer.param_groups:
            group["lr"] = peak_learning_rate(group, self._config.optimizer) * share

    @property
    def norm_name(self) -> str:
        """What `norm` is of: the gradient; or the update, where that is all that DeepSpeed knows with Muon."""
        engine = self._config.engine
        is_bf16_optimizer = engine.zero_stage == 1 and engine.precision == "bf16" and not engine.offload_optimizer
        return "update" if self._is_muon and engine.zero_stage > 0 and not is_bf16_optimizer else "gradient"

    def norm(self) -> float | None:
        """Global norm of the last step's gradient before clipping, or of its update, as `norm_name` says.

        None if the last step made no update. It waits for the device.
        """
        if not self._deepspeed.was_step_applied():
            return None
        norm = self._deepspeed.get_global_grad_norm() if self._plain_norm is None else self._plain_norm
        return float(norm)

    def learning_rate(self) -> float:
        """Learning rate of the last step, of the first parameter group."""
        return float(self._deepspeed.optimizer.param_groups[0]["lr"])

    @torch.no_grad()
    def loss_sum(self, micro_batches: Iterable[MicroBatch]) -> torch.Tensor:
        """Sum of losses over all ranks' micro batches, fp64 on the CPU; every rank must bring as many."""
        self._deepspeed.eval()
        total = torch.zeros((), device=self.group.device, dtype=torch.float64)
        for micro_batch in micro_batches:
            total += self._counted(self._forward(micro_batch))
        self._deepspeed.train()
        return self.group.sum(total)

    def close(self) -> None:
        """Free what DeepSpeed holds."""
        self._deepspeed.destroy()


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices, which decay, and the rest, which do not."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trainable if parameter.ndim >= 2]
    others = [parameter for parameter in trainable if parameter.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": weight_decay, "name": "matrices"},
        {"params": others, "weight_decay": 0.0, "name": "vectors"},
    ]
    return [group for group in groups if group["params"]]


def prepare_blocks(model: nn.Module, config: RunConfig) -> None:
    """Turn on recomputation and compilation, decoder block by decoder block."""
    if config.engine.activation_checkpointing:
        for module in model.modules():
            if isinstance(module, PreTrainedModel):
                module.gradient_checkpointing_enable({"use_reentrant": False})
                break
    if config.engine.compile:
        compile_blocks(model)
