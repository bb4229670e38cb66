"""The relay: a process of its own that hands the rows of `metrics.jsonl` over to Weights & Biases.

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
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import wandb

from pipeline.train.tracking.following import Following
from pipeline.train.tracking.wandb import FINISH_SECONDS, NO_SESSION, UNSENT

_INIT_SECONDS = 15
_UPLOAD_SECONDS = 20
_HANG_SECONDS = 60
_POLL_SECONDS = 1.0
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
    _relay(run, Following(folder, lambda: _written_bytes(run)), order["pid"])


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
    try:
        run = wandb.init(**order["run"], dir=order["folder"], resume="allow", settings=settings)
    except (wandb.Error, OSError) as error:
        _end(NO_SESSION, _in_words(error))
    run.define_metric("*", step_metric="step")
    return run


def _written_bytes(run: Any) -> int:
    """Length of the file that W&B keeps all rows in, online too."""
    return sum(path.stat().st_size for path in Path(run.dir).parent.glob("*.wandb"))


def _relay(run: Any, rows: Following, trainer: int) -> NoReturn:
    exit_code = None
    while exit_code is None:
        signal.alarm(_HANG_SECONDS)
        exit_code = _exit_code(trainer)
        for row in rows.new():
            metrics = {key: value for key, value in row.items() if key != "time" and value is not None}
            run.log({**metrics, "_timestamp": row["time"]})
        with suppress(OSError):  # no room: some rows will be handed over twice
            rows.remember()
    signal.alarm(int(FINISH_SECONDS) - 2)
    _finish(run, rows, exit_code)


def _exit_code(trainer: int) -> int | None:
    """The exit status of training, which it says at its end; 1 if it is gone without a word, None if it goes on."""
    if select.select([_TRAINING], [], [], _POLL_SECONDS)[0]:
        said = os.read(_TRAINING, 16)
        return int(said) if said else 1
    return None if os.getppid() == trainer else 1


def _finish(run: Any, rows: Following, exit_code: int) -> NoReturn:
    status, last_words = 0, ""
    try:
        run.finish(exit_code=exit_code)
    except TimeoutError:
        folder = Path(run.dir).parent
        status = UNSENT
        last_words = (
            f"not all rows were sent within {_UPLOAD_SECONDS} s; send them with `wandb sync --include-online {folder}`"
        )
    wandb.teardown()  # only now its file is closed
    with suppress(OSError):
        rows.close()
    _end(status, last_words)


if __name__ == "__main__":
    try:
        main()
    except BaseException as error:
        traceback.print_exc()
        _end(1, _in_words(error))
