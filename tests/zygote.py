"""Ranks without the seconds that imports take: a process that has imported everything forks those that are asked for.

What is forked is a process of its own like any other; it has imported what `tarmac train` would import, DeepSpeed has
asked the compiler what it can do, and nothing else has happened in it. Where a test is about how a command starts, it
starts the command.
"""

import atexit
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}


class Forked:
    """A forked process, used like one of `subprocess.Popen`'s."""

    def __init__(
        self, call: str, arguments: Sequence[Any], environment: Mapping[str, str], log: Path, folder: Path = ROOT,
        errors: Path | None = None,
    ) -> None:  # fmt: skip
        """Call `module:function(*arguments)` in a new process in a folder; its exit status is what that returns.

        It has this process's environment and some more, and says everything in the log, or errors in another file.
        """
        order = {
            "call": call, "arguments": list(arguments), "environment": dict(os.environ | _ENVIRONMENT | environment),
            "folder": str(folder), "log": str(log), "errors": str(errors or log),
        }  # fmt: skip
        self.pid = int(_zygote().ask(order))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, minus the signal's number if one ended it; None while it runs."""
        if self.returncode is None:
            self.returncode = _zygote().ask({"status": self.pid})
        return self.returncode

    def wait(self, timeout: float = 600) -> int:
        """The exit status. Raises TimeoutExpired."""
        end = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(0.02)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Zygote:
    """The process that forks."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote"], cwd=ROOT, env=os.environ | _ENVIRONMENT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        atexit.register(self._process.kill)

    def ask(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@cache
def _zygote() -> _Zygote:
    return _Zygote()


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what anything else says is no answer
    import_everything()
    statuses: dict[int, int] = {}
    for line in sys.stdin:
        order = json.loads(line)
        if "status" in order:
            answer: Any = _status(order["status"], statuses)
        else:
            sys.stdout.flush()
            answer = os.fork()
            if not answer:
                answers.close()
                _become(order)
        print(json.dumps(answer), file=answers, flush=True)


def import_everything() -> None:
    """What a rank imports, some of it only as it begins."""
    import deepspeed.runtime.zero.muon.muon_optimizer
    import transformers.models.llama.modeling_llama  # noqa: F401

    import launch.plan  # noqa: F401
    import pipeline.stages.train  # noqa: F401

    assert deepspeed.ops.__compatible_ops__  # kept by DeepSpeed: with setuptools and a compiler, half a second


def _status(pid: int, statuses: dict[int, int]) -> int | None:
    if pid not in statuses:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            statuses[pid] = os.waitstatus_to_exitcode(status)
    return statuses.get(pid)


def _become(order: dict[str, Any]) -> None:
    """Be the process that was asked for; does not return."""
    log, errors = (os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) for name in ("log", "errors"))
    os.truncate(log, 0)
    os.truncate(errors, 0)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (errors, 2)):
        os.dup2(source, target)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    status = 1
    try:
        module, name = order["call"].split(":")
        status = getattr(importlib.import_module(module), name)(*order["arguments"]) or 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    _serve()
