"""What reading tasks leave, written by hand: documents with hashes of one's choice, and their rows."""

import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from hypothesis import strategies as st
from rich.console import Console

from data_prep.documents.document import document_id, lower_half, upper_half
from data_prep.documents.frames import StoredDocument
from data_prep.documents.rows import RowWriter
from data_prep.documents.runs import DocumentWriter
from data_prep.executors.local import LocalProcesses
from data_prep.tasks.runner import Runner
from data_prep.tasks.task import Task

UPPER_MAX = 2**64 - 1


class Given(NamedTuple):
    """A document with its split."""

    split: int
    hash: int
    origin: str
    position: int
    text: bytes
    metadata: bytes = b""

    @property
    def stored(self) -> StoredDocument:
        return StoredDocument(*self[1:])

    def node(self, source: str) -> int:
        return upper_half(document_id(source, self.origin, self.position))


def hashes(num_texts: int) -> st.SearchStrategy[int]:
    """Hashes that meet often, at the borders too: the upper halves are few, so are the lower ones."""
    uppers = st.sampled_from([0, 1, 2**32, 2**63, UPPER_MAX - 1, UPPER_MAX])
    lowers = st.integers(0, num_texts - 1).map(lambda number: number * (UPPER_MAX // max(1, num_texts - 1)))
    return st.builds(lambda upper, lower: upper << 64 | lower, uppers, lowers)


def write_reads(folder: Path, source: str, documents: Iterable[Given], run_bytes: int = 1000) -> Path:
    """What a reading task of a source leaves in its folder."""
    folder.mkdir(parents=True)
    with DocumentWriter(folder, run_bytes) as writer, RowWriter(folder) as rows:
        for document in documents:
            writer.add(*document)
            halves = upper_half(document.hash), lower_half(document.hash)
            rows.add(*halves, document.node(source), len(document.text), document.split)
    return folder


@dataclass(frozen=True)
class ReadByHand(Task):
    """A reading task that has its documents already."""

    phase: ClassVar[str] = "read"
    result_type: ClassVar[Any] = int

    source: str
    label: str
    documents: tuple[Given, ...] = field(compare=False)

    def run(self, work: Path, folder: Path) -> int:
        folder.rmdir()
        write_reads(folder, self.source, self.documents)
        return len(self.documents)


def runner_for(work: Path) -> Runner:
    """Runs tasks in this process, silently."""
    return Runner(work, LocalProcesses(1), Console(file=io.StringIO()))


def counts(runner: Runner) -> dict[str, tuple[int, int]]:
    """Tasks of each phase, and how many of them had to run."""
    return {phase: (len(folders), len(runner.ran[phase])) for phase, folders in runner.tasks.items()}
