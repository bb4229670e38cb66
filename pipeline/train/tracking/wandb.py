"""Weights & Biases: one run per run folder over all restarts, offline when there is no key."""

import os
from pathlib import Path
from typing import Any

import wandb

from pipeline.config.run import Wandb
from pipeline.runtime.logs import get_logger
from pipeline.runtime.seeds import derive_seed
from pipeline.train.tracking.tracker import Metrics

_log = get_logger("wandb")


class WandbTracker:
    """Sends rows to W&B. Its failures are logged once and never stop training."""

    def __init__(self, folder: Path, settings: Wandb, config: dict[str, Any], last_step: int) -> None:
        """Start or go on with the run of this folder.

        Args:
            folder: The run folder; its id is made from `run_id` in it, so restarts share it.
            settings: Our settings.
            config: The whole resolved config.
            last_step: Steps up to here are known to W&B already; they are not sent again.
        """
        self._last_step = last_step
        self._run: Any = None
        mode = settings.mode
        if mode == "auto":
            mode = "online" if os.environ.get("WANDB_API_KEY") else "offline"
        try:
            self._run = wandb.init(
                project=settings.project,
                group=settings.group,
                tags=list(settings.tags),
                name=folder.name,
                id=run_id(folder),
                resume="allow",
                dir=str(folder),
                mode=mode,
                config=config,
                settings=wandb.Settings(console="off", silent=True, x_disable_stats=False),
            )
            self._run.define_metric("*", step_metric="step")
        except (wandb.Error, OSError) as error:
            _log.warning("W&B is off: %s", error)

    def log(self, step: int, metrics: Metrics) -> None:
        """Send a row, unless the step was sent before a restart."""
        if self._run is None or step <= self._last_step:
            return
        try:
            self._run.log({"step": step, **{key: value for key, value in metrics.items() if value is not None}})
        except (wandb.Error, OSError) as error:
            _log.warning("W&B is off from step %d: %s", step, error)
            self._run = None

    def finish(self, exit_code: int) -> None:
        """Close the run."""
        if self._run is None:
            return
        try:
            self._run.finish(exit_code=exit_code)
        except (wandb.Error, OSError) as error:
            _log.warning("W&B did not end in order: %s", error)


def run_id(folder: Path) -> str:
    """The id of a run folder, made once and kept in it: letters and digits only."""
    path = folder / "run_id"
    if not path.exists():
        path.write_text(f"{derive_seed(str(folder.resolve()), os.urandom(8).hex()):016x}")
    return path.read_text().strip()
