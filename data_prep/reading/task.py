"""The first phase: read, clean, filter, hash, and leave sorted documents and rows for deduplication."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import orjson
import xxhash

from data_prep.dedup.signatures import BandCollector
from data_prep.documents.document import Document, document_id, lower_half, upper_half
from data_prep.documents.rows import RowWriter
from data_prep.documents.runs import DOCUMENTS_NAME, DocumentWriter
from data_prep.documents.split import SplitShares
from data_prep.filters import build_filters, build_held_out, modules_of
from data_prep.filters.base import Filter as Step
from data_prep.filters.base import HeldOutSet, apply_all
from data_prep.readers import module_of, read_file
from data_prep.readers.files import InputFile
from data_prep.reading.inputs import require_planned_inputs
from data_prep.reading.losses import DROPPED_NAME, LossWriter
from data_prep.tasks.task import Task
from pipeline.config.prep.filters import Cleaning, Filter
from pipeline.config.prep.recipe import MinHash, Source


@dataclass(frozen=True)
class ReadResult:
    """What a reading task found."""

    read: int
    """Records, bad ones included."""
    text_bytes: int
    """UTF-8 bytes of text, before cleaning."""
    kept: int
    """Documents that passed the filters."""
    rejected: dict[str, int]
    """Bad records, by reason."""
    dropped: dict[str, int]
    """Documents that a filter dropped, by `filter:reason`."""
    skipped: dict[str, int]
    """Records that are no documents, by reason."""
    inputs: dict[str, str | None]
    """Origin of each file -> 128-bit xxh3 of its bytes."""
    bytes: int = 0
    """About how much content the files have, with what was lost of it."""
    lost_bytes: int = 0
    """About how much of it was lost in stretches whose records cannot be counted; such a stretch is one bad record."""


@dataclass(frozen=True)
class ReadTask(Task):
    """Some files of one source."""

    phase: ClassVar[str] = "read"
    result_type: ClassVar[type] = ReadResult
    self_checking: ClassVar[tuple[str, ...]] = (DOCUMENTS_NAME, DROPPED_NAME)

    source: Source
    """The source, without what only concerns the whole of it."""
    files: tuple[InputFile, ...]
    """What to read."""
    cleaning: Cleaning
    """What to do to the text."""
    filters: tuple[Filter, ...]
    """What drops or changes documents."""
    filter_inputs: str
    """Checksum of the files that filters read."""
    seed: int
    """Seed of the content hash."""
    shares: SplitShares
    """The split."""
    minhash: MinHash | None
    """Signatures for near-duplicates."""
    write_dropped: bool
    """Whether dropped documents are written out."""
    held_out: HeldOutSet | None = None
    """What documents of a source that was appended are kept apart from."""

    @property
    def modules(self) -> tuple[str, ...]:
        """Of readers, filters and MinHash only what it uses: another version of the others changes nothing."""
        minhash = ("data_prep.dedup.minhash",) if self.minhash else ()
        return (*super().modules, module_of(self.source.reader), *modules_of(self.filters, self.held_out), *minhash)

    def run(self, work: Path, folder: Path) -> ReadResult:
        """Read the files. Raises CorpusError if what filters read changes from the planning to the end."""
        self._require_planned_inputs()
        with (
            DocumentWriter(folder) as documents,
            RowWriter(folder) as rows,
            BandCollector(self.minhash, rows) as bands,
            LossWriter(folder, self.write_dropped) as losses,
        ):
            filters = build_filters(self.cleaning, self.filters)
            filters += [build_held_out(self.held_out, work)] if self.held_out else []
            result = _Reading(self, filters, documents, rows, bands, losses).run()
        self._require_planned_inputs()
        return result

    def _require_planned_inputs(self) -> None:
        require_planned_inputs(self.source.name, self.filters, self.filter_inputs)

    def changed_inputs(self, before: ReadResult, now: ReadResult) -> list[str]:
        """Files whose bytes are not what they were."""
        return [origin for origin, content_hash in now.inputs.items() if content_hash != before.inputs.get(origin)]


@dataclass
class _Reading:
    """The state of a running task."""

    task: ReadTask
    filters: list[tuple[str, Step]]
    documents: DocumentWriter
    rows: RowWriter
    bands: BandCollector
    losses: LossWriter
    read: int = 0
    text_bytes: int = 0
    kept: int = 0
    bytes: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    inputs: dict[str, str | None] = field(default_factory=dict)

    def run(self) -> ReadResult:
        for file in self.task.files:
            self._read(file)
        return ReadResult(
            self.read,
            self.text_bytes,
            self.kept,
            dict(self.losses.rejected),
            dict(self.losses.dropped),
            dict(self.skipped),
            self.inputs,
            self.bytes,
            self.losses.lost_bytes,
        )

    def _read(self, file: InputFile) -> None:
        reading = read_file(self.task.source, file)
        for record in reading:
            if isinstance(record, Document):
                self._filter(record)
            else:
                self.read += record.records
                self.losses.reject(record)
        self.bytes += reading.bytes
        self.skipped.update(reading.skipped)
        self.inputs[file.origin] = reading.content_hash

    def _filter(self, document: Document) -> None:
        self.read += 1
        self.text_bytes += len(document.text.encode("utf-8", "surrogatepass"))
        metadata = dict(document.metadata)
        text, reason = apply_all(self.filters, document.text, metadata)
        if reason is None:
            self._keep(document, text, metadata)
        else:
            self.losses.drop(reason, document, text, metadata)

    def _keep(self, document: Document, text: str, metadata: dict[str, str]) -> None:
        data = text.encode("utf-8")
        hash_ = xxhash.xxh3_128_intdigest(data, seed=self.task.seed)
        split = self.task.shares.split_of(hash_)
        node = upper_half(document_id(document.source, document.origin, document.position))
        packed = orjson.dumps(metadata) if metadata else b""
        self.documents.add(split, hash_, document.origin, document.position, data, packed)
        self.bands.add(node, text)
        self.rows.add(upper_half(hash_), lower_half(hash_), node, len(data), split)
        self.kept += 1
