"""Shards on this machine that belong to corpora elsewhere: fetched whole, verified, shared by all its processes."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpus.index import build_index, index_path, write_index
from pipeline.corpus.manifest import ShardEntry
from pipeline.corpus.remote.locks import locked
from pipeline.corpus.remote.patience import DamagedBodyError
from pipeline.corpus.remote.prefetch import Prefetcher
from pipeline.corpus.remote.room import held_files, mark_used, partial_path
from pipeline.corpus.remote.store import Store
from pipeline.errors import CorpusError
from pipeline.runtime.files import sync_file
from pipeline.runtime.logs import get_logger

_log = get_logger("corpus")
_DIGITS = 16
"""Of a checksum in a file's name."""


@dataclass(frozen=True)
class RemoteShard:
    """A shard, where it is and where it goes."""

    store: Store
    folder: str
    """Its folder in the corpus, and in the cache."""
    entry: ShardEntry

    @property
    def name(self) -> str:
        """Its path in the corpus."""
        return f"{self.folder}/{self.entry.name}"

    @property
    def place(self) -> str:
        """Its path in the cache."""
        return f"{self.folder}/{Path(self.entry.name).stem}.{self.entry.sha256[:_DIGITS]}.tar"


class Cache:
    """A folder with as many of the last used shards as its bound allows."""

    def __init__(self, folder: Path, max_bytes: int, downloads: int) -> None:
        """Use a folder, which is made if missing.

        Args:
            folder: On a disk of this machine.
            max_bytes: Bound of the shards in it, together with those that are on their way.
            downloads: How many shards this process fetches at a time before they are needed.

        Raises:
            CorpusError: The folder cannot be made, or belongs to somebody else.
        """
        self.folder, self._max_bytes = folder, max_bytes
        try:
            (folder / "locks").mkdir(parents=True, exist_ok=True, mode=0o700)
            owner = folder.stat().st_uid
        except OSError as error:
            raise CorpusError(
                f"data.cache.folder ({folder}) cannot be made ({error.strerror}); give another"
            ) from error
        if owner != os.getuid():  # their files would be taken for verified
            raise CorpusError(f"data.cache.folder ({folder}) belongs to another user; give one of yours")
        self._all = folder / "locks" / "all"
        self._prefetcher = Prefetcher(self._fetch_ahead, downloads)

    @contextmanager
    def shard(self, shard: RemoteShard) -> Iterator[Path]:
        """A shard's file, fetched if it is not there. While the block runs it stays; what is mapped may go later.

        Raises:
            CorpusError: It cannot be fetched, has other bytes than the manifest says, or is larger than the bound.
        """
        path = self.folder / shard.place
        with locked(self.lock_path(path)):
            if not self.has(shard):
                self._download(shard, path, frozenset())
            mark_used(path)
            yield path

    def mend(self, shard: RemoteShard) -> None:
        """Fetch a shard again if what is there is not what arrived: a disk lost some of it. Its index is made anew.

        Raises:
            CorpusError: It cannot be fetched.
        """
        path = self.folder / shard.place
        with locked(self.lock_path(path)):
            if not self.has(shard):
                return  # it is fetched when it is opened
            if _is_whole(path, shard.entry):  # another process was here before, or the index was damaged
                write_index(index_path(path), build_index(path))
                return
            _log.warning("%s: its copy here is damaged (%s); it is fetched again", shard.store.shown(shard.name), path)
            self._download(shard, path, frozenset())

    def has(self, shard: RemoteShard) -> bool:
        """Whether a shard is there."""
        try:
            return (self.folder / shard.place).stat().st_size == shard.entry.bytes
        except FileNotFoundError:
            return False

    def prefetch(self, shards: Sequence[RemoteShard]) -> None:
        """Fetch shards in the background, the first ones first, as far as there is room besides these.

        What was asked for before and is not begun is forgotten. A failure is logged; it is an error once the shard
        is needed.
        """
        self._prefetcher.want([shard for shard in shards if not self.has(shard)], {shard.place for shard in shards})

    def _fetch_ahead(self, shard: RemoteShard, kept: frozenset[str]) -> None:
        path = self.folder / shard.place
        with locked(self.lock_path(path)):
            if not self.has(shard):
                self._download(shard, path, kept)

    def _download(self, shard: RemoteShard, path: Path, kept: frozenset[str]) -> None:
        """Bring a shard, whose lock is held, to its path; if some are to be kept, only where these leave room."""
        partial = partial_path(path, shard.entry.bytes)
        path.unlink(missing_ok=True)  # if it has another size
        if not self._reserve(shard, partial, kept):
            return
        try:
            shard.store.patience.result(shard.store.shown(shard.name), lambda: _arrive(shard, partial))
            write_index(index_path(path), build_index(partial))
            with locked(self._all):  # who counts at this moment would see neither name
                os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    def _reserve(self, shard: RemoteShard, partial: Path, kept: frozenset[str]) -> bool:
        """Make room for a shard and take it by a file; wait for others' downloads unless some shards are to be kept."""
        if shard.entry.bytes > self._max_bytes:
            raise CorpusError(
                f"shard {shard.store.shown(shard.name)} has {shard.entry.bytes} bytes, data.cache.max_bytes is"
                f" {self._max_bytes}; raise it"
            )
        partial.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with locked(self._all):
                partial.unlink(missing_ok=True)  # of a process that was killed: the lock is ours
                in_the_way = self._make_room(shard.entry.bytes, kept)
                if not in_the_way:
                    partial.touch()
                    return True
            if kept:
                return False
            with locked(self.lock_path(in_the_way[0])):
                pass

    def _make_room(self, num_bytes: int, kept: frozenset[str]) -> list[Path]:
        """Let the least recently used shards go until so many bytes fit; if they do not, what is in the way.

        What is left of a download that was killed is nobody's, and goes as well.
        """
        files, in_the_way = held_files(self.folder), list[Path]()
        excess = sum(file.bytes for file in files) + num_bytes - self._max_bytes
        for file in files:
            if excess > 0 and not self._remove(file.path, kept):
                in_the_way.append(file.path)
            elif excess > 0:
                excess -= file.bytes
        return in_the_way if excess > 0 else []

    def _remove(self, path: Path, kept: frozenset[str]) -> bool:
        """Remove a shard that is neither kept nor locked: being fetched, or being mapped just now."""
        if str(path.relative_to(self.folder)) in kept:
            return False
        with locked(self.lock_path(path), wait=False) as is_ours:
            if is_ours:
                path.unlink(missing_ok=True)
                index_path(path).unlink(missing_ok=True)
        return is_ours

    def lock_path(self, path: Path) -> Path:
        """The lock of a shard or of what is to become it."""
        name = "~".join(path.relative_to(self.folder).parts)
        return self.folder / "locks" / (name.partition(".tar")[0] + ".lock")


def _arrive(shard: RemoteShard, partial: Path) -> None:
    """Download a shard and compare its checksum."""
    shard.store.download(shard.name, partial, shard.entry.bytes)
    if not _is_whole(partial, shard.entry):
        raise DamagedBodyError("other bytes arrived than the manifest says")
    sync_file(partial)


def _is_whole(path: Path, entry: ShardEntry) -> bool:
    """Whether a file has the bytes that the manifest promises."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
