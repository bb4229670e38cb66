"""The relay: a process of its own that hands what a run's files say over to Weights & Biases.

W&B may hang, raise what it likes or crash. Here nothing of that reaches training, which starts this process and reads
its exit status; and what training is killed with does not reach W&B, which would lose the rows it holds in memory.
Each of its calls is bounded by SIGALRM, that ends this process whatever the call waits for.
"""

import fcntl
import json
import os
import select
import signal
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import psutil
import wandb

from pipeline.train.tracking.handover import Handover
from pipeline.train.tracking.wandb import FINISH_SECONDS, NO_SESSION, UNSENT

_INIT_SECONDS = 15
_UPLOAD_SECONDS = 20
_HANG_SECONDS = 60
_POLL_SECONDS = 1.0
_SUMMARIES = {"train/loss*": "min,last", "validation/*": "min,last", "perf/tokens_per_second": "max,last",
              "perf/mfu": "max,last"}  # fmt: skip
"""What W&B's table of runs shows of figures besides the last one."""
_TRAINING = 0
"""Standard input, where training says at its end with which status."""


def main() -> NoReturn:
    """Hand rows over until training ends or is gone."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):  # meant for training, which ends when it is ready
        signal.signal(number, signal.SIG_IGN)
    order = json.loads(os.read(int(sys.argv[1]), os.fstat(int(sys.argv[1])).st_size))
    folder = Path(order["folder"])
    _wait_for_others(folder)
    run = _session(order)
    _relay(run, Handover(run, folder, order["run"]["config"]), order["pid"])


def _end(status: int, last_words: str = "") -> NoReturn:
    """End this process at once; the usual way out waits for W&B, and for its telemetry."""
    print(last_words, file=sys.stderr, flush=True)
    os._exit(status)


def _in_words(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _wait_for_others(folder: Path) -> None:
    """Wait for the relay of a killed session: W&B mixes up what two of one run send."""
    (folder / "wandb").mkdir(exist_ok=True)
    descriptor = os.open(folder / "wandb" / "relay.lock", os.O_RDWR | os.O_CREAT, 0o666)
    signal.alarm(_HANG_SECONDS)
    with suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # until this process ends


def _session(order: dict[str, Any]) -> Any:
    """The W&B run. Ends this process if there is none in time."""
    signal.alarm(_INIT_SECONDS + 10)
    settings = wandb.Settings(
        console="off", silent=True, x_stats_pid=order["pid"], init_timeout=_INIT_SECONDS,
        finish_timeout=_UPLOAD_SECONDS, finish_timeout_raises=True,
        git_remote="none",  # its URL may hold a token
    )  # fmt: skip
    os.environ.setdefault("WANDB_DATA_DIR", f"{order['folder']}/wandb/data")  # tables until they are sent
    try:
        words = {**order["run"], "config": {**order["run"]["config"], "environment": _environment(order["folder"])}}
        run = wandb.init(**words, dir=order["folder"], resume="allow", settings=settings)
    except (wandb.Error, OSError) as error:
        _end(NO_SESSION, _in_words(error))
    run._public_api = _Unasked  # W&B asks it of each artifact, and waits for the answer
    for names, summary in {"*": None, **_SUMMARIES}.items():
        run.define_metric(names, step_metric="step", summary=summary)
    return run


class _Unasked:
    """In place of W&B's view of its server: nothing is known there of an artifact, and nobody waits for one."""

    settings: ClassVar = {"entity": None, "project": None}

    @staticmethod
    def _expected_artifact_type(**of: Any) -> None:
        """Any type will do."""

    @staticmethod
    def _set_artifact_save_handle(*of: Any) -> None:
        """That it arrived is known to W&B's own process."""


def _environment(folder: str) -> Any:
    """What the run is made by: versions, commit, devices."""
    with suppress(OSError, ValueError):
        return json.loads(Path(folder, "environment.json").read_bytes())
    return None


def _relay(run: Any, handover: Handover, trainer: int) -> NoReturn:
    exit_code = None
    while exit_code is None:
        signal.alarm(_HANG_SECONDS)
        exit_code = _exit_code(trainer)
        handover.go_on()
        with suppress(OSError):  # no room: some rows will be handed over twice
            handover.remember()
    handover.take_leave()
    signal.alarm(int(FINISH_SECONDS) - 2)
    _finish(run, handover, exit_code)


def _exit_code(trainer: int) -> int | None:
    """The exit status of training, which it says at its end; 1 if it is gone without a word, None if it goes on."""
    if select.select([_TRAINING], [], [], _POLL_SECONDS)[0]:
        said = os.read(_TRAINING, 16)
        return int(said) if said else 1
    return None if os.getppid() == trainer else 1


def _finish(run: Any, handover: Handover, exit_code: int) -> NoReturn:
    sent: list[bool] = []
    thread = threading.Thread(target=lambda: sent.append(_is_sent(run, exit_code)), daemon=True)
    thread.start()
    thread.join(_UPLOAD_SECONDS + 5)
    if not sent:  # it waits for artifacts that nobody takes; its file has all by now
        for process in psutil.Process().children(recursive=True):
            process.kill()
    with suppress(OSError):
        handover.close()
    if not any(sent):
        _end(UNSENT, f"not all was sent within {_UPLOAD_SECONDS} s; send it with `tarmac sync {handover.folder}`")
    if not run.offline:
        for path in Path(run.dir).parent.glob("*.wandb"):  # as `wandb sync` marks it
            path.with_suffix(".wandb.synced").touch()
    _end(0)


def _is_sent(run: Any, exit_code: int) -> bool:
    """End W&B's run, and close its file; whether the server took everything in time."""
    try:
        run.finish(exit_code=exit_code)
    except TimeoutError:
        return False
    finally:
        wandb.teardown()
    return True


if __name__ == "__main__":
    try:
        main()
    except BaseException as error:
        traceback.print_exc()
        _end(1, _in_words(error))
