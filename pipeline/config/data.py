"""What a run reads: tokenized corpora in a weighted mixture, or conversations for instruction tuning."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from pipeline.config.base import Config


class SourceWeight(Config):
    """One source of a corpus and its share of the mixture."""

    corpus: str
    """The corpus folder, as `tarmac prep` wrote it."""
    source: str
    """The source's name in that corpus."""
    weight: NonNegativeFloat = 1.0
    """Share of the sequences, relative to the other weights."""


class CorpusData(Config):
    """Windows over the token streams of one or more sources."""

    type: Literal["corpus"]
    """Tokenized shards."""
    sources: tuple[SourceWeight, ...] = Field(min_length=1)
    """The mixture."""
    sequence_length: PositiveInt
    """Tokens per sequence."""

    @model_validator(mode="after")
    def some_weight(self) -> "CorpusData":
        """A mixture needs one weight above zero, and each source once."""
        if not any(source.weight > 0 for source in self.sources):
            raise ValueError("sources need at least one weight above 0")
        keys = [(source.corpus, source.source) for source in self.sources]
        if len(set(keys)) != len(keys):
            raise ValueError("sources name the same source twice; give it one entry with the summed weight")
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
