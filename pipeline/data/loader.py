"""From the order of samples to one rank's batches, prepared in the background."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from pipeline.data import batch
from pipeline.data.batch import Batch, MicroBatch, stack
from pipeline.data.order import Order, Sample


class SequenceSource(Protocol):
    """Where sequences come from: windows over a corpus, or conversations."""

    sequence_length: int

    @property
    def shapes(self) -> dict[str, Sequence[int]]:
        """Per source, the number of sequences in each shard."""

    @property
    def fingerprints(self) -> dict[str, str]:
        """Per source, a sha256 over its content."""

    def fetch(self, name: str, shard: int, sequence: int) -> batch.Sequence:
        """One sequence."""


@dataclass(frozen=True)
class Share:
    """Which part of every global batch a rank takes."""

    rank: int
    world_size: int
    micro_size: int
    global_size: int

    @property
    def num_micro_batches(self) -> int:
        """Forward passes of each rank in one step."""
        return -(-self.global_size // (self.micro_size * self.world_size))

    def slices(self) -> list[slice]:
        """The places of the global batch in each of this rank's micro batches; some may be short or empty."""
        stride = self.micro_size * self.world_size
        firsts = [number * stride + self.rank * self.micro_size for number in range(self.num_micro_batches)]
        return [slice(first, min(first + self.micro_size, self.global_size)) for first in firsts]


class Loader:
    """One rank's batches from any step on. Its state is the number of the next step: nothing else is kept."""

    def __init__(self, source: SequenceSource, order: Order, share: Share, pad_id: int) -> None:
        """Join sequences, their order and this rank's share of it."""
        self._source, self._order, self._share, self._pad_id = source, order, share, pad_id

    def batch(self, step: int) -> Batch:
        """This rank's part of a step."""
        samples = self._order.batch(step)
        parts = [samples[part] for part in self._share.slices()]
        return Batch(step, tuple(self._micro_batch(part) for part in parts), tuple(s for part in parts for s in part))

    def _micro_batch(self, samples: list[Sample]) -> MicroBatch:
        sequences = [self._source.fetch(sample.source, sample.shard, sample.sequence) for sample in samples]
        return stack(sequences, self._share.micro_size, self._source.sequence_length, self._pad_id)

    def batches(self, first_step: int, last_step: int) -> Iterator[Batch]:
        """Batches of steps [first_step, last_step), each prepared while the one before is used."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader") as executor:
            upcoming = executor.submit(self.batch, first_step) if first_step < last_step else None
            for step in range(first_step, last_step):
                assert upcoming is not None
                ready = upcoming.result()
                upcoming = executor.submit(self.batch, step + 1) if step + 1 < last_step else None
                yield ready
