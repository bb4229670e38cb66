"""The config of a training run: pre-training and fine-tuning are the same loop with other models and batches."""

from collections import Counter
from itertools import pairwise
from typing import Literal

from pydantic import Field, NonNegativeInt, model_validator

from pipeline.config.base import Config
from pipeline.config.checkpoints import Checkpoints
from pipeline.config.data import CorpusData, Data
from pipeline.config.decoders import Decoder
from pipeline.config.encoders import ENCODERS, ModernBertModel
from pipeline.config.engine import Engine
from pipeline.config.faults import Faults
from pipeline.config.measuring import Evaluation, Tracking
from pipeline.config.model import Adapter, CheckpointModel, Model, NoAdapter
from pipeline.config.objective import CausalObjective, Objective
from pipeline.config.optimization import Batch, Duration, Ema, Optimizer, Schedule
from pipeline.config.stretches import Stretch


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
    objective: Objective = Field(default=CausalObjective(type="causal"))
    """What it learns to predict."""
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
    ema: Ema = Ema()
    """An average of the weights."""
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
        """Fine-tuning starts from trained weights; an adapter needs them too; pre-training reads a corpus."""
        if self.stage == "finetune" and isinstance(self.model, Decoder):
            raise ValueError(f"model.type ({self.model.type}) must be checkpoint or huggingface when stage is finetune")
        if self.adapter.type != "none" and isinstance(self.model, Decoder):
            raise ValueError(f"adapter.type ({self.adapter.type}) needs model.type checkpoint or huggingface")
        if self.stage == "pretrain" and not isinstance(self.data, CorpusData):
            raise ValueError(f"data.type ({self.data.type}) must be corpus when stage is pretrain")
        return self

    @model_validator(mode="after")
    def objective_fits_model(self) -> "RunConfig":
        """Encoders learn masked tokens of a corpus, decoders the next token; of a checkpoint its run tells the form."""
        is_masked, form = self.objective.type == "masked", self.model.type
        if isinstance(self.model, ENCODERS) and not is_masked:
            raise ValueError(f"objective.type ({self.objective.type}) must be masked when model.type is {form}")
        if is_masked and not isinstance(self.model, (*ENCODERS, CheckpointModel)):
            raise ValueError(f"model.type ({form}) must be bert, modernbert or checkpoint with objective.type masked")
        if is_masked and self.stage != "pretrain":
            raise ValueError(f"stage ({self.stage}) must be pretrain when objective.type is masked")
        if is_masked and self.adapter.type != "none":
            raise ValueError(f"adapter.type ({self.adapter.type}) must be none when objective.type is masked")
        for name in ("sequence_parallel", "tensor_parallel"):
            if is_masked and (size := getattr(self.engine, name)) > 1:
                raise ValueError(f"engine.{name} ({size}) must be 1 when objective.type is masked")
        return self

    @model_validator(mode="after")
    def windows_need_masks(self) -> "RunConfig":
        """Local attention is a mask, unless its window is as long as a sequence."""
        if isinstance(self.model, ModernBertModel) and self.engine.attention == "documents":
            raise ValueError("engine.attention (documents) must be sdpa or eager when model.type is modernbert")
        return self

    @model_validator(mode="after")
    def sequences_fit_positions(self) -> "RunConfig":
        """A fresh model has positions for whole sequences."""
        length = max(stretch.sequence_length for stretch in self.stretches)
        if isinstance(self.model, (Decoder, *ENCODERS)) and length > self.model.max_positions:
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
        if isinstance(self.model, Decoder) and self.model.num_heads % size:
            raise ValueError(f"engine.sequence_parallel ({size}) must divide model.num_heads ({self.model.num_heads})")
        return self

    @model_validator(mode="after")
    def fp8_trains_all_weights(self) -> "RunConfig":
        """Low-rank updates are too narrow for products in fp8."""
        if self.engine.fp8 and self.adapter.type != "none":
            raise ValueError(f"engine.fp8 (true) must be false with adapter.type {self.adapter.type}")
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
            if isinstance(self.model, Decoder) and (number := getattr(self.model, name, None) or size) % size:
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
    def mup_is_adam(self) -> "RunConfig":
        """Its learning rates are derived for Adam."""
        if isinstance(self.model, Decoder) and self.model.init == "mup" and self.optimizer.type != "adamw":
            raise ValueError(f"optimizer.type ({self.optimizer.type}) must be adamw when model.init is mup")
        return self

    @model_validator(mode="after")
    def rollbacks_find_checkpoints(self) -> "RunConfig":
        """The newest checkpoint is often younger than the beginning of a spike."""
        if self.faults.spikes.action == "rollback" and self.checkpoints.keep_last < 2:
            raise ValueError("checkpoints.keep_last (1) must be at least 2 when faults.spikes.action is rollback")
        return self

    @model_validator(mode="after")
    def samples_continue_texts(self) -> "RunConfig":
        """Encoders cannot, and ranks that share a row do not generate."""
        if self.evaluation.samples is None:
            return self
        if self.objective.type != "causal":
            raise ValueError(f"evaluation.samples must be left out with objective.type {self.objective.type}")
        for name in ("sequence_parallel", "tensor_parallel"):
            if (size := getattr(self.engine, name)) > 1:
                raise ValueError(f"evaluation.samples must be left out with engine.{name} {size}")
        return self

    @model_validator(mode="after")
    def best_metric_is_measured(self) -> "RunConfig":
        """The best of what is never measured would be none."""
        kind, *names = self.checkpoints.best_metric.split("/")
        if kind == "validation" and len(names) == 2 and names[0] not in self.evaluation.corpora:
            raise ValueError(
                f"checkpoints.best_metric ({self.checkpoints.best_metric}) names a corpus that evaluation.corpora lacks"
            )
        return self

    @model_validator(mode="after")
    def decay_fits_the_run(self) -> "RunConfig":
        """A decay that is longer than what is left behind warm-up would be cut."""
        left = self.num_steps - self.schedule.warmup_steps
        if self.schedule.decay_steps is not None and self.schedule.decay_steps > left:
            raise ValueError(
                f"schedule.decay_steps ({self.schedule.decay_steps}) must be at most the {left} steps behind warm-up"
            )
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
