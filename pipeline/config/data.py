"""What a run reads: tokenized corpora in a weighted mixture, or conversations for instruction tuning."""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from pipeline.config.base import Config
from pipeline.config.places import Place


class SourceWeight(Config):
    """One source of a corpus and its share of the mixture."""

    corpus: Place
    """The corpus folder, as `tarmac prep` wrote it, or its URL."""
    source: str
    """The source's name in that corpus."""
    weight: NonNegativeFloat | None = None
    """Share of the sequences, relative to the other weights; 1 if neither this nor `epochs` is given."""
    epochs: NonNegativeFloat | None = None
    """How often it is gone through by the time the others have had theirs; given for all sources or for none."""

    @model_validator(mode="after")
    def one_measure(self) -> "SourceWeight":
        """A weight or epochs."""
        if self.weight is not None and self.epochs is not None:
            raise ValueError(f"source {self.source!r} has both weight and epochs; give one of them")
        return self


Sources = Annotated[tuple[SourceWeight, ...], Field(min_length=1)]
Range = tuple[NonNegativeInt, PositiveInt]


def _ranges(value: Any) -> Any:
    """Ranges as people write them: `[a,b)`, several of these, or one pair."""
    if isinstance(value, str) and re.fullmatch(r"\s*(\[\s*\d+\s*,\s*\d+\s*\)[\s,]*)+", value):
        return re.findall(r"(\d+)\s*,\s*(\d+)", value)
    is_pair = isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(one, int) for one in value)
    return [value] if is_pair else value


Ranges = Annotated[tuple[Range, ...], BeforeValidator(_ranges)]


class DataPhase(Config):
    """What changes from a step on; what is not named stays as it was."""

    at_step: PositiveInt | None = None
    """The first step that it holds for, counted from 0."""
    at_tokens: PositiveInt | None = None
    """Or: once so many tokens have been seen, rounded up to a whole step."""
    sources: Sources | None = None
    """Another mixture; sources go on where they stood."""
    temperature: PositiveFloat | None = None
    """Another temperature."""
    sequence_length: PositiveInt | None = None
    """Another length: what is left of the open shards is cut anew, nothing is lost or repeated."""
    global_size: PositiveInt | None = None
    """Another number of sequences per update."""
    packing: Literal["concat", "best_fit"] | None = None
    """Another packing."""
    mask_documents: bool | None = None
    """Whether documents are kept apart from then on."""
    withdrawn: str | None = None
    """Another file of withdrawn documents."""

    @model_validator(mode="after")
    def one_beginning(self) -> "DataPhase":
        """A phase begins at a step or at a number of tokens."""
        if (self.at_step is None) == (self.at_tokens is None):
            raise ValueError("give exactly one of at_step and at_tokens")
        return self


class CorpusCache(Config):
    """Where shards of corpora at URLs are kept on each machine, and how they come there."""

    folder: str | None = None
    """On a disk of the machine itself; `~` and `$NAME` are filled in there. None: in its folder for temporary files."""
    max_bytes: PositiveInt = 200_000_000_000
    """Bound of the shards in it; the least recently used ones go."""
    ahead: NonNegativeInt = 2
    """Shards of each source that are fetched in the background before they are needed."""
    downloads: PositiveInt = 4
    """Of those, how many each process fetches at a time; processes of one machine do not fetch the same one."""
    attempts: PositiveInt = 8
    """How often a download is tried before it is an error."""
    first_pause_seconds: NonNegativeFloat = 0.5
    """Longest pause after the first failed attempt; it doubles with each further one."""
    most_pause_seconds: NonNegativeFloat = 30.0
    """Longest pause after any."""
    timeout_seconds: PositiveFloat = 60.0
    """How long a connection may be silent before the attempt has failed."""


class CorpusData(Config):
    """Sequences out of the token streams of one or more sources."""

    type: Literal["corpus"]
    """Tokenized shards."""
    sources: Sources
    """The mixture."""
    temperature: PositiveFloat | None = None
    """Multiplies each weight by the source's tokens to the power of 1 / temperature: 1 takes all sources as often, a
    large one takes as much of each (Conneau et al. 2020, arXiv:1911.02116)."""
    sequence_length: PositiveInt
    """Tokens per sequence."""
    packing: Literal["concat", "best_fit"] = "concat"
    """`concat`: windows over the stream of documents; `best_fit`: no document is cut unless it is longer than a
    sequence (arXiv:2404.10830), and documents are kept apart."""
    mask_documents: bool = False
    """Whether documents in one window are kept apart: none attends to another."""
    at_end: Literal["repeat", "stop"] = "repeat"
    """When a source has been gone through: begin it again, in another order, or end the run before that step."""
    withdrawn: str | None = None
    """File with the ids of documents, one a line, that are not seen: their tokens become padding."""
    phases: tuple[DataPhase, ...] = ()
    """Changes during the run, in the order of their steps."""
    skip: Ranges = ()
    """Ranges [a, b): once a steps are made, the samples of the next b - a are passed over. Steps are counted as the run
    makes them, so that what was skipped before does not count."""
    cache: CorpusCache = CorpusCache()
    """Where shards of corpora at URLs are kept."""
    on_damage: Literal["fail", "skip"] = "fail"
    """A damaged chunk ends the run, or its tokens become padding, on all ranks and for good."""

    @model_validator(mode="after")
    def some_weight(self) -> "CorpusData":
        """A mixture needs one weight above zero, each source once, and epochs for all or none."""
        for sources in (self.sources, *(phase.sources for phase in self.phases if phase.sources)):
            if not any((source.weight is None or source.weight > 0) and source.epochs != 0 for source in sources):
                raise ValueError("sources need at least one weight above 0")
            keys = [(source.corpus, source.source) for source in sources]
            if len(set(keys)) != len(keys):
                raise ValueError("sources name the same source twice; give it one entry with the summed weight")
            if len({source.epochs is None for source in sources}) > 1:
                raise ValueError("some sources have epochs and others not; give epochs for all, or weights")
        return self

    @model_validator(mode="after")
    def temperature_is_of_weights(self) -> "CorpusData":
        """Epochs say already how often each source comes."""
        sources, temperature = self.sources, self.temperature
        for phase in (None, *self.phases):
            if phase:
                sources, temperature = phase.sources or sources, phase.temperature or temperature
            if temperature and sources[0].epochs is not None:
                raise ValueError(
                    f"temperature ({temperature}) goes with weights, and sources have epochs; leave one out"
                )
        return self

    @model_validator(mode="after")
    def skips_rise(self) -> "CorpusData":
        """Ranges are not empty, and come one after the other."""
        before = -1
        for first, last in self.skip:
            if first >= last:
                raise ValueError(f"skip: [{first}, {last}) is empty; it must end above its beginning")
            if first <= before:
                raise ValueError(f"skip: [{first}, {last}) must begin above {before}, where the range before it does")
            before = first
        return self


class InstructData(Config):
    """Conversations, one JSON object `{"messages": [{"role", "content"}, …]}` per line; only answers are learned."""

    type: Literal["instruct"]
    """Chat conversations."""
    train: str
    """JSON-lines file to learn from."""
    validation: str
    """JSON-lines file held out."""
    sequence_length: PositiveInt
    """Tokens per sequence; a longer conversation is left out and counted."""


Data = Annotated[CorpusData | InstructData, Field(discriminator="type")]
