"""A disk that fills up while a checkpoint is written: a real small file system, so these need root."""

import subprocess
from pathlib import Path

import pytest

from pipeline.engine.checkpoint.commit import committed_steps, faults, read_commit, step_name
from tests.distributed.jobs import run_job


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_full_disk_leaves_the_older_checkpoint_and_a_clear_error(small_disk: Path, tmp_path: Path):
    """Two ranks save until there is no room: every rank gets the same error, the checkpoints before stay whole."""
    errors = run_job("tests.system.saving_body:save_until_full", 2, tmp_path / "job", disk=str(small_disk))
    assert errors[0] == errors[1]
    assert "No space left on device" in errors[0] or "write" in errors[0]
    assert not list(small_disk.glob("checkpoints/*.partial"))
    steps = committed_steps(small_disk / "checkpoints")
    assert steps
    for step in steps:
        folder = small_disk / "checkpoints" / step_name(step)
        assert not faults(folder, read_commit(folder).files)
