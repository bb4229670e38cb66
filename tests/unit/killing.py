"""Work in a process that is killed at a moment of one's choice."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

_TOUCHES = {"open", "os.link", "os.mkdir", "os.rename", "os.rmdir", "os.remove", "os.scandir", "shutil.rmtree"}


def killed_at(moment: int, function: Callable[..., object], *arguments: object) -> bool:
    """Call a function in a process that dies before it touches a file once more than `moment` times.

    False if the function came to its end.
    """
    process = os.fork()
    if process == 0:
        left = [moment]

        def count(event: str, _: Any) -> None:
            if event in _TOUCHES:
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(count)
            function(*arguments)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)
