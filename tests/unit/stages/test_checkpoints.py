"""`tarmac checkpoints`: what is there, why it stays, whether it is whole. Nothing is changed."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given

from pipeline import cli
from pipeline.config.checkpoints import Checkpoints
from pipeline.engine.checkpoint.commit import Commit, abandon, begin, commit, hashed_file, set_aside, step_name
from pipeline.engine.checkpoint.index import INDEX_NAME, index_of
from pipeline.engine.checkpoint.retention import kept
from pipeline.runtime.files import append_json_line
from pipeline.stages.checkpoints import reasons
from tests.unit.engine.test_retention import MEASURED, SETTINGS, STEPS
from tests.unit.small import small_checkpoint, small_model, small_run, small_tokenizer

DATA = {"type": "corpus", "sources": [{"corpus": "unused", "source": "small"}], "sequence_length": 32}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with checkpoints 2, 4, 5 and 6, of which 4 is kept as a multiple, 5 as the best, 6 as the last."""
    folder = tmp_path_factory.mktemp("listed")
    tokenizer = small_tokenizer(folder / "tokenizer")
    run = small_run(folder / "run", tokenizer, small_model(tokenizer.vocab_size), DATA, step=2)
    text = (run / "config.yaml").read_text()
    for old, new in (("keep_last: 3", "keep_last: 1"), ("keep_best: 0", "keep_best: 1"),
                     ("keep_every_steps: null", "keep_every_steps: 4")):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    (run / "config.yaml").write_text(text)
    state = json.loads((run / "checkpoints" / step_name(2) / "COMMIT.json").read_text())["state"]
    for step in (4, 5, 6):
        small_checkpoint(run / "checkpoints", step, {"master/model.w": torch.ones(4, step)}, state)
    for step, loss in ((2, 3.0), (4, 2.5), (5, 2.0), (6, 2.2)):
        append_json_line(run / "metrics.jsonl", {"step": step, "validation/loss": loss})
    return run


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def state_file(run: Path, step: int) -> Path:
    return run / "checkpoints" / step_name(step) / "state" / "rank-00000.safetensors"


def listed(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> dict[str, Any]:
    assert cli.main(["checkpoints", *words, "--json"]) == status
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_each_is_listed_with_its_size_and_why_it_stays(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(run)
    rows = listed(capsys, str(run))["checkpoints"]
    assert [(row["step"], row["kept"], row["fault"]) for row in rows] == [
        (2, [], None), (4, ["every"], None), (5, ["best"], None), (6, ["last"], None),
    ]  # fmt: skip
    files = [path for path in (run / "checkpoints" / step_name(4)).rglob("*") if path.is_file()]
    commits = [path for path in files if path.name == "COMMIT.json"]
    assert rows[1]["bytes"] == sum(path.stat().st_size for path in files) - commits[0].stat().st_size
    assert {row["branch"] for row in rows} == {0}
    assert contents(run) == before


def test_people_get_a_table(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = json.loads((run / "checkpoints" / step_name(6) / "COMMIT.json").read_text())
    made_by = {"zero_stage": 3, "precision": "bf16", "time": 1.8e9, "host": "node-7"}
    state = run / "checkpoints" / step_name(8)
    small = small_commit(run, 8, body["state"], made_by)
    assert small.world_size == 4
    assert cli.main(["checkpoints", str(run)]) == 0
    title, _, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith(f"{run}/checkpoints: 5 checkpoints, ")
    assert rows[-1].split()[:3] == ["8", "2", "0.0"]
    assert "4 ranks ZeRO-3 bf16 node-7" in rows[-1]
    assert " 2027-01-1" in rows[-1]
    assert rows[-1].split()[-2:] == ["last", "whole"]
    assert rows[0].split()[-2:] == ["nothing", "whole"]
    assert state.is_dir()


def small_commit(run: Path, step: int, state: dict[str, Any], made_by: dict[str, Any]) -> Commit:
    """A checkpoint that says that four ranks wrote it on the second branch."""
    partial = begin(run / "checkpoints", step)
    record = Commit(
        step, 4, 2, made_by, state, (hashed_file(partial, INDEX_NAME, index_of("AdamW", [], {}).to_bytes()),)
    )
    commit(partial, record)
    return record


def test_a_flipped_byte_is_found_by_verify_and_a_cut_file_at_sight(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = state_file(run, 4).read_bytes()
    state_file(run, 4).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert [row["fault"] for row in listed(capsys, str(run))["checkpoints"]] == [None] * 4
    faults = [row["fault"] for row in listed(capsys, str(run), "--verify", status=1)["checkpoints"]]
    assert faults == [None, "state/rank-00000.safetensors has other bytes than were written", None, None]
    state_file(run, 5).write_bytes(b"cut")
    (run / "checkpoints" / step_name(6) / "COMMIT.json").write_text("{}")
    rows = listed(capsys, str(run), status=1)["checkpoints"]
    assert "state/rank-00000.safetensors has 3 bytes, should have " in rows[2]["fault"]
    assert rows[3]["fault"].startswith("step-00000006: COMMIT.json is damaged")
    assert rows[3]["branch"] is None
    assert rows[3]["bytes"] > 0
    assert cli.main(["checkpoints", str(run)]) == 1
    printed = capsys.readouterr().out
    assert "step-00000006 is damaged: step-00000006: COMMIT.json" in printed
    assert "damaged\nstep-00000005 is damaged: state/rank" in printed


def test_what_lies_beside_them_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints = run / "checkpoints"
    set_aside(checkpoints / step_name(4), "a file has other bytes")
    abandon(checkpoints / step_name(5), 2)
    (checkpoints / "step-00000006.abandoned-1").mkdir()
    abandon(checkpoints / step_name(6), 1)
    for name in ("step-00000009.partial", "step-00000002.old.partial", "step-00000001.corrupt-2"):
        (checkpoints / name / "state").mkdir(parents=True)
        (checkpoints / name / "state" / "x").write_bytes(b"12345")
    before = contents(run)
    found = {other["name"]: other for other in listed(capsys, str(run))["others"]}
    assert {name: other["what"].split(",")[0] for name, other in found.items()} == {
        "step-00000004.corrupt": "was set aside: a file has other bytes",
        "step-00000005.abandoned-2": "is of a branch that a rollback left; it is never read",
        "step-00000006.abandoned-1": "is of a branch that a rollback left; it is never read",
        "step-00000006.abandoned-1-2": "is of a branch that a rollback left; it is never read",
        "step-00000009.partial": "is being written",
        "step-00000002.old.partial": "is being deleted",
        "step-00000001.corrupt-2": "has no REASON.txt; it is never read",
    }
    assert found["step-00000009.partial"]["bytes"] == 5
    assert found["step-00000004.corrupt"]["bytes"] > 100
    assert cli.main(["checkpoints", str(run)]) == 0
    assert "step-00000009.partial (0.0 MB) is being written, or was when" in capsys.readouterr().out
    assert contents(run) == before


def test_a_run_without_any_is_listed_and_no_run_is_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(run / "checkpoints")
    assert listed(capsys, str(run)) == {"checkpoints": [], "others": []}
    assert cli.main(["checkpoints", str(run)]) == 0
    assert "0 checkpoints, 0.0 MB" in capsys.readouterr().out
    assert cli.main(["checkpoints", str(run / "none")]) == 2
    assert "none does not exist; give the folder of a training run" in capsys.readouterr().err


@given(STEPS, SETTINGS, MEASURED)
def test_reasons_are_those_of_retention(steps: list[int], settings: Checkpoints, measured: dict[int, float]) -> None:
    why = reasons(steps, settings, measured)
    assert {step for step, names in why.items() if names} == kept(steps, settings, measured)
    assert why.keys() == set(steps)
    assert {step for step, names in why.items() if "last" in names} == set(steps[-settings.keep_last :])
    assert all("every" not in names or step % (settings.keep_every_steps or 61) == 0 for step, names in why.items())
