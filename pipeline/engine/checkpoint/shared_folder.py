"""Proof that all ranks see one run folder: a run on node-local disks is told at its start, not at its first resume."""

import os
from pathlib import Path

from pipeline.engine.process_group import ProcessGroup, known_everywhere
from pipeline.errors import CheckpointError

_NAME = ".shared"


def prove_shared_folder(group: ProcessGroup, folder: Path) -> None:
    """Check that every rank sees the run folder that rank 0 sees. Raises CheckpointError on all ranks."""
    token = group.main_decides(lambda: _write_token(folder))
    seen = group.gather(_reads(folder, token))
    if group.ranks.is_main:
        (folder / _NAME).unlink(missing_ok=True)
    blind = [rank for rank, sees in enumerate(seen) if not sees]
    if blind:
        raise known_everywhere(CheckpointError(
            f"output {folder} is another folder on ranks {', '.join(map(str, blind))}; put it on a shared file system"
        ))  # fmt: skip


def _write_token(folder: Path) -> str:
    token = os.urandom(16).hex()
    (folder / _NAME).write_text(token)
    return token


def _reads(folder: Path, token: str) -> bool:
    try:
        return (folder / _NAME).read_text() == token
    except OSError:
        return False
