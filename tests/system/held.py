"""A rank that waits where it is about to open a file, until the test has done something to the disk."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.cli import main


def held(words: Sequence[str], ending: str, gate: str) -> int:
    """Train; who opens a file whose path ends so makes `gate`.reached and waits for `gate`.open."""

    def hold(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]).endswith(ending):
            Path(f"{gate}.reached").touch()
            while not Path(f"{gate}.open").exists():
                time.sleep(0.002)

    sys.addaudithook(hold)
    return main(words)
