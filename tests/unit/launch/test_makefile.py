"""`make` without what it needs."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_an_interpreter_that_is_not_there_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "launch").mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "launch/preflight.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    outer = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")  # of the `make test` that may run this
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    command = ["make", "PYTHON=python9", "install"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == (
        "tarmac needs Python >= 3.11; python9 was not found, name another: make PYTHON=python3.12"
    )
    assert not done.stdout
