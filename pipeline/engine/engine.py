"""The training step: forward, backward and update of one global batch on this rank, through DeepSpeed."""

import io
from collections.abc import Iterable
from contextlib import redirect_stdout
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
import xxhash
from torch import nn

from pipeline.config.optimization import Muon
from pipeline.config.run import RunConfig
from pipeline.data.batch import Batch, MicroBatch
from pipeline.engine.average import WeightAverage
from pipeline.engine.files import Files
from pipeline.engine.finite import LossGuard, drop_offloaded_gradients, look_before_muon
from pipeline.engine.loss_scale import LossScale, on_any_processor
from pipeline.engine.mesh import mesh_of
from pipeline.engine.outcome import StepOutcome
from pipeline.engine.parameter_groups import parameter_groups
from pipeline.engine.partition import gather_by_block
from pipeline.engine.process_group import ProcessGroup
from pipeline.engine.settings import deepspeed_dict, own_optimizer, peak_learning_rate
from pipeline.engine.stopwatch import Stopwatch, measured
from pipeline.engine.tensor_parallel import plan_cuts, total_norm
from pipeline.engine.ulysses import SequenceParallel
from pipeline.models.attention import piece_bounds
from pipeline.models.blocks import prepare_blocks
from pipeline.objectives.objective import Objective
from pipeline.runtime.seeds import derive_seed


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
        self._times = Stopwatch(group.device)
        prepare_blocks(model, config.engine)
        if config.engine.zero_stage == 3:
            gather_by_block(model)
        self.average: WeightAverage | None = None
        """The average of the weights, where the config wants one and the optimizer's state is prepared."""
        with on_any_processor(), redirect_stdout(io.StringIO()):  # at stage 1 it prints memory, 15 lines
            self._deepspeed, _, _, _ = deepspeed.initialize(
                model=model,
                optimizer=own_optimizer(config.optimizer),
                model_parameters=parameter_groups(model, config.optimizer),
                config=deepspeed_dict(config, group.ranks.world_size),
            )
        offload = config.engine.offload
        self.files = Files(offload.folder, group.ranks.rank) if offload.folder is not None else None
        """Where to offload to, if to files."""
        is_fp16 = config.engine.precision == "fp16"
        self.loss_scale = LossScale(self._deepspeed.optimizer) if is_fp16 else None
        """In fp16, the scale of the loss."""
        if self._is_muon and config.engine.zero_stage > 0:
            look_before_muon(self._deepspeed.optimizer, config.engine.zero_stage)
        self._deepspeed.allreduce_gradients = measured(
            self._deepspeed.allreduce_gradients, "communication", lambda: self._times
        )

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
        could_fall = self.loss_scale is not None and self.loss_scale.can_fall
        loss_sum, rows = torch.zeros((), device=self.group.device), []
        digest, self._times = xxhash.xxh3_128(), Stopwatch(self.group.device)
        for left, micro_batch in zip(reversed(range(len(batch.micro_batches))), batch.micro_batches, strict=True):
            loss_sum += self._counted(self._pass(micro_batch, scale, digest, is_boundary=left == 0))
            rows.append(self._row_sums())
        skipped = not self._deepspeed.was_step_applied()  # to know it, DeepSpeed has waited for the gradients
        if self.average is not None and not skipped:
            self.average.update(batch.step)
        rescaled = skipped and could_fall and not self.group.max(not loss_sum.isfinite())
        told = [one for one in rows if one is not None]
        return StepOutcome(loss_sum, num_tokens, digest.hexdigest(), skipped, rescaled, self._times,
                           torch.cat(told) if len(told) == len(rows) else None)  # fmt: skip

    def rehearse(self, batch: Batch) -> None:
        """Train on a batch but for the update, which is refused on all ranks: it takes a step's memory, and no trace
        of it stays, neither in the training state nor in the generators of random numbers.

        What an update takes besides is not rehearsed.
        """
        devices = [self.group.device] if self.group.device.type == "cuda" else []
        scale = self.loss_scale and self.loss_scale.state()
        with torch.random.fork_rng(devices), self._guard.refusing():
            outcome = self.train_step(batch, learning_rate_share=0.0)
        if self.loss_scale is not None and scale is not None:
            self.loss_scale.restore(scale)
        assert outcome.skipped, "a rehearsal made an update"

    def _pass(
        self, micro_batch: MicroBatch, scale: torch.Tensor, digest: xxhash.xxh3_128, is_boundary: bool
    ) -> torch.Tensor:
        """Forward and backward of a micro batch, and the update behind the last one; its sum of losses, detached."""
        self._deepspeed.set_gradient_accumulation_boundary(is_boundary)  # their number may change between steps
        with self._times.running("forward"):
            loss = self._forward(micro_batch, digest)
        self._guard.watch(loss)
        with self._times.running("backward"):
            self._deepspeed.backward(loss * scale, scale_wrt_gas=False)
        with self._times.running("optimizer"):
            self._step(is_boundary)
        return loss.detach()

    def _row_sums(self) -> torch.Tensor | None:
        objective = self._deepspeed.module
        if not isinstance(objective, Objective) or objective.row_sums is None:
            return None
        return self._counted(objective.row_sums)

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
        if is_boundary and self._config.engine.offload.optimizer != "none" and not self._deepspeed.was_step_applied():
            drop_offloaded_gradients(self._deepspeed.optimizer)

    def _forward(self, micro_batch: MicroBatch, digest: xxhash.xxh3_128 | None = None) -> torch.Tensor:
        parts = [micro_batch.input_ids, micro_batch.labels]
        if micro_batch.position_ids is not None:
            parts.append(micro_batch.position_ids)
        if digest is not None:
            for part in parts:
                digest.update(part.numpy().data)
        if micro_batch.position_ids is not None:
            parts.append(piece_bounds(micro_batch.position_ids))  # here and not on a GPU, which that would wait for
        parts = [part.to(self.group.device, non_blocking=True) for part in parts]
        return self._deepspeed(*(parts if self._sequence is None else self._sequence.cut(parts)))

    def _counted(self, loss: torch.Tensor) -> torch.Tensor:
        """A loss where it counts: ranks that share layers all have the same."""
        return loss if self.mesh.tensor_rank == 0 else torch.zeros_like(loss)

    def _count_tokens(self, batch: Batch) -> torch.Tensor:
        tokens = torch.tensor(int(batch.row_tokens.sum()), device=self.group.device)
        dist.all_reduce(tokens)
        return tokens // self.mesh.ranks_per_row  # each of them counted whole rows

    def _set_learning_rates(self, share: float) -> None:
        for group in self._deepspeed.optimizer.param_groups:
            group["lr"] = peak_learning_rate(group, self._config.optimizer) * share

    @property
    def norm_name(self) -> str:
        """What `norm` is of: the gradient; or the update, where that is all that DeepSpeed knows with Muon."""
        engine = self._config.engine
        is_offloaded = engine.offload.optimizer != "none"
        is_bf16_optimizer = engine.zero_stage == 1 and engine.precision == "bf16" and not is_offloaded
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
