"""Band hashes of the documents of a reading task, computed in batches."""

from types import TracebackType

import numpy as np

from data_prep.documents.rows import RowWriter
from pipeline.config.prep.recipe import MinHash

_BATCH_CHARACTERS = 1 << 19
_BATCH_HASHES = 1 << 21
"""Of all signatures together; they take about 40 bytes each for a moment."""


class BandCollector:
    """Collects texts and hands their band hashes to the rows; does nothing without a config. A context manager."""

    def __init__(self, config: MinHash | None, rows: RowWriter) -> None:
        """Compute what `config` says."""
        self._config, self._rows = config, rows
        self._nodes: list[int] = []
        self._texts: list[str] = []
        self._characters = 0

    def add(self, node: int, text: str) -> None:
        """Add a document."""
        if self._config:
            self._nodes.append(node)
            self._texts.append(text)
            self._characters += len(text)
            num_hashes = len(self._texts) * self._config.bands * self._config.rows
            if self._characters > _BATCH_CHARACTERS or num_hashes > _BATCH_HASHES:
                self._flush()

    def _flush(self) -> None:
        if not self._config or not self._nodes:
            return
        from data_prep.dedup.minhash import band_hashes

        hashes, has_words = band_hashes(self._texts, self._config)
        self._rows.add_bands(np.array(self._nodes, dtype=np.uint64)[has_words], hashes[has_words])
        self._nodes.clear()
        self._texts.clear()
        self._characters = 0

    def __enter__(self) -> "BandCollector":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
