"""Going back to before a spike: the decision is one line of the journal, and everything else follows from it.

First the line is written and synced. Then checkpoints that it leaves behind are renamed. A kill between any two of
these operations changes nothing: the next start reads the line and does the rest, or finds none and goes on as before.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pipeline.data.order import Order
from pipeline.engine.checkpoint.commit import (
    Commit,
    abandon,
    committed_steps,
    read_commit,
    step_name,
)
from pipeline.engine.checkpoint.finding import newest_good
from pipeline.engine.process_group import ProcessGroup, known_everywhere
from pipeline.errors import CheckpointError, DivergenceError
from pipeline.runtime.journal import Journal
from pipeline.runtime.logs import get_logger
from pipeline.stages.data.rollbacks import ROLLBACK, Rollback, is_left, read_rollbacks, rolled_back
from pipeline.train.hooks.spikes import GoBack

_log = get_logger("rollback")


def roll_back(group: ProcessGroup, folder: Path, order: Order, decision: GoBack, most: int) -> Commit:
    """Go back in the run folder; all ranks call it. The checkpoint that the run goes on from.

    Raises:
        DivergenceError: The run was rolled back so often before as it may be at most.
        CheckpointError: No checkpoint from before the spike is whole.
    """
    checkpoints, journal, first_step = folder / "checkpoints", Journal(folder), decision.first_step
    if len(group.main_decides(lambda: read_rollbacks(folder))) >= most:
        raise DivergenceError(
            f"the loss jumped at step {first_step} and the run was rolled back {most} times before, as often as"
            " faults.spikes.max_rollbacks allows; lower optimizer.lr and set faults.spikes.action to"
            " warn, or raise that, and give the same command"
        )
    commit = newest_good(group, checkpoints, partial(tell_corrupt, journal), last_good_step(first_step))
    if commit is None:
        raise known_everywhere(
            CheckpointError(f"{checkpoints} has no checkpoint from before the jump of the loss at step {first_step}")
        )
    group.main_decides(lambda: _decide(folder, rolled_back(order, commit.step, decision.step, read_rollbacks(folder))))
    group.main_decides(lambda: leave_behind(checkpoints, read_rollbacks(folder)))
    return commit


def last_good_step(first_step: int) -> int:
    """The last step whose checkpoint is good, of outliers that began with the loss of a step.

    The loss of step k + 1 is the first that the weights after k steps are measured by.
    """
    return first_step - 2


def _decide(folder: Path, rollback: Rollback) -> None:
    Journal(folder).write(ROLLBACK, **rollback.to_json())
    _log.warning("rollback %d: back from step %d to %d; what was seen since then is passed over",
                 rollback.branch, rollback.from_step, rollback.step)  # fmt: skip


def leave_behind(checkpoints: Path, rollbacks: Sequence[Rollback]) -> None:
    """Rename the checkpoints that rollbacks went back behind, so that none of them is ever loaded."""
    for step in reversed(committed_steps(checkpoints)) if rollbacks else ():
        branch = _branch(checkpoints / step_name(step))
        if branch is not None and is_left(rollbacks, step, branch):
            abandon(checkpoints / step_name(step), branch + 1)


def _branch(folder: Path) -> int | None:
    """On which branch a checkpoint was made; None if it cannot be read, which is told where it is verified."""
    try:
        return read_commit(folder).branch
    except CheckpointError:
        return None


def tell_corrupt(journal: Journal, name: str, reason: str) -> None:
    """Note that a checkpoint was set aside."""
    _log.warning("checkpoint %s is damaged and set aside: %s", name, reason)
    journal.write("corrupt", name=name, reason=reason)
