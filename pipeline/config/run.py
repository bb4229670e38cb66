"""The config of a training run: pre-training and fine-tuning are the same loop with other models and batches."""

from collections import Counter
from itertools import pairwise
from typing import Literal, NamedTuple

from pydantic import Field, NonNegativeInt, model_validator

from pipeline.config.base import Config
from pipeline.config.checkpoints import Checkpoints
from pipeline.config.data import CorpusData, Data, DataPhase
from pipeline.config.engine import Engine
from pipeline.config.faults import Faults
from pipeline.config.measuring import Evaluation, Tracking
from pipeline.config.model import Adapter, CheckpointModel, LlamaModel, Model, NoAdapter
from pipeline.config.optimization import Batch, Duration, Optimizer, Schedule


class Stretch(NamedTuple):
    """Steps with one size of batches and sequences."""

    first_step: int
    first_token: int
    """Tokens seen before it."""
    global_size: int
    sequence_length: int

    @property
    def step_tokens(self) -> int:
        """Tokens of a step."""
        return self.global_size * self.sequence_length

    def step_of(self, tokens: int) -> int:
        """The step before which so many tokens have been seen, rounded up."""
        return self.first_step + max(0, -(-(tokens - self.first_token) // self.step_tokens))

    def followed_by(self, phase: DataPhase) -> "Stretch":
        """The stretch that a phase begins."""
        first = phase.at_step if phase.at_step is not None else self.step_of(phase.at_tokens or 0)
        tokens = self.first_token + (first - self.first_step) * self.step_tokens
        return Stretch(
            first, tokens, phase.global_size or self.global_size, phase.sequence_length or self.sequence_length
        )


class RunConfig(Config):
    """Everything that decides what a training run does."""

    stage: Literal["pretrain", "finetune"]
    """`pretrain` learns from a corpus, `finetune` from conversations on top of a checkpoint."""
    output: str
    """The run folder; the same command with the same folder resumes."""
    seed: NonNegativeInt = 0
    """Seeds weights, order of samples and dropout."""
    model: Model
    """What is trained."""
    adapter: Adapter = Field(default=NoAdapter(type="none"))
    """All weights, or low-rank updates."""
    data: Data
    """What it learns from."""
    tokenizer: str | None = None
    """Tokenizer folder; by default the corpus's or the checkpoint's own."""
    batch: Batch
    """Sequences per update."""
    duration: Duration
    """How long."""
    optimizer: Optimizer
    """How weights are updated."""
    schedule: Schedule = Schedule()
    """The learning rate over time."""
    engine: Engine = Engine()
    """DeepSpeed."""
    checkpoints: Checkpoints = Checkpoints()
    """Saving."""
    faults: Faults = Faults()
    """What is done when something goes wrong."""
    evaluation: Evaluation = Evaluation()
    """Measuring on held-out data."""
    tracking: Tracking = Tracking()
    """Reporting."""

    @model_validator(mode="after")
    def stage_fits_blocks(self) -> "RunConfig":
        """Fine-tuning starts from a checkpoint; an adapter needs one too; pre-training reads a corpus."""
        if self.stage == "finetune" and not isinstance(self.model, CheckpointModel):
            raise ValueError(f"model.type ({self.model.type}) must be checkpoint when stage is finetune")
        if self.adapter.type != "none" and not isinstance(self.model, CheckpointModel):
            raise ValueError(f"adapter.type ({self.adapter.type}) needs model.type checkpoint")
        if self.stage == "pretrain" and not isinstance(self.data, CorpusData):
            raise ValueError(f"data.type ({self.data.type}) must be corpus when stage is pretrain")
        return self

    @model_validator(mode="after")
    def sequences_fit_positions(self) -> "RunConfig":
        """A fresh model has positions for whole sequences."""
        length = max(stretch.sequence_length for stretch in self.stretches)
        if isinstance(self.model, LlamaModel) and length > self.model.max_positions:
            raise ValueError(
                f"data.sequence_length ({length}) must be at most model.max_positions ({self.model.max_positions})"
            )
        return self

    @model_validator(mode="after")
    def sequences_can_be_shared(self) -> "RunConfig":
        """Ranks that share a sequence have equally long stretches of it, and equally many heads."""
        size = self.engine.sequence_parallel
        for length in {stretch.sequence_length for stretch in self.stretches}:
            if length % size:
                raise ValueError(
                    f"data.sequence_length ({length}) must be a multiple of engine.sequence_parallel ({size})"
                )
        if isinstance(self.model, LlamaModel) and self.model.num_heads % size:
            raise ValueError(f"engine.sequence_parallel ({size}) must divide model.num_heads ({self.model.num_heads})")
        return self

    @model_validator(mode="after")
    def layers_can_be_shared(self) -> "RunConfig":
        """Ranks that share layers have equal parts of their matrices, which Muon and adapters would need whole."""
        size = self.engine.tensor_parallel
        if size > 1 and self.optimizer.type == "muon":
            raise ValueError("optimizer.type (muon) must be another one with engine.tensor_parallel above 1")
        if size > 1 and self.adapter.type != "none":
            raise ValueError(f"adapter.type ({self.adapter.type}) must be none with engine.tensor_parallel above 1")
        for name in ("num_heads", "num_key_value_heads", "intermediate_size"):
            if isinstance(self.model, LlamaModel) and (number := getattr(self.model, name)) % size:
                raise ValueError(f"engine.tensor_parallel ({size}) must divide model.{name} ({number})")
        return self

    @model_validator(mode="after")
    def muon_is_not_clipped(self) -> "RunConfig":
        """DeepSpeed clips after Muon's orthogonalisation: the update would shrink, not the gradient."""
        if self.optimizer.type == "muon" and self.engine.gradient_clipping > 0:
            raise ValueError(
                f"engine.gradient_clipping ({self.engine.gradient_clipping}) must be 0 with optimizer.type muon"
            )
        return self

    @model_validator(mode="after")
    def rollbacks_find_checkpoints(self) -> "RunConfig":
        """The newest checkpoint is often younger than the beginning of a spike."""
        if self.faults.spikes.action == "rollback" and self.checkpoints.keep_last < 2:
            raise ValueError("checkpoints.keep_last (1) must be at least 2 when faults.spikes.action is rollback")
        return self

    @model_validator(mode="after")
    def phases_rise(self) -> "RunConfig":
        """Each phase begins behind the one before."""
        for number, (one, other) in enumerate(pairwise(self.stretches)):
            if one.first_step >= other.first_step:
                raise ValueError(
                    f"data.phases.{number} begins at step {other.first_step}, which must be above {one.first_step}"
                )
        return self

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """Where the sizes of batches and sequences hold: the first, and one for each of the data's phases."""
        found = [Stretch(0, 0, self.batch.global_size, self.data.sequence_length)]
        for phase in self.data.phases if isinstance(self.data, CorpusData) else ():
            found.append(found[-1].followed_by(phase))
        return tuple(found)

    @property
    def num_steps(self) -> int:
        """Number of updates the whole run makes."""
        if self.duration.steps is not None:
            return self.duration.steps
        assert self.duration.tokens is not None
        last = [one for one in self.stretches if one.first_token < self.duration.tokens][-1]
        return last.step_of(self.duration.tokens)

    def tokens_at(self, step: int) -> int:
        """Tokens seen before a step; those of padding count, too."""
        return self.tokens_by_length(step).total()

    def tokens_by_length(self, step: int) -> Counter[int]:
        """Tokens seen before a step, by the length of their sequences; those of padding count, too."""
        found = Counter[int]()
        ends = [*(min(step, one.first_step) for one in self.stretches[1:]), step]
        for one, end in zip(self.stretches, ends, strict=True):
            if end > one.first_step:
                found[one.sequence_length] += (end - one.first_step) * one.step_tokens
        return found
