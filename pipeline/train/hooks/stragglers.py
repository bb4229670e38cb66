"""Ranks that are slow by themselves, not because they wait for others."""

import socket
import time
from pathlib import Path
from statistics import median

from pipeline.engine.memory import peak_memory_bytes
from pipeline.engine.process_group import ProcessGroup
from pipeline.runtime.logs import get_logger
from pipeline.runtime.records import Records
from pipeline.train.loop import StepInfo
from pipeline.train.tracking.tracker import Tracker

_log = get_logger("train")


class Stragglers:
    """Compares every so many steps what ranks spent by themselves: waiting for their data, and in forward passes.

    At ZeRO 3 a forward pass gathers weights and so waits for the others: there it says little. The first step of a
    session compiles and does not count.
    """

    def __init__(
        self, group: ProcessGroup, tracker: Tracker, every: int, ratio: float, folder: Path, tells_all: bool = False
    ) -> None:
        """Set up; all ranks call it.

        Args:
            group: The ranks.
            tracker: Where rows go; only rank 0's is used.
            every: Steps between comparisons.
            ratio: A rank that takes more than so many times the median of the others is named in the log.
            folder: The run folder; rank 0 appends what each rank spent to its `ranks.jsonl`.
            tells_all: Whether rows hold each rank's time and memory.
        """
        self._group, self._tracker, self._every, self._ratio = group, tracker, every, ratio
        self._tells_all = tells_all
        self._hosts = group.gather(socket.gethostname())
        self._rows = Records(folder / "ranks.jsonl", synced=False)
        self._seconds, self._steps = 0.0, 0
        self._is_first = True

    def __call__(self, info: StepInfo) -> None:
        """Add the step; compare when it is time."""
        if self._is_first:
            self._is_first = False
            return
        self._seconds += info.own_seconds
        self._steps += 1
        if info.step % self._every == 0 or info.is_last:
            self._compare(info.step)
            self._seconds, self._steps = 0.0, 0
        if info.is_last:
            self._rows.close()

    def _compare(self, step: int) -> None:
        if self._tells_all:
            self._tell_all(step)
        seconds = self._group.gather(self._seconds / self._steps)
        if not self._group.ranks.is_main or len(seconds) == 1:
            return
        rank, ratio = slowest(seconds)
        self._rows.append(
            {"time": round(time.time(), 3), "step": step, "own_seconds": [round(one, 6) for one in seconds]}
        )
        self._tracker.log(step, {"perf/slowest_rank": float(rank), "perf/slowest_rank_ratio": ratio})
        if ratio > self._ratio:
            _log.warning(
                "step %d: rank %d on host %s is slow: its own part of a step takes %.3f s, %.1f times others' median",
                step, rank, self._hosts[rank], seconds[rank], ratio,
            )  # fmt: skip

    def _tell_all(self, step: int) -> None:
        mine = {"own_seconds": self._seconds / self._steps}
        mine |= {f"{name}_bytes": float(used) for name, used in peak_memory_bytes().items()}
        found = self._group.gather(mine)
        row = {f"rank/{rank}/{name}": value for rank, one in enumerate(found) for name, value in one.items()}
        if self._group.ranks.is_main:
            self._tracker.log(step, row)


def slowest(seconds: list[float]) -> tuple[int, float]:
    """Of two ranks or more the one that takes longest, and how many times the median of the others."""
    rank = max(range(len(seconds)), key=seconds.__getitem__)
    return rank, seconds[rank] / median(seconds[:rank] + seconds[rank + 1 :])
