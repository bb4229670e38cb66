"""Background threads that fetch what will be needed next."""

import threading
from collections.abc import Callable, Collection, Sequence
from typing import Generic, Protocol, TypeVar

from pipeline.errors import TarmacError
from pipeline.runtime.logs import get_logger

_log = get_logger("corpus")


class Wanted(Protocol):
    """Something to fetch, known by its place."""

    @property
    def place(self) -> str:
        """Its path in the cache."""


Item = TypeVar("Item", bound=Wanted)


class Prefetcher(Generic[Item]):
    """A few threads and a list of what is wanted."""

    def __init__(self, fetch: Callable[[Item, frozenset[str]], None], threads: int) -> None:
        """Fetch by `fetch`, which is told the places that must not go for it. Threads start when they are needed."""
        self._fetch, self._threads = fetch, threads
        self._wanted: list[Item] = []
        self._kept: frozenset[str] = frozenset()
        self._begun: set[str] = set()  # under way
        self._failed: set[str] = set()  # not again: once it is needed, it is an error
        self._running: list[threading.Thread] = []
        self._change = threading.Condition()

    def want(self, items: Sequence[Item], kept: Collection[str]) -> None:
        """Replace the list."""
        with self._change:
            self._wanted = [one for one in items if one.place not in self._failed | self._begun]
            self._kept = frozenset(kept)
            missing = min(self._threads, len(self._wanted) + len(self._begun)) - len(self._running)
            for _ in range(missing):
                # a daemon, so that a run that ends does not wait for what it no longer needs
                thread = threading.Thread(target=self._work, name="prefetch", daemon=True)
                self._running.append(thread)
                thread.start()
            self._change.notify_all()

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._wanted)
                item, kept = self._wanted.pop(0), self._kept
                self._begun.add(item.place)
            try:
                self._fetch(item, kept)
            except (TarmacError, OSError) as error:
                _log.warning("prefetch: %s", error)
                self._failed.add(item.place)
            finally:
                with self._change:
                    self._begun.discard(item.place)
