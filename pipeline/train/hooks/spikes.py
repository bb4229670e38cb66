"""Watching for spikes of the loss: rank 0 judges, and the pulse tells all ranks, which then go back together."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from pipeline.config.faults import Spikes
from pipeline.engine.process_group import ProcessGroup
from pipeline.runtime.journal import Journal
from pipeline.runtime.logs import get_logger
from pipeline.train.loop import StepInfo
from pipeline.train.pulse import Pulse
from pipeline.train.spikes import SpikeDetector, Verdict

_log = get_logger("spikes")


class GoBack(Exception):
    """Not an error: the run goes back to before a spike, on all ranks after the same step."""

    def __init__(self, step: int, first_step: int) -> None:
        """After `step` steps; outliers began with the loss of step `first_step`."""
        super().__init__(step, first_step)
        self.step, self.first_step = step, first_step


@dataclass(frozen=True)
class _Seen:
    """What is left of a step until it is judged: a step later, so that nothing waits for the device."""

    step: int
    loss_sum: torch.Tensor
    num_tokens: torch.Tensor
    skipped: bool


class SpikeHook:
    """Judges the loss of each step one step later, and raises GoBack another one later."""

    def __init__(
        self,
        group: ProcessGroup,
        pulse: Pulse,
        settings: Spikes,
        journal: Journal,
        *,
        state: dict[str, Any] | None,
        begins_anew: Callable[[int], bool],
        can_go_back: Callable[[int], bool],
    ) -> None:
        """Set up.

        Args:
            group: The ranks.
            pulse: By which losses are summed, and the verdict is told.
            settings: What a spike is, and what is done.
            journal: Where rank 0 notes it.
            state: What `state` returned when the checkpoint was made that the run goes on from.
            begins_anew: Whether other data begin with a step, so that its loss cannot be compared with those before.
            can_go_back: Whether there is a checkpoint to go back to, given the first step of the outliers; rank 0 is
                asked, and says why if not.
        """
        self._group, self._settings, self._journal = group, settings, journal
        self._begins_anew, self._can_go_back = begins_anew, can_go_back
        self._detector = SpikeDetector(settings, **state["detector"]) if state else SpikeDetector(settings)
        decided = state["decided"] if state and settings.action == "rollback" and group.ranks.is_main else 0
        self._decided: int = decided if decided and can_go_back(decided) else 0  # its reasons may be gone
        self._seen: _Seen | None = None
        self._loss = pulse.ask(self._last_loss)
        self._back = pulse.ask_main(lambda info: self._decided)

    def _last_loss(self, info: StepInfo) -> float:
        """This rank's share of the loss of the step before; its update was made, so it is finite."""
        seen = self._seen
        return 0.0 if seen is None or seen.skipped else float(seen.loss_sum)

    def __call__(self, info: StepInfo) -> None:
        """Judge the step before, and keep this one.

        Raises:
            GoBack: On all ranks, if rank 0 decided so.
        """
        if first_step := int(self._back.total):
            raise GoBack(info.step, first_step)
        self._judge(self._loss.total)
        self._seen = _Seen(info.step, info.loss_sum, info.num_tokens, info.skipped)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that a resumed run decides as this one would; all ranks call it."""
        share = 0.0 if self._seen is None or self._seen.skipped else float(self._seen.loss_sum)
        self._judge(float(self._group.sum(torch.tensor([share], dtype=torch.float64))))
        return {"detector": self._detector.state(), "decided": self._decided}

    def _judge(self, loss_sum: float) -> None:
        seen, self._seen = self._seen, None
        if seen is None or not self._group.ranks.is_main:
            return
        if self._begins_anew(seen.step):
            self._detector.restart()
        verdict = self._detector.see(seen.step, None if seen.skipped else loss_sum / max(1, int(seen.num_tokens)))
        if verdict is not None:
            self._tell(verdict)

    def _tell(self, verdict: Verdict) -> None:
        _log.warning("step %d: the loss is %.1f robust deviations above the median %.4f, %d in a row",
                     verdict.step, verdict.z, verdict.median, verdict.streak)  # fmt: skip
        if not verdict.is_spike:
            return
        self._journal.note("spike", **asdict(verdict))
        if self._settings.action == "rollback" and self._can_go_back(verdict.first_step):
            self._decided = verdict.first_step
