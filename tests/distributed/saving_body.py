"""Bodies that save beside training."""

import resource
import signal
from pathlib import Path
from typing import Any

from pipeline.engine.checkpoint.commit import committed_steps
from pipeline.engine.checkpoint.fragments import prepare
from pipeline.engine.checkpoint.saving import Label, Saver
from pipeline.engine.process_group import ProcessGroup
from pipeline.errors import CheckpointError
from pipeline.runtime.ranks import ranks_from_environment
from tests.distributed.training_body import run_config, start, train


def one_rank_cannot_write(checkpoints: str) -> dict[str, Any]:
    """Save; save again while rank 1 may write no file of that size; save a third time. What each rank saw."""
    group = ProcessGroup(ranks_from_environment(), 60)
    engine = start(run_config(), group)
    prepare(engine)
    saver = Saver(engine, Path(checkpoints), asynchronous=True)
    train(engine, range(1))
    saver.begin(Label(1, {}))
    saver.finish()
    if group.ranks.rank == 1:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, resource.RLIM_INFINITY))
    steps, error = _train_beside(saver, engine, group, Label(2, {}))
    seen = {"error": error, "steps beside": steps, "after": committed_steps(Path(checkpoints)),
            "left": sorted(path.name for path in Path(checkpoints).iterdir())}  # fmt: skip
    if group.ranks.rank == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    group.barrier()
    _, none = _train_beside(saver, engine, group, Label(3, {}))
    saver.close()
    seen |= {"third": none, "at last": committed_steps(Path(checkpoints))}
    group.close()
    return seen


def _train_beside(saver: Saver, engine: Any, group: ProcessGroup, label: Label) -> tuple[int, str | None]:
    """Go on training until the save is there or has failed; how many steps, and why it failed."""
    saver.begin(label)
    steps = 0
    while saver.is_pending:
        train(engine, range(steps + 1, steps + 2))
        steps += 1
        if not group.max(saver.is_busy):
            try:
                saver.advance()
            except CheckpointError as failure:
                return steps, str(failure)
    return steps, None
