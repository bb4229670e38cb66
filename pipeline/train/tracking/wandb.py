"""Weights & Biases: one run per run folder over all restarts, offline when there is no key or no answer."""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.config.measuring import Wandb
from pipeline.corpus.remote.urls import shown
from pipeline.runtime.files import write_text
from pipeline.runtime.logs import get_logger
from pipeline.runtime.seeds import derive_seed
from pipeline.train.tracking.tracker import Metrics

_log = get_logger("wandb")

NO_SESSION, UNSENT = 3, 4
"""Exit statuses of the relay: W&B could not be reached at the start; at the end it did not take everything in time."""

FINISH_SECONDS = 30.0
"""How long W&B may hold up the end of a run."""

_TRIES = {"online": ("online", "online", "offline"), "offline": ("offline", "offline")}
_ENVIRONMENT = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_", "TMPDIR", "TZ", "PYTHON", "LD_LIBRARY_PATH", "XDG_", "NETRC",
    "WANDB_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_", "REQUESTS_CA_BUNDLE",
    "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID",
)  # fmt: skip
"""Beginnings of the names of the variables that the relay sees: W&B notes SLURM's, and one of those is a password."""


class WandbTracker:
    """Has rows sent to W&B by a process of its own, which reads them from `metrics.jsonl`. Training never waits for it.

    When that process fails it is started again, at last offline, and a last time when the run ends. Rows that W&B did
    not get are handed over by the next one, be it in a later session of the run.
    """

    def __init__(self, folder: Path, settings: Wandb, config: dict[str, Any]) -> None:
        """Start or go on with the run of this folder.

        Args:
            folder: The run folder; its id is made from `run_id` in it, so restarts share it.
            settings: Our settings.
            config: The whole resolved config.
        """
        mode = settings.mode
        if mode == "auto":
            mode = "online" if os.environ.get("WANDB_API_KEY") else "offline"
        self._folder = folder.resolve()
        self._tries = list(_TRIES[mode])
        self._run = {
            "entity": settings.entity, "project": settings.project, "group": settings.group, "tags": settings.tags,
            "job_type": settings.job_type or config["stage"], "notes": settings.notes,
            "name": settings.name or folder.name, "config": config,
        }  # fmt: skip
        self._order = {"folder": str(self._folder), "pid": os.getpid()}
        self._relay: _Relay | None = None
        self._start()

    def begin(self, step: int) -> None:
        """Nothing to do: the other process reads the journal."""

    def log(self, step: int, metrics: Metrics) -> None:
        """Only see whether the rows are still fetched; they are in `metrics.jsonl`, or soon will be."""
        if self._relay is not None and self._relay.has_ended():
            self._start_again(self._relay)

    def finish(self, exit_code: int) -> None:
        """Have the last rows sent, and wait for that, up to `FINISH_SECONDS`."""
        end = time.monotonic() + FINISH_SECONDS
        if self._relay is None:  # off since long ago: what was in the way may be gone
            self._tries = ["offline"]
            self._start()
        while self._relay is not None:
            relay, self._relay = self._relay, None
            status = relay.finish(exit_code, end - time.monotonic())
            if status is None:
                self._turn_off(f"it had not ended after {FINISH_SECONDS:.0f} s")
            elif status == UNSENT:
                _log.warning("W&B: %s", relay.last_words())
            elif status:
                self._start_again(relay)

    def _start(self) -> None:
        mode = self._tries.pop(0)
        try:
            order = {**self._order, "run": {**self._run, "id": run_id(self._folder), "mode": mode}}
            self._relay = _Relay(mode, order)
        except OSError as error:
            self._turn_off(str(error))

    def _start_again(self, ended: "_Relay") -> None:
        if ended.status == NO_SESSION:
            self._tries = [mode for mode in self._tries if mode != ended.mode]
        if not self._tries:
            self._turn_off(ended.last_words())
            return
        if self._tries[0] == ended.mode:
            _log.warning("W&B failed (%s) and is started again; it gets all rows", ended.last_words())
        else:
            _log.warning("W&B is offline (%s): rows wait in %s; send them later with `tarmac sync %s`",
                         ended.last_words(), self._folder / "wandb", self._folder)  # fmt: skip
        self._start()

    def _turn_off(self, reason: str) -> None:
        _log.warning(
            "W&B is off (%s); metrics.jsonl has all rows, and the next start of the run hands them over", reason
        )
        self._relay = None


class _Relay:
    """The process that hands rows over."""

    def __init__(self, mode: str, order: dict[str, Any]) -> None:
        """Start it. Raises OSError."""
        self.mode = mode
        self._said: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process may write
        with tempfile.TemporaryFile("w+") as file:  # not through the pipe: a long one would wait for its reader
            json.dump(order, file)
            file.seek(0)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.train.tracking.relay", str(file.fileno())], pass_fds=[file.fileno()],
                env={name: value for name, value in os.environ.items() if name.upper().startswith(_ENVIRONMENT)},
                stdin=subprocess.PIPE, stdout=self._said, stderr=self._said, bufsize=0, start_new_session=True,
            )  # fmt: skip

    @property
    def status(self) -> int | None:
        """Its exit status, if it has ended."""
        return self._process.returncode

    def has_ended(self) -> bool:
        """Whether there is nobody any more to hand rows over."""
        return self._process.poll() is not None

    def finish(self, exit_code: int, seconds: float) -> int | None:
        """Say that training ended; the process's exit status, or None after it had to be killed."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended: its status says why
            self._process.stdin.write(f"{exit_code}\n".encode())
        self._process.stdin.close()
        try:
            return self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return None

    def last_words(self) -> str:
        """The last line it wrote, or how it ended."""
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return shown(lines[-1]) if lines else f"exit status {self.status}"


def run_id(folder: Path) -> str:
    """The id of a run folder, made once and kept in it: letters and digits only. Raises OSError."""
    path = folder / "run_id"
    if not path.exists():
        write_text(path, f"{derive_seed(str(folder.resolve()), os.urandom(8).hex()):016x}")
    return path.read_text().strip()
