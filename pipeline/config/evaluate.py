"""The config of an evaluation: which runs, on which sets, and what must hold."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.config.base import Config
from pipeline.config.data import CorpusCache
from pipeline.config.places import Place


class CorpusSet(Config):
    """The validation split of a corpus."""

    type: Literal["corpus"]
    """Tokenized shards."""
    corpus: Place
    """The corpus folder, or its URL."""
    sequence_length: PositiveInt = 256
    """Tokens per window."""
    cache: CorpusCache = CorpusCache()
    """Where shards are kept if the corpus is at a URL. Its training shards are fetched, for the unigram baseline, only
    if a check asks for that."""


class InstructSet(Config):
    """Held-out conversations; only answers are scored."""

    type: Literal["instruct"]
    """Chat conversations."""
    path: str
    """JSON-lines file."""
    sequence_length: PositiveInt = 256
    """Longer conversations are left out and counted."""


EvaluationSet = Annotated[CorpusSet | InstructSet, Field(discriminator="type")]


class BelowUnigram(Config):
    """Demand that a model's loss is at most a share of the unigram baseline's (nats per token)."""

    type: Literal["below_unigram"]
    """The check."""
    model: str
    """Name of the model."""
    set: str
    """Name of a corpus set."""
    max_ratio: PositiveFloat
    """Largest allowed ratio."""


class Beats(Config):
    """Demand that one model needs fewer bits per byte than another on a set."""

    type: Literal["beats"]
    """The check."""
    model: str
    """Name of the better model."""
    other: str
    """Name of the worse model."""
    set: str
    """Name of the set."""


Check = Annotated[BelowUnigram | Beats, Field(discriminator="type")]


class EvaluateConfig(Config):
    """Perplexity and bits per byte of some runs on some sets, and checks that must hold."""

    stage: Literal["evaluate"]
    """Evaluation."""
    output: str
    """JSON file for the figures."""
    models: dict[str, str] = Field(min_length=1)
    """Name of each model and its run folder."""
    ema: tuple[str, ...] = ()
    """Names of models that are the averages that their runs kept of the weights (`ema.decay`), instead of these."""
    sets: dict[str, EvaluationSet] = Field(min_length=1)
    """Name of each set and where it is."""
    checks: tuple[Check, ...] = ()
    """What must hold; the command fails otherwise."""
    max_sequences: PositiveInt | None = None
    """At most so many sequences of each set; all if not given."""
    micro_size: PositiveInt = 16
    """Sequences per forward pass."""

    @model_validator(mode="after")
    def checks_name_known_things(self) -> "EvaluateConfig":
        """Every check names a model and a set that are defined above, `ema` such models."""
        for model in self.ema:
            if model not in self.models:
                raise ValueError(f"ema names model {model!r}; models has {', '.join(self.models)}")
        for index, check in enumerate(self.checks):
            named = [check.model] + ([check.other] if isinstance(check, Beats) else [])
            for model in named:
                if model not in self.models:
                    raise ValueError(f"checks.{index} names model {model!r}; models has {', '.join(self.models)}")
            if check.set not in self.sets:
                raise ValueError(f"checks.{index} names set {check.set!r}; sets has {', '.join(self.sets)}")
            if isinstance(check, BelowUnigram) and not isinstance(self.sets[check.set], CorpusSet):
                raise ValueError(f"checks.{index}: set {check.set!r} has no unigram baseline; name one of type corpus")
        return self
