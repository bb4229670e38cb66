"""The config of data preparation: raw text in, tokenized shards out."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pipeline.config.base import Config


class StdlibReader(Config):
    """Python's own standard library, as installed: real text and code without a download."""

    type: Literal["stdlib"]
    """The reader."""
    suffixes: tuple[str, ...] = (".py", ".txt", ".rst")
    """Which files are read."""


class TextReader(Config):
    """One document per text file (UTF-8)."""

    type: Literal["text"]
    """The reader."""
    paths: tuple[str, ...] = Field(min_length=1)
    """Files, folders (searched for *.txt) or globs."""


class JsonlReader(Config):
    """One document per line of JSON; `.gz` and `.zst` files are streamed."""

    type: Literal["jsonl"]
    """The reader."""
    paths: tuple[str, ...] = Field(min_length=1)
    """Files, folders (searched for *.jsonl, *.jsonl.gz, *.jsonl.zst, *.json.gz) or globs."""
    text_field: str = "text"
    """Key of the text."""


Reader = Annotated[StdlibReader | TextReader | JsonlReader, Field(discriminator="type")]


class Source(Config):
    """One named part of the corpus; training mixes sources by weight."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """Lower-case name; it becomes the folder of its shards."""
    reader: Reader
    """Where its documents come from."""


class Cleaning(Config):
    """What is done to each document before it is counted."""

    normalization: Literal["none", "NFC", "NFKC"] = "NFC"
    """Unicode form; normalisation happens here, never in the tokenizer."""
    min_characters: NonNegativeInt = 64
    """Shorter documents are dropped."""
    max_replacement_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Documents with a larger share of undecodable characters are dropped."""


class TrainTokenizer(Config):
    """Train a sentencepiece BPE tokenizer on a deterministic sample of the corpus."""

    type: Literal["train"]
    """Train one."""
    vocab_size: PositiveInt
    """Number of pieces, control and byte pieces included."""
    sample_bytes: PositiveInt = 20_000_000
    """At most so much text is sampled."""


class GivenTokenizer(Config):
    """Use an existing tokenizer: a folder with `tokenizer.model` or `tokenizer.json`."""

    type: Literal["given"]
    """Use one."""
    path: str
    """The folder."""


Tokenizer = Annotated[TrainTokenizer | GivenTokenizer, Field(discriminator="type")]


class Shards(Config):
    """The form of the tarballs."""

    chunk_tokens: PositiveInt = 1_048_576
    """Tokens in one webdataset sample."""
    shard_tokens: PositiveInt = 134_217_728
    """Tokens in one tarball, on average."""

    @model_validator(mode="after")
    def shard_holds_a_chunk(self) -> "Shards":
        """A shard holds at least one chunk."""
        if self.shard_tokens < self.chunk_tokens:
            raise ValueError(f"shard_tokens ({self.shard_tokens}) must be at least chunk_tokens ({self.chunk_tokens})")
        return self


class Pairs(Config):
    """Instruction pairs made from Python sources: signature and first line of the body to docstring."""

    enabled: bool = False
    """Write `pairs/train.jsonl` and `pairs/validation.jsonl` beside the shards."""
    max_answer_characters: PositiveInt = 400
    """The answer is a docstring's first paragraph; functions where it is longer are left out."""


class LocalExecutor(Config):
    """Worker processes on this machine."""

    type: Literal["local"] = "local"
    """The executor."""
    workers: PositiveInt | None = None
    """Number of processes; all cores if not given. Results do not depend on it."""


class PrepConfig(Config):
    """Everything that decides what a corpus contains."""

    stage: Literal["prep"]
    """Data preparation."""
    output: str
    """The corpus folder."""
    seed: NonNegativeInt = 0
    """Seeds the global shuffle and the split."""
    sources: tuple[Source, ...] = Field(min_length=1)
    """What goes in."""
    cleaning: Cleaning = Cleaning()
    """Per-document cleaning and dropping."""
    validation_share: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Share of documents, by hash, that is held out."""
    tokenizer: Tokenizer
    """How text becomes tokens."""
    shards: Shards = Shards()
    """The form of the output."""
    pairs: Pairs = Pairs()
    """Instruction pairs."""
    executor: LocalExecutor = LocalExecutor()
    """Where the work runs."""

    @model_validator(mode="after")
    def names_differ(self) -> "PrepConfig":
        """Each source has a name of its own."""
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError(f"sources must have different names, got {', '.join(names)}")
        return self
