"""Damaged checkpoints: found before anything of them is used, set aside with the reason, the one before is used."""

import json
import shutil
from pathlib import Path

from tests.faults.runs import Job, copy_of, events, ledger, losses


def test_every_damage_is_found_and_the_last_whole_checkpoint_is_used(tmp_path: Path, corpus: Path, plain: Path) -> None:
    """Five checkpoints, each damaged in another way, on top of a whole one; two ranks resume."""
    recipe = copy_of(plain, tmp_path / "damaged.yaml", corpus)
    checkpoints, opened = recipe.with_suffix("") / "checkpoints", tmp_path / "opened"
    flipped, cut, missing, planted, emptied = (checkpoints / f"step-{step:08d}" for step in (60, 50, 40, 30, 20))
    file = flipped / "state" / "rank-00001.safetensors"
    content = bytearray(file.read_bytes())
    content[-100] ^= 4
    file.write_bytes(content)
    file = cut / "state" / "rank-00000.safetensors"
    file.write_bytes(file.read_bytes()[:-64])
    (missing / "state" / "rank-00001.safetensors").unlink()
    (planted / "state" / "rank-00000.pt").write_bytes(f"cos\nsystem\n(S'touch {opened}'\ntR.".encode())
    (emptied / "COMMIT.json").write_bytes(b"")
    (checkpoints / "latest").write_bytes(b"")  # DeepSpeed's pointer: nothing reads one
    with Job(recipe) as job:
        job.done()
    run = job.run
    reasons = {path.parent.name: path.read_text() for path in checkpoints.glob("*.corrupt/REASON.txt")}
    assert "rank-00001.safetensors has other bytes than were written" in reasons["step-00000060.corrupt"]
    assert "rank-00000.safetensors has" in reasons["step-00000050.corrupt"]
    assert "rank-00001.safetensors cannot be read" in reasons["step-00000040.corrupt"]
    assert "rank-00000.pt is not listed" in reasons["step-00000030.corrupt"]
    assert "COMMIT.json is damaged" in reasons["step-00000020.corrupt"]
    assert not opened.exists()
    assert [event["name"] for event in events(run, "corrupt")] == [f"step-{step:08d}" for step in (60, 50, 40, 30, 20)]
    assert events(run, "resume")[-1]["step"] == 10
    assert losses(run) == losses(plain)
    assert [ledger(run, rank) for rank in (0, 1)] == [ledger(plain, rank) for rank in (0, 1)]


def test_a_checkpoint_without_a_whole_one_behind_it_does_not_start_over(
    tmp_path: Path, corpus: Path, plain: Path
) -> None:
    recipe = copy_of(plain, tmp_path / "lost.yaml", corpus)
    run = recipe.with_suffix("")
    for step in range(10, 60, 10):
        shutil.rmtree(run / "checkpoints" / f"step-{step:08d}")
    (run / "checkpoints" / "step-00000060" / "index.json").write_text(json.dumps({}))
    before = losses(run)
    for _ in range(2):  # nor does the same command given again
        with Job(recipe) as job:
            assert job.wait() == [2, 2]
        assert "no checkpoint in" in job.said()
        assert "Traceback" not in job.said()
        assert losses(run) == before
