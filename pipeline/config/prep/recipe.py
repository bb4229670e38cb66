"""The config of data preparation: raw text in, tokenized shards out."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pipeline.config.base import Config
from pipeline.config.prep.executors import Executor, LocalExecutor
from pipeline.config.prep.filters import Cleaning, Filter
from pipeline.config.prep.metadata import require_metadata, require_url
from pipeline.config.prep.paths import FilePath
from pipeline.config.prep.readers import Reader
from pipeline.config.prep.tokenizer import Tokenizer
from pipeline.config.sentences import NAME_PATTERN

MAX_SIGNATURE_HASHES = 10_000
"""Hashes computed of each document to find near-duplicates."""


class Source(Config):
    """One named part of the corpus; training mixes sources by weight."""

    name: str = Field(pattern=NAME_PATTERN)
    """Lower-case name; it becomes the folder of its shards."""
    reader: Reader
    """Where its documents come from."""
    filters: tuple[Filter, ...] | None = None
    """Filters of this source, in place of the common ones."""
    split: Literal["train", "validation", "test"] | None = None
    """Where all its documents go, such as a text that is published with a split; by the hash of each if not given."""
    max_rejected_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Bad records (broken JSON, damaged archives) are passed over and written out; a larger share is an error."""


class MinHash(Config):
    """Near-duplicates by MinHash and banding (Broder 1997; Leskovec et al., Mining of Massive Datasets, 3.4)."""

    shingle_words: Annotated[int, Field(ge=1, le=100)] = 5
    """Words in a shingle."""
    bands: Annotated[int, Field(ge=1, le=512)] = 14
    """Bands; documents that agree in one are taken for duplicates. Each costs 16 bytes a document in `work`."""
    rows: PositiveInt = 8
    """Hashes in a band. 14 bands of 8 rows find pairs of Jaccard similarity 0.75 in about 77 of 100 cases."""

    @model_validator(mode="after")
    def hashes_are_not_too_many(self) -> "MinHash":
        """A document's signature fits into some kilobytes; the largest published ones have 9,000 hashes."""
        if self.bands * self.rows > MAX_SIGNATURE_HASHES:
            raise ValueError(
                f"bands ({self.bands}) times rows ({self.rows}) must be at most {MAX_SIGNATURE_HASHES}, the hashes of a"
                " document; take fewer of either"
            )
        return self


class Dedup(Config):
    """Which documents are duplicates. Of duplicates, the one of the first source and lowest id stays."""

    exact: bool = True
    """Equal cleaned texts."""
    minhash: MinHash | None = None
    """Nearly equal texts."""


class HeldOut(Config):
    """Documents of an appended source that hold text of the corpus's validation and test documents are dropped."""

    ngram: Annotated[int, Field(ge=1, le=100)] = 13
    """Words in an n-gram (Brown et al. 2020, arXiv:2005.14165, C); shorter documents are compared as a whole only, by
    `dedup`. N-grams that several held-out documents have in common, such as licences, do not count."""
    max_share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """A document goes if more of its n-grams than this share are held out, or if more than this share of a held-out
    document's n-grams are in it (0.2: Touvron et al. 2023, arXiv:2307.09288, A.6); and at least 3, or all it has."""


class Shards(Config):
    """The form of the tarballs."""

    chunk_tokens: PositiveInt = 1_048_576
    """Tokens in one webdataset sample."""
    shard_tokens: PositiveInt = 134_217_728
    """Tokens in one tarball, on average."""
    metadata: tuple[str, ...] = ()
    """Which metadata is kept beside each document's tokens: what readers map, such as `[id, url]`, and `language`."""

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


class PrepConfig(Config):
    """Everything that decides what a corpus contains."""

    stage: Literal["prep"]
    """Data preparation."""
    output: FilePath
    """The corpus folder."""
    work: FilePath | None = None
    """Folder of the finished tasks, on a disk that all workers see; `<output>.work` if not given."""
    keep_work: Literal["nothing", "hashes", "everything"] = "hashes"
    """What stays in `work` when the corpus is complete: hashes and signatures suffice to append a source later;
    everything (about the size of the text, compressed) also to change the tokenizer or repair a shard without reading
    the inputs again."""
    write_dropped: bool = False
    """Write every dropped document with its reason to `<output>/dropped/`."""
    seed: NonNegativeInt = 0
    """Seeds the global shuffle and the split."""
    sources: tuple[Source, ...] = Field(min_length=1)
    """What goes in."""
    cleaning: Cleaning = Cleaning()
    """Per-document cleaning and dropping."""
    filters: tuple[Filter, ...] = ()
    """What changes or drops documents, in this order, after cleaning."""
    dedup: Dedup = Dedup()
    """Which documents are duplicates."""
    validation_share: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Share of documents, by hash, that is held out for validation."""
    test_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of documents, by hash, that is held out for tests."""
    held_out: HeldOut | None = HeldOut()
    """What a source that is appended later may have in common with the documents held out before; null: anything."""
    tokenizer: Tokenizer
    """How text becomes tokens."""
    shards: Shards = Shards()
    """The form of the output."""
    pairs: Pairs = Pairs()
    """Instruction pairs."""
    executor: Executor = LocalExecutor(type="local")
    """Where the work runs."""
    workers: PositiveInt | None = None
    """Tasks at a time; all cores if not given (for SLURM: 64). Results do not depend on it."""

    @model_validator(mode="after")
    def names_differ(self) -> "PrepConfig":
        """Each source has a name of its own."""
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError(f"sources must have different names, got {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def something_is_trained_on(self) -> "PrepConfig":
        """Not every source is held out."""
        if all(source.split in ("validation", "test") for source in self.sources):
            raise ValueError("sources are all held out by their split; leave one to train on")
        return self

    @model_validator(mode="after")
    def something_is_left(self) -> "PrepConfig":
        """Not everything is held out."""
        if self.validation_share + self.test_share >= 1:
            raise ValueError(
                f"validation_share ({self.validation_share}) and test_share ({self.test_share}) must leave something"
                " to train on"
            )
        return self

    @model_validator(mode="after")
    def metadata_is_there(self) -> "PrepConfig":
        """What filters and shards need of the documents is mapped."""
        common = [(source.reader, self.filters) for source in self.sources if source.filters is None]
        own = [(source.reader, source.filters) for source in self.sources if source.filters is not None]
        require_url(common, "filters")
        for step in own:
            require_url([step], "a source's filters")
        require_metadata(self.shards.metadata, [*common, *own])
        return self
