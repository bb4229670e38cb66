"""From the order of samples to one rank's batches, prepared in the background."""

import sys
from collections import deque
from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Protocol

import numpy as np
import torch

from pipeline.data.ahead import fetch_upcoming
from pipeline.data.batch import Batch, Rows
from pipeline.data.corpora import Corpora
from pipeline.data.cuts import Pieces, Positions, ShardCut, SourceShards
from pipeline.data.memory import BatchMemory
from pipeline.data.noise import PADDING, Noise
from pipeline.data.order import Order

NO_SAMPLE = -1
"""Number of a row that only fills up a micro batch."""


class Sequences(Protocol):
    """Where sequences come from: corpora, or conversations."""

    @property
    def shards(self) -> Mapping[str, SourceShards]:
        """The shards of each source."""

    def fingerprint(self, source: str, num_shards: int) -> str:
        """A sha256 over what the first so many shards of a source hold."""

    def fill(self, rows: Rows, which: Positions, at: ShardCut, pieces: Pieces, sequences: Positions) -> None:
        """Write some sequences of a shard, whose pieces are given, into the rows `which`."""


@dataclass(frozen=True)
class Share:
    """Which part of every global batch a rank takes: micro batch m of rank r begins at (m W + r) · micro size."""

    rank: int
    world_size: int
    micro_size: int

    def num_micro_batches(self, global_size: int) -> int:
        """Forward passes of each rank in a step; the last may be short or empty on some."""
        return -(-global_size // (self.micro_size * self.world_size))

    def rows(self, places: Positions) -> tuple[Positions, Positions]:
        """Which of some places of a global batch are this rank's, and its rows for them."""
        block, column = np.divmod(places, self.micro_size)
        number, rank = np.divmod(block, self.world_size)
        mine = np.flatnonzero(rank == self.rank)
        return mine, number[mine] * self.micro_size + column[mine]


class Loader:
    """One rank's batches of any step. Its state is the number of the next step and the order's phase table."""

    def __init__(
        self, source: Sequences, order: Order, share: Share, pad_id: int, ahead: int = 0, noise: Noise | None = None
    ) -> None:
        """Join sequences, their order, this rank's share of it and the noise of masked language modelling.

        Shards that are elsewhere come so many ahead.
        """
        self._source, self._order, self._share, self._ahead, self._noise = source, order, share, ahead, noise
        self._pad_id = PADDING if noise else pad_id
        self._memory = BatchMemory()
        self._numbers = {name: number for number, name in enumerate(source.shards)}

    def batch(self, step: int) -> Batch:
        """This rank's part of a step."""
        if isinstance(self._source, Corpora):
            fetch_upcoming(self._source, self._order, step, self._ahead)
        setting = self._order.phase(step).setting
        number = self._share.num_micro_batches(setting.global_batch) * self._share.micro_size
        parts, first = self._order.parts(step), self._order.first_sample(step)
        rows = Rows(
            number,
            setting.sequence_length,
            self._pad_id,
            has_pieces=any(part.at.earlier for part in parts),
            keeps_apart=setting.keeps_apart,
            make=self._memory.tensor,
        )
        rows.holes = setting.holes
        sources, numbers = np.full(number, -1), np.full(number, NO_SAMPLE)
        for part in parts:
            mine, which = self._share.rows(part.places)
            sources[which] = self._numbers[part.at.source]
            numbers[which] = first + part.places[mine]
            if len(mine):
                pieces = self._order.cuts.pieces(part.at)
                self._source.fill(rows, which, part.at, pieces, part.sequences[mine])
        rows.clear(sources < 0)
        if self._noise:
            self._noise.put_into(rows, numbers)
        return Batch(step, rows.micro_batches(self._share.micro_size), torch.from_numpy(sources))

    def batches(self, first_step: int, last_step: int | None = None, depth: int = 2) -> Generator[Batch, None, None]:
        """Batches of steps [first_step, last_step), or without end; up to `depth` are prepared ahead.

        An error comes out at the step that it belongs to. Whoever stops before the end closes the iterator, or drops
        it: what is being prepared is finished, the rest is not begun, and no thread is left.
        """
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader")
        upcoming: deque[Future[Batch]] = deque()
        try:
            for step in count(first_step) if last_step is None else range(first_step, last_step):
                upcoming.append(executor.submit(self.batch, step))
                if len(upcoming) > depth:
                    yield upcoming.popleft().result()
            while upcoming:
                yield upcoming.popleft().result()
        finally:
            if not sys.is_finalizing():  # then its thread was waited for, and what shutting down needs is gone
                executor.shutdown(wait=True, cancel_futures=True)
