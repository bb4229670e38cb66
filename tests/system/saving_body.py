"""Bodies that run inside the processes of a job."""

from pathlib import Path

from pipeline.engine.checkpoint.fragments import prepare
from pipeline.engine.process_group import ProcessGroup
from pipeline.errors import CheckpointError
from pipeline.runtime.ranks import ranks_from_environment
from tests.distributed.training_body import run_config, save, start


def save_until_full(disk: str) -> str:
    """Save step after step; returns the error that ended it."""
    group = ProcessGroup(ranks_from_environment(), 60)
    engine = start(run_config(), group)
    prepare(engine)
    for step in range(1, 100):
        try:
            save(engine, Path(disk) / "checkpoints", step)
        except CheckpointError as error:
            group.close()
            return str(error)
    raise AssertionError("the disk never filled up")
