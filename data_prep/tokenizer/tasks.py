"""Tasks that make the corpus's tokenizer and measure it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from data_prep.documents.source import SourceDocuments, hash_ranges
from data_prep.encoding.encoder import choose_encoder, make_encoder
from data_prep.tasks.task import Task
from data_prep.tokenizer.train import train_tokenizer
from pipeline.config.prep.tokenizer import Encoder, TrainTokenizer
from pipeline.errors import TokenizerError
from pipeline.tokenizer.load import load_tokenizer

TOKENIZER_FOLDER = "tokenizer"
_MEASURED_BYTES = 2_000_000
_RANGE_BYTES = 16 * 2**20


@dataclass(frozen=True)
class SampledSource:
    """A source and how much of the tokenizer's sample comes from it."""

    source: SourceDocuments
    """The source."""
    sample_bytes: int
    """About so much of its training text."""


@dataclass(frozen=True)
class TrainTokenizerTask(Task):
    """Train on a sample: the first texts of each source's training split in the order of their hashes."""

    phase: ClassVar[str] = "tokenizer"
    result_type: ClassVar[type] = str

    config: TrainTokenizer
    """What to train."""
    samples: tuple[SampledSource, ...]
    """On what."""

    def run(self, work: Path, folder: Path) -> str:
        """Write `tokenizer/` and return the tokenizer's fingerprint. Raises TokenizerError."""
        texts = (text for sample in self.samples for text in _texts(sample, work))
        tokenizer = train_tokenizer(texts, self.config)
        tokenizer.save(folder / TOKENIZER_FOLDER)
        return tokenizer.fingerprint()


@dataclass(frozen=True)
class GivenTokenizerTask(Task):
    """Take a tokenizer as it is."""

    phase: ClassVar[str] = "tokenizer"
    result_type: ClassVar[type] = str

    fingerprint: str
    """Its fingerprint."""
    path: str = field(compare=False)
    """Its folder."""

    def run(self, work: Path, folder: Path) -> str:
        """Write `tokenizer/` and return the tokenizer's fingerprint. Raises TokenizerError if it is another by now."""
        tokenizer = load_tokenizer(self.path)
        if tokenizer.fingerprint() != self.fingerprint:
            raise TokenizerError(
                f"tokenizer.path ({self.path}) holds another tokenizer than when the work was planned; let it lie until"
                " the job is done, and give the same command"
            )
        tokenizer.save(folder / TOKENIZER_FOLDER)
        return self.fingerprint


@dataclass(frozen=True)
class ChosenEncoder:
    """What encodes a corpus."""

    name: str
    """`reference`, or a package and its version."""
    reason: str
    """Why it is the reference, in words."""


@dataclass(frozen=True)
class ChooseEncoderTask(Task):
    """Whether the fast encoder passes the probes for a tokenizer: asked once, not by each task that encodes."""

    phase: ClassVar[str] = "encoder"
    result_type: ClassVar[type] = ChosenEncoder

    fingerprint: str
    """The tokenizer's."""
    choice: Encoder
    """What the config says."""
    tokenizer: str = field(compare=False)
    """Its folder, relative to the work folder."""

    def run(self, work: Path, folder: Path) -> ChosenEncoder:
        """Return what was chosen."""
        encoder = choose_encoder(load_tokenizer(work / self.tokenizer / TOKENIZER_FOLDER), self.choice)
        return ChosenEncoder(encoder.name, encoder.reason)


@dataclass(frozen=True)
class MeasureTask(Task):
    """How many bytes of a source's text a token stands for; this decides how many shards it becomes."""

    phase: ClassVar[str] = "measure"
    result_type: ClassVar[type] = float

    source: SourceDocuments
    """The source."""
    fingerprint: str
    """The tokenizer's."""
    encoder: str
    """Name of the encoder that was chosen."""
    tokenizer: str = field(compare=False)
    """Its folder, relative to the work folder."""

    def run(self, work: Path, folder: Path) -> float:
        """Bytes per token of the source's first 2 MB of training text in the order of hashes."""
        tokenizer = load_tokenizer(work / self.tokenizer / TOKENIZER_FOLDER)
        texts = list(_texts(SampledSource(self.source, _MEASURED_BYTES), work))
        tokens = len(make_encoder(tokenizer, self.encoder).encode(texts)[0]) + len(texts)
        return sum(len(text.encode("utf-8")) for text in texts) / max(1, tokens)


def _texts(sampled: SampledSource, work: Path) -> Iterator[str]:
    left = sampled.sample_bytes
    ranges = hash_ranges(max(1, sampled.source.text_bytes // _RANGE_BYTES))  # no more is opened than is wanted
    for document in (document for both in ranges for document in sampled.source.documents(work, "train", *both)):
        if left <= 0:
            return
        left -= len(document.text)
        yield document.text.decode("utf-8")
