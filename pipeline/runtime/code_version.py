"""Which code runs: Tarmac's version and, in a checkout, the commit. Nothing of a remote, whose URL may hold a token."""

import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

_SECONDS = 10


def code_version(file: str = __file__) -> dict[str, Any]:
    """Tarmac's version, the commit of its checkout, and whether tracked files differ from it; null where it is none.

    Args:
        file: A file of the code; a repository that does not track it, as around a virtual environment, does not count.
    """
    commit = None
    if _git(file, "ls-files", "--error-unmatch", Path(file).name):
        commit = _git(file, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    commit, dirty, _ = (commit or "").partition("-dirty")
    return {"tarmac": version("tarmac"), "commit": commit or None, "dirty": bool(dirty) if commit else None}


def _git(file: str, *words: str) -> str | None:
    """What git says, None if it fails or is not there."""
    try:
        command = ["git", "-C", str(Path(file).parent), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
