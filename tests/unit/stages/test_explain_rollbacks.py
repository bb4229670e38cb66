"""Behind a rollback the branch that holds is explained, by the ranks that made it."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.data.phases import Past
from pipeline.engine.checkpoint.commit import Commit, begin, commit
from pipeline.runtime.journal import Journal
from pipeline.stages.data.plan import order_after
from pipeline.stages.data.rollbacks import ROLLBACK, rolled_back
from pipeline.stages.explain.document import explain_document
from pipeline.stages.explain.run import Explained, open_explained
from pipeline.stages.explain.step import explain_step
from pipeline.stages.seal import STATE_KEY, seal
from tests.unit.stages.test_explain import STEPS, opened, run

__all__ = ["opened", "run"]


@pytest.fixture(scope="module")
def gone_back(opened: Explained, tmp_path_factory: pytest.TempPathFactory) -> Explained:
    """From step 15, of 3 ranks, to step 8, and then from step 11 to step 10; in another folder than the config says."""
    folder = tmp_path_factory.mktemp("moved")
    (folder / "config.yaml").write_text((opened.folder / "config.yaml").read_text())
    (folder / "journal.jsonl").write_text((opened.folder / "journal.jsonl").read_text())
    journal = Journal(folder)
    first = rolled_back(opened.order, 8, 15, [])
    journal.write(ROLLBACK, **first.to_json())
    order = order_after(opened.config, opened.data.source, Past(0, ()), [first])
    journal.write(ROLLBACK, **rolled_back(order, 10, 11, [first]).to_json())
    journal.write("resume", step=12, world_size=4, micro_size=1)
    return open_explained(folder)


def test_steps_before_it_are_what_they_were_and_those_behind_come_later(
    opened: Explained, gone_back: Explained
) -> None:
    """Up to step 9 a batch has 10 sequences, and the phase that follows packs; both were passed over once."""
    for step in range(1, 9):
        assert explain_step(gone_back, step).rows == explain_step(opened, step).rows
    before = {row_key(row) for step in range(9, 16) for row in explain_step(opened, step).rows}
    behind = {row_key(row) for step in range(9, STEPS + 1) for row in explain_step(gone_back, step).rows}
    assert before & behind == set()
    assert explain_step(gone_back, 9).rows[0].sample > explain_step(opened, 15).rows[-1].sample


def row_key(row: Any) -> tuple[Any, ...]:
    read = ((one.position, one.first_token, one.last_token) for one in row.documents)
    return row.source, row.epoch, row.shard, *read


@pytest.mark.parametrize(
    ("step", "branch", "num_abandoned", "world_size"),
    [(8, 0, 0, 2), (9, 1, 1, 3), (10, 1, 1, 3), (11, 2, 2, 3), (12, 2, 1, 3), (13, 2, 1, 4), (16, 2, 0, 4)],
)  # fmt: skip
def test_each_step_tells_its_branch(
    gone_back: Explained,
    step: int,
    branch: int,
    num_abandoned: int,
    world_size: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = explain_step(gone_back, step)
    assert (found.branch, found.num_abandoned, found.world_size) == (branch, num_abandoned, world_size)
    assert main(["explain", str(gone_back.folder), "--step", str(step)]) == 0
    told = f"step {step} (to come{f'; branch {branch}' if branch else ''}"
    told += f"; abandoned before: {num_abandoned}" if num_abandoned else ""
    assert f"{told}): " in capsys.readouterr().out
    assert main(["explain", str(gone_back.folder), "--step", str(step), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_abandoned"] == num_abandoned


@pytest.mark.parametrize("document", [3, 70])
def test_a_document_is_seen_on_the_branch_that_holds(gone_back: Explained, document: int) -> None:
    expected = [
        (step, row.rank, row.source, row.sequence)
        for step in range(1, STEPS + 1)
        for row in explain_step(gone_back, step).rows
        if any(one.position == document for one in row.documents)
    ]
    seen = explain_document(gone_back, f"small.txt#{document}", 99).seen
    assert [(one.step, one.rank, one.source, one.sequence) for one in seen] == expected


def test_a_checkpoint_of_a_branch_that_was_left_is_not_the_newest(gone_back: Explained, tmp_path: Path) -> None:
    """Where the rollback was killed before it renamed what it left."""
    for name in ("config.yaml", "journal.jsonl"):
        (tmp_path / name).write_text((gone_back.folder / name).read_text())
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / "tokenizer").mkdir()
    for step, branch in ((8, 0), (9, 1), (11, 1), (14, 0)):
        past = gone_back.order.past(step) if branch or step == 8 else Past(step, ())
        state = {"data": past.to_json(), STATE_KEY: seal(tmp_path)}
        commit(begin(tmp_path / "checkpoints", step), Commit(step, 1, branch, {}, state, ()))
    assert open_explained(tmp_path).num_trained == 9
    (tmp_path / "checkpoints" / "step-00000009" / "COMMIT.json").write_text("{")
    assert open_explained(tmp_path).num_trained == 8
