"""The shards of a source that stay open: those that were used last."""

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from threading import Lock

from pipeline.corpus.reader import ShardReader
from pipeline.corpus.remote.room import mark_used

_MOST_HERE = 64
_MOST_COPIES = 2
"""An order has one shard open, and at its end the next one; a cache cannot give room back that others take."""


class OpenShards:
    """Readers of a source's shards, by number.

    A shard that a cache has let go takes room on the disk as long as it is mapped, which the cache's bound does not
    see. So of a corpus that is elsewhere few stay open, each use is told to the cache, which lets others go first, and
    of those that it has let go all are closed but the one in use.
    """

    def __init__(self, open_shard: Callable[[int], ShardReader], are_copies: bool) -> None:
        """Keep what is opened; copies in a cache are given back."""
        self._open, self._are_copies = open_shard, are_copies
        self._most = _MOST_COPIES if are_copies else _MOST_HERE
        self._readers = OrderedDict[int, ShardReader]()  # the least recently used first
        self._lock = Lock()

    def __call__(self, shard: int) -> ShardReader:
        """A shard's reader. Raises CorpusError if it cannot be opened."""
        with self._lock:
            reader = self._readers.get(shard)
        if reader is None:
            reader = self._open(shard)  # may take minutes, so that others do not wait for it
        with self._lock:
            self._readers[shard] = reader
            self._readers.move_to_end(shard)
            self._tidy(reader)
        return reader

    def close(self, shard: int) -> None:
        """Forget a shard's reader."""
        with self._lock:
            self._readers.pop(shard, None)

    def _tidy(self, used: ShardReader) -> None:
        if len(self._readers) > self._most:
            self._readers.popitem(last=False)
        if self._are_copies:
            with suppress(FileNotFoundError):  # let go, and still mapped
                mark_used(used.path)
            for shard in [shard for shard, one in self._readers.items() if one is not used and not one.path.exists()]:
                del self._readers[shard]
