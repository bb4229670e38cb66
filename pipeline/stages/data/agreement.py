"""What ranks tell each other of their data before each step, so that all of them go on alike or end together."""

from pipeline.data.corpora import Corpora, LostTokensError
from pipeline.data.loader import Sequences
from pipeline.data.phases import DamagedChunk
from pipeline.engine.process_group import ProcessGroup, known_everywhere
from pipeline.errors import CorpusError, TarmacError

_Ends = dict[tuple[str, int], str]
"""Checksums of documents' ends, by source and shard."""


class DataAgreement:
    """Faults that ranks met, and what they read of documents' ends, which decide the order and have no checksum."""

    def __init__(self, source: Sequences, group: ProcessGroup, leaves_out: bool) -> None:
        """Set up; damaged chunks are faults unless they are to be left out."""
        self._source, self._group, self._leaves_out = source, group, leaves_out
        self._ends: _Ends = {}

    def lost(self, error: TarmacError | None) -> list[DamagedChunk]:
        """The chunks that any rank lost of this step, if all it met here is `error`.

        Ranks ask in the main thread between two steps, where collectives come in the same order on all of them; the
        loader, which is some steps ahead, keeps what it found until its step comes.

        Raises:
            TarmacError: On all ranks, what any of them met besides damaged chunks that are to be left out; and if they
                read other documents' ends, which one of them must have damaged.
        """
        ends = self._ends_read()
        if not self._group.max(error is not None or bool(ends)):
            return []
        told = self._group.gather((error, ends))
        for rank, (_, theirs) in enumerate(told):
            self._compare(rank, theirs)
        errors = [one for one, _ in told if one is not None]
        found = [one for one in errors if self._leaves_out and isinstance(one, LostTokensError)]
        if len(found) < len(errors):
            raise known_everywhere(next(one for one in errors if one not in found))
        return sorted({chunk for one in found for chunk in one.lost})

    def _ends_read(self) -> _Ends:
        """Of shards of which they were read since the last step."""
        found: _Ends = {}
        for name, source in self._source.shards.items() if isinstance(self._source, Corpora) else ():
            while source.ends_read:
                shard, checksum = source.ends_read.popleft()
                found[name, shard] = checksum
        return found

    def _compare(self, rank: int, ends: _Ends) -> None:
        for (name, shard), checksum in ends.items():
            if self._ends.setdefault((name, shard), checksum) != checksum:
                raise known_everywhere(CorpusError(
                    f"source {name}, shard {shard}: rank {rank} reads other ends of documents than ranks before it;"
                    " run `tarmac verify --repair` on each node's copy of the corpus"
                ))  # fmt: skip
