"""Ranks that tell each other what they measured, before any of them relies on a collective.

A node that is broken may never come, or may hang in a collective for which all others wait. So ranks leave their words
in a store of rank 0's, which knows after a while who did not come.
"""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from pipeline.runtime.ranks import Ranks

_POLL_SECONDS = 0.05
_LEAVING_SECONDS = 20.0


class Meeting:
    """A store that rank 0 keeps, at MASTER_ADDR and MASTER_PORT."""

    def __init__(self, ranks: Ranks, address: str, port: int, seconds: float) -> None:
        """Open it, or find it. Raises torch's DistNetworkError if rank 0 does not come.

        Args:
            ranks: Which process this is.
            address: Of rank 0.
            port: Of rank 0.
            seconds: How long anybody waits for anybody.
        """
        self.ranks, self.seconds = ranks, seconds
        self.store = dist.TCPStore(
            address, port, ranks.world_size, ranks.is_main, timedelta(seconds=seconds), wait_for_workers=False
        )
        self.store.set_timeout(timedelta(seconds=4 * seconds))  # rank 0 speaks when it has waited for others

    def put(self, what: str, value: Any) -> None:
        """Leave this rank's word about something, of what JSON knows."""
        self.store.set(f"{what}/{self.ranks.rank}", json.dumps(value))

    def collect(self, what: str, absent: Sequence[int] = (), seconds: float | None = None) -> list[Any]:
        """All ranks' words; None of those who said nothing in time. For rank 0.

        Args:
            what: What they are about.
            absent: Ranks that nobody waits for.
            seconds: How long to wait, if not as long as always.
        """
        end = time.monotonic() + (seconds or self.seconds)
        words: list[Any] = [None] * self.ranks.world_size
        missing = [rank for rank in range(len(words)) if rank not in absent]
        while missing:
            for rank in [rank for rank in missing if self.store.check([f"{what}/{rank}"])]:
                words[rank] = json.loads(self.store.get(f"{what}/{rank}"))
                missing.remove(rank)
            if time.monotonic() > end:
                break
            time.sleep(_POLL_SECONDS)
        return words

    def tell(self, what: str, value: Any) -> None:
        """Rank 0's word for all."""
        self.store.set(what, json.dumps(value))

    def hear(self, what: str) -> Any:
        """Rank 0's word. Raises torch's DistStoreError if it does not come."""
        return json.loads(self.store.get(what))

    def leave(self, absent: Sequence[int]) -> None:
        """Rank 0 stays until all have heard everything but those who are not there, or a while."""
        self.put("left", True)
        if self.ranks.is_main:
            with suppress(dist.DistError):
                self.collect("left", absent, _LEAVING_SECONDS)


def host_of(rank: int, world_size: int, hosts: Sequence[str]) -> str:
    """The node of a rank that never came, where each node has as many ranks in a row."""
    return hosts[rank * len(hosts) // world_size] if hosts else f"the node of rank {rank}"
