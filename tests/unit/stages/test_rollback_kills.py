"""A rollback killed between any two operations on files: it was never decided, or the next start completes it."""

from pathlib import Path

from pipeline.data.phases import Change
from pipeline.engine.checkpoint.commit import Commit, begin, commit, committed_steps
from pipeline.runtime.journal import Journal
from pipeline.stages.data.rollbacks import ROLLBACK, Rollback, read_rollbacks
from pipeline.stages.rollback import _decide, leave_behind
from tests.unit.killing import killed_at


def roll_back(run: Path) -> None:
    _decide(run, Rollback(1, 20, 47, 27, (Change(20, None, 27),)))
    leave_behind(run / "checkpoints", read_rollbacks(run))


def test_a_kill_between_any_two_operations_leaves_one_clear_answer(tmp_path: Path) -> None:
    found = []
    for last in range(100):
        run = tmp_path / f"{last}"
        for step in (10, 20, 30, 40):
            commit(begin(run / "checkpoints", step), Commit(step, 1, 0, {}, {}, ()))
        was_killed = killed_at(last, roll_back, run)
        rollbacks = read_rollbacks(run)
        leave_behind(run / "checkpoints", rollbacks)  # the next start
        steps = committed_steps(run / "checkpoints")
        assert steps == ([10, 20] if rollbacks else [10, 20, 30, 40])
        assert len(list((run / "checkpoints").iterdir())) == 4  # nothing is deleted
        found.append(bool(rollbacks))
        if not was_killed:
            break
    assert last > 4
    assert found == sorted(found)
    assert set(found) == {False, True}


def test_a_checkpoint_of_the_new_branch_stays(tmp_path: Path) -> None:
    for step, branch in ((10, 0), (20, 0), (30, 1), (40, 0)):
        commit(begin(tmp_path / "checkpoints", step), Commit(step, 1, branch, {}, {}, ()))
    Journal(tmp_path).write(ROLLBACK, **Rollback(1, 20, 47, 27, (Change(20, None, 27),)).to_json())
    leave_behind(tmp_path / "checkpoints", read_rollbacks(tmp_path))
    assert committed_steps(tmp_path / "checkpoints") == [10, 20, 30]
    assert (tmp_path / "checkpoints" / "step-00000040.abandoned-1" / "COMMIT.json").is_file()
