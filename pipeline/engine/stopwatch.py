"""How long parts of a step take on the device, measured without waiting for it."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Literal, get_args

import torch

Part = Literal["forward", "backward", "communication", "optimizer"]
PARTS: tuple[Part, ...] = get_args(Part)
"""What is measured of a step: docs/metrics.md says what is in each. Communication is a part of backward."""


class Stopwatch:
    """Adds up the parts of one step; on a GPU by events in its stream."""

    def __init__(self, device: torch.device) -> None:
        """Nothing is measured yet."""
        self._is_gpu = device.type == "cuda"
        self._seconds: defaultdict[Part, float] = defaultdict(float)
        self._events: defaultdict[Part, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = defaultdict(list)

    @contextmanager
    def running(self, part: Part) -> Iterator[None]:
        """Measure what is inside."""
        if not self._is_gpu:
            start = time.perf_counter()
            yield
            self._seconds[part] += time.perf_counter() - start
            return
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        yield
        end.record()
        self._events[part].append((begin, end))

    def seconds(self, part: Part) -> float:
        """All of a part. It waits for the last of it, which is over once a later result has been read."""
        if events := self._events[part]:
            events[-1][1].synchronize()
        return self._seconds[part] + sum(begin.elapsed_time(end) for begin, end in self._events[part]) / 1000


def measured(function: Callable[..., Any], part: Part, stopwatch: Callable[[], Stopwatch]) -> Callable[..., Any]:
    """The function, each call of which counts as a part of the step that a stopwatch is of."""

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        with stopwatch().running(part):
            return function(*arguments, **named)

    return call
