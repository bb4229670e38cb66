"""A run whose folder another job took over ends, and writes nothing more into it."""

from pipeline.engine.process_group import known_everywhere
from pipeline.errors import LockLostError
from pipeline.runtime.lock import RunLock
from pipeline.train.loop import StepInfo
from pipeline.train.pulse import Pulse


class LostLock:
    """Learns after each step whether rank 0 still holds the run's lock. It comes before all that writes."""

    def __init__(self, pulse: Pulse, lock: RunLock | None) -> None:
        """Set up; `lock` is rank 0's."""
        self._is_lost = pulse.ask_main(lambda info: lock is not None and lock.lost)

    def __call__(self, info: StepInfo) -> None:
        """End the run if the lock is lost. Raises LockLostError on all ranks."""
        if self._is_lost:
            raise known_everywhere(LockLostError(
                f"another job took over the run folder at step {info.step}, while this one was not answering; let one"
                " of them go on"
            ))  # fmt: skip
