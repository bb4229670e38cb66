"""What a run says: whole lines where it is piped, and on a real terminal a bar that stays below them."""

import os
import pty
import re
import subprocess
import sys

BODY = """
import sys
from pipeline.runtime.logs import get_logger, set_up_logging
from pipeline.runtime.ranks import Ranks
from pipeline.train.tracking.terminal import Terminal

set_up_logging(Ranks(0, 0, 1))
terminal = Terminal(100)
terminal.begin(40)
row = {"train/loss": 2.5, "train/learning_rate": 1e-3, "train/gradient_norm": 0.5, "train/parameter_norm": 9.0,
       "perf/tokens_per_second": 123456.0, "perf/mfu": 0.4321, "perf/step_seconds": 2.0}
terminal.log(50, row)
terminal.log(50, {"validation/loss": 2.75})
get_logger("train").info("another line")
terminal.log(60, {**row, "train/loss": None, "train/gradient_norm": None})
if sys.argv[1] == "fails":
    raise SystemExit(3)
terminal.finish(0)
"""
LINES = [
    "I step 50  loss 2.5000  lr 1.00e-03  gradient_norm 0.500  123,456 tok/s  MFU 43.2 %  left 1 min 40 s",
    "I another line",
    "I step 60  loss –  lr 1.00e-03  gradient_norm –  123,456 tok/s  MFU 43.2 %  left 1 min 20 s",
]


def without_time(text: str) -> list[str]:
    return [line[20:] for line in text.splitlines() if re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line)]


def test_piped_it_is_plain_lines() -> None:
    said = subprocess.run([sys.executable, "-c", BODY, "ends"], capture_output=True, text=True, check=True).stderr
    assert without_time(said) == LINES
    assert len(said.splitlines()) == len(LINES)
    assert "\x1b" not in said


def on_terminal(how: str) -> tuple[str, int]:
    """What a terminal gets, and the exit status."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "140", "LINES": "40"}
    process = subprocess.Popen([sys.executable, "-c", BODY, how], stderr=theirs, env=environment)
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 4096):
            said += part
    except OSError:  # the other end is closed
        pass
    return said.decode(), process.wait()


def test_a_terminal_has_a_bar_below_whole_lines() -> None:
    said, status = on_terminal("ends")
    assert status == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said).replace("\r", "\n")
    assert without_time(plain) == LINES
    bars = [line for line in plain.splitlines() if line.startswith("step")]
    assert re.match(r"step +60/100 .*loss –  123,456 tok/s  MFU 43.2 %  left 1 min 20 s", bars[-1])
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l"), "the cursor is shown again"


def test_the_cursor_comes_back_after_an_error() -> None:
    said, status = on_terminal("fails")
    assert status == 3
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")
