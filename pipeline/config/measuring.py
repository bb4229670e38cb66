"""What a run measures beside training, and where figures go."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from pipeline.config.base import Config
from pipeline.config.places import Place


class EvaluationCorpus(Config):
    """A corpus whose validation split is measured inside the loop."""

    corpus: Place
    """The corpus folder, or its URL; prepared with the run's tokenizer."""
    source: str | None = None
    """One of its sources; all of them by default."""
    every_steps: PositiveInt = 1000
    """Steps between two evaluations; also done at the last step."""
    max_sequences: PositiveInt = 256
    """At most so many sequences, of `data.sequence_length`."""


class Samples(Config):
    """Texts that the model writes inside the loop, to `samples.jsonl`."""

    prompts: tuple[str, ...] = Field(min_length=1)
    """What it continues, always the same; nothing at all begins a document."""
    every_steps: PositiveInt = 1000
    """Steps between two times; also done at the last step."""
    max_tokens: PositiveInt = 64
    """Length of a continuation, at most."""
    temperature: NonNegativeFloat = 0.0
    """0 always takes the likeliest token; draws are keyed by the run's seed, and the same each time."""


class Evaluation(Config):
    """Evaluation inside the loop: on the data's own validation split, on other corpora, by samples."""

    every_steps: PositiveInt = 1000
    """Steps between two evaluations; also done at the last step."""
    max_sequences: PositiveInt = 256
    """At most so many sequences."""
    corpora: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")], EvaluationCorpus] = Field(
        default_factory=dict
    )
    """Other corpora by the names that figures get: `validation/NAME/loss`."""
    samples: Samples | None = None
    """Continuations of fixed prompts; none by default."""


class Wandb(Config):
    """Weights & Biases."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """`auto`: online if a key is set in the environment, else offline."""
    entity: str | None = None
    """User or team; by default the key's own."""
    project: str = "tarmac"
    """Project name."""
    name: str | None = None
    """Name of the run; by default its folder's."""
    group: str | None = None
    """Group name."""
    job_type: str | None = None
    """Job type; by default the stage."""
    tags: tuple[str, ...] = ()
    """Tags."""
    notes: str | None = None
    """A few words on the run."""


class Profile(Config):
    """A trace of some steps by torch.profiler."""

    first_step: PositiveInt
    """Number of the first step traced, from 1."""
    steps: PositiveInt = 3
    """How many are traced; a file takes some MB of each."""
    ranks: tuple[NonNegativeInt, ...] = Field(default=(0,), min_length=1)
    """Whose; each writes a file of its own."""


class Tracking(Config):
    """Where metrics go; `metrics.jsonl` is always written."""

    log_every_steps: PositiveInt = 10
    """Steps between two rows."""
    per_rank: bool = False
    """Whether rows also hold `rank/N/…`: each rank's own time and memory. Some thousand ranks make long rows."""
    wandb: Wandb = Wandb()
    """Weights & Biases."""
    tensorboard: bool = False
    """Whether event files for TensorBoard are written to `tensorboard/` in the run folder."""
    profile: Profile | None = None
    """Steps of which `profile/` in the run folder gets a trace; none by default."""
