"""How long parts of a step take on the device, measured without waiting for it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Adds up the parts of one step; on a GPU by events in its stream."""

    def __init__(self, device: torch.device) -> None:
        """Nothing is measured yet."""
        self._is_gpu = device.type == "cuda"
        self._seconds = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure what is inside."""
        if not self._is_gpu:
            start = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - start
            return
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        yield
        end.record()
        self._events.append((begin, end))

    def seconds(self) -> float:
        """The sum of all parts. It waits for the last of them, which is over once a later result has been read."""
        if self._events:
            self._events[-1][1].synchronize()
        return self._seconds + sum(begin.elapsed_time(end) for begin, end in self._events) / 1000
