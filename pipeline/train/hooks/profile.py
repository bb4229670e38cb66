"""A trace of some steps, by torch.profiler."""

from pathlib import Path

import torch
from torch.profiler import ProfilerAction, ProfilerActivity, profile

from pipeline.config.measuring import Profile
from pipeline.runtime.logs import get_logger
from pipeline.train.loop import StepInfo

_log = get_logger("profile")


class ProfileHook:
    """Records the settings' steps on this rank and writes `profile/step-N-rank-R.json.gz`; no collective.

    The file is a Chrome trace, read by https://ui.perfetto.dev and by TensorBoard. A run that is resumed within
    these steps writes none. Steps are slower while they are recorded, and the last one's hooks take some seconds.
    """

    def __init__(self, folder: Path, settings: Profile, rank: int, step: int) -> None:
        """Begin at once if the next step is the first one.

        Args:
            folder: The run folder.
            settings: Which steps.
            rank: This rank.
            step: Steps made so far.
        """
        self._settings = settings
        self._profiler: profile | None = None
        self._path = folder / "profile" / f"step-{settings.first_step:08d}-rank-{rank:05d}.json.gz"
        self._begin(step)

    def __call__(self, info: StepInfo) -> None:
        """Go on, end or begin."""
        if self._profiler is None:
            self._begin(info.step)
        elif info.is_last or info.step == self._settings.first_step + self._settings.steps - 1:
            self._end(self._profiler)
        else:
            self._profiler.step()

    def _begin(self, step: int) -> None:
        if step == self._settings.first_step - 1:
            gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
            self._profiler = profile(
                activities=[ProfilerActivity.CPU, *gpu],
                schedule=lambda step: ProfilerAction.RECORD,  # one, for steps to be marked in the trace
                record_shapes=True,
            )
            self._profiler.start()

    def _end(self, profiler: profile) -> None:
        """Write the file; that it cannot be written is no reason to end a run."""
        self._profiler = None
        profiler.stop()
        partial = self._path.with_name(f"partial-{self._path.name}")
        try:
            self._path.parent.mkdir(exist_ok=True)
            profiler.export_chrome_trace(str(partial))
            partial.replace(self._path)
            _log.info("trace written: %s", self._path)
        except OSError as error:
            _log.warning("no trace was written: %s", error)
