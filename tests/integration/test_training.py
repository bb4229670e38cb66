"""The whole way on two real ranks: train, kill, resume, fine-tune, evaluate, generate, export, report."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from tests.distributed.jobs import free_port
from tests.faults.runs import Job
from tests.integration.conftest import OFFLINE, ROOT, environment, rows, write_recipe

LOCAL = "configs/cluster/local.yaml"


def start(recipe: Path) -> "subprocess.Popen[bytes]":
    """A two-rank job in the background."""
    command = [sys.executable, "-m", "pipeline.cli", "launch", str(recipe), "--cluster", LOCAL]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )


def wait_for_step(job: "subprocess.Popen[bytes]", run: Path, step: int) -> None:
    while not any(row["step"] >= step for row in rows(run / "metrics.jsonl")):
        assert job.poll() is None, f"the job ended with {job.returncode} before step {step}"
        time.sleep(0.02)


def ranks_of(job: "subprocess.Popen[bytes]") -> dict[int, psutil.Process]:
    processes = psutil.Process(job.pid).children(recursive=True)
    return {int(p.environ()["RANK"]): p for p in processes if "RANK" in p.environ() and "pipeline.cli" in p.cmdline()}


def losses(run: Path) -> dict[int, float]:
    """Training loss per step; the later row of a step wins."""
    return {row["step"]: row["train/loss"] for row in rows(run / "metrics.jsonl") if "train/loss" in row}


def figures(run: Path) -> dict[tuple[int, str], float]:
    """All that `metrics.jsonl` says but for times; what was logged twice must be the same."""
    result: dict[tuple[int, str], float] = {}
    for row in rows(run / "metrics.jsonl"):
        for key in row.keys() - {"step", "time"}:
            if not key.startswith("perf/"):
                assert result.setdefault((row["step"], key), row[key]) == row[key]
    return result


def ledger(run: Path, rank: int) -> dict[int, str]:
    """Digest per step; a step that was run twice must have the same one."""
    result: dict[int, str] = {}
    for row in rows(run / "ledger" / f"rank-{rank:05d}.jsonl"):
        assert result.setdefault(row["step"], row["digest"]) == row["digest"]
    return result


def events(run: Path) -> list[str]:
    return [row["event"] for row in rows(run / "journal.jsonl")]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def plain(runs, corpus, tarmac) -> Path:
    """An uninterrupted run."""
    recipe = write_recipe(runs / "plain.yaml", corpus, runs / "plain")
    tarmac("launch", recipe, "--cluster", LOCAL)
    return runs / "plain"


@pytest.fixture(scope="module")
def killed(runs, corpus, tarmac, plain) -> Path:
    """The same run, one rank killed after its first checkpoint, resumed by the same command."""
    recipe = write_recipe(runs / "killed.yaml", corpus, runs / "killed")
    job = start(recipe)
    wait_for_step(job, runs / "killed", 6)
    ranks_of(job)[1].send_signal(signal.SIGKILL)
    assert job.wait(30) != 0
    tarmac("launch", recipe, "--cluster", LOCAL)
    return runs / "killed"


def tuning_recipe(runs: Path, corpus: Path, base: Path, name: str) -> Path:
    """A tiny fine-tuning by low-rank updates: the full recipe but for one key."""
    recipe = yaml.safe_load((ROOT / "configs/finetune/sft.yaml").read_text())
    recipe |= {"output": str(runs / name), "model": {"type": "checkpoint", "run": str(base)}}
    recipe["adapter"]["type"] = "lora"
    recipe["data"] |= {name: str(corpus / "pairs" / f"{name}.jsonl") for name in ("train", "validation")}
    recipe["batch"], recipe["duration"] = {"global_size": 8, "micro_size": 4}, {"steps": 4}
    recipe["engine"]["compile"] = False
    recipe["checkpoints"] = {"every_steps": 2, "keep_last": 2}
    recipe["tracking"] = {"log_every_steps": 1, "wandb": {"mode": "disabled"}}
    path = runs / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture(scope="module")
def tuned(runs, corpus, plain) -> Path:
    """The uninterrupted run, fine-tuned by low-rank updates; the README's test does it with every weight."""
    with Job(tuning_recipe(runs, corpus, plain, "tuned"), verb="finetune") as job:
        job.done()
    return runs / "tuned"


def test_killed_and_resumed_equals_uninterrupted_bit_by_bit(plain, killed):
    assert events(killed).count("resume") == 1
    assert figures(killed) == figures(plain)
    assert sorted(losses(plain)) == [3, 6, 9, 12]
    for rank in (0, 1):
        assert ledger(killed, rank) == ledger(plain, rank)
    assert ledger(plain, 0) != ledger(plain, 1)


def test_training_learns(plain):
    curve = losses(plain)
    assert curve[12] < curve[3] - 0.3


def test_no_process_is_left(killed):
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(killed) in " ".join(p.info["cmdline"] or [])]


def test_sigterm_saves_and_ends_with_85_then_goes_on_bit_by_bit(runs, corpus, plain):
    recipe = write_recipe(runs / "asked.yaml", corpus, runs / "asked", checkpoints={"every_steps": 1000})
    job = start(recipe)
    wait_for_step(job, runs / "asked", 3)
    os.kill(job.pid, signal.SIGTERM)
    os.kill(job.pid, signal.SIGUSR1)  # the same order by a second way must not cost the save
    assert job.wait(60) == 85
    assert events(runs / "asked")[-2:] == ["save", "end"]
    with Job(recipe, environment=OFFLINE) as job:
        job.done()
    assert figures(runs / "asked") == figures(plain)


def test_damaged_checkpoint_is_set_aside_and_the_one_before_used(runs, corpus, tarmac, forked, killed, plain):
    checkpoints = killed / "checkpoints"
    victim = checkpoints / "step-00000012" / "state" / "rank-00001.safetensors"
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    tarmac("verify", killed, status=1)
    used = forked("generate", killed, "--max-new-tokens", "2")
    assert "step-00000008 is used, a newer one is damaged: step-00000012: state/" in used.stderr
    assert "(step 8)" in used.stdout
    with Job(runs / "killed.yaml", environment=OFFLINE) as job:
        job.done()
    assert "other bytes" in (checkpoints / "step-00000012.corrupt" / "REASON.txt").read_text()
    assert figures(killed) == figures(plain)
    tarmac("verify", killed)


def test_a_run_without_a_whole_checkpoint_does_not_start_over_in_silence(runs, plain):
    broken = runs / "broken"
    shutil.copytree(plain, broken)
    for commit in broken.glob("checkpoints/*/COMMIT.json"):
        commit.write_text("{}")
    with Job(runs / "plain.yaml", 2, f"output={broken}") as job:
        assert job.wait() == [2, 2]
    assert [line[:22] for line in job.said().splitlines() if "tarmac: " in line] == ["tarmac: no checkpoint "]
    assert "ERROR" not in job.said()
    assert losses(broken) == losses(plain)


def test_planted_pickle_is_never_opened(runs, tarmac, forked, plain):
    planted = runs / "planted"
    shutil.copytree(plain, planted)
    opened = runs / "opened"
    payload = f"cos\nsystem\n(S'touch {opened}'\ntR.".encode()
    for folder in planted.glob("checkpoints/step-*"):
        (folder / "state" / "rank-00007.pt").write_bytes(payload)
    done = forked("generate", planted, "--max-new-tokens", "2", status=2)
    assert "not listed" in done.stderr
    tarmac("verify", planted, status=1)
    assert not opened.exists()


def test_interrupted_low_rank_run_goes_on_from_the_same_base(runs, tuned):
    whole = losses(tuned)
    shutil.move(tuned / "checkpoints" / "step-00000004", runs / "later")
    with Job(runs / "tuned.yaml", verb="finetune") as job:
        job.done()
    assert events(tuned).count("resume") == 1
    assert losses(tuned) == whole


def test_torchrun_starts_a_run_too(runs, corpus, plain):
    recipe = write_recipe(runs / "torchrun.yaml", corpus, runs / "torchrun")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        str(free_port()),
    ]
    subprocess.run(
        [*command, "-m", "pipeline.cli", "train", str(recipe)],
        cwd=ROOT, env=environment() | {"OMP_NUM_THREADS": "1"}, check=True, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert losses(runs / "torchrun") == pytest.approx(losses(plain), rel=5e-3)


def test_another_number_of_ranks_and_another_stage_go_on(runs, forked, plain):
    recipe = runs / "plain.yaml"
    done = forked("train", recipe, "checkpoints.keep_last=2", status=0)  # complete: nothing to resume
    assert "complete" in done.stderr
    shutil.copytree(plain, runs / "fewer")
    shutil.rmtree(runs / "fewer" / "checkpoints" / "step-00000012")
    forked("train", recipe, f"output={runs / 'fewer'}", "engine.zero_stage=3")
    assert losses(runs / "fewer") == pytest.approx(losses(plain), rel=5e-3)


def test_changed_config_is_refused_with_the_difference(runs, forked, plain):
    done = forked("train", runs / "plain.yaml", "seed=2", status=2)
    assert "seed was 1, is 2" in done.stderr


def test_a_damaged_tokenizer_is_neither_resumed_from_nor_exported(runs, tarmac, forked, plain):
    damaged = runs / "damaged"
    shutil.copytree(plain, damaged)
    tokenizer = damaged / "tokenizer" / "tokenizer.model"
    tokenizer.write_bytes(tokenizer.read_bytes().replace(b"return", b"retorn"))
    sentence = f"tarmac: run {damaged} is damaged: tokenizer/tokenizer.model changed since the run started"
    output = f"output={runs / 'export-damaged'}"
    for words in (("train", runs / "plain.yaml", f"output={damaged}"), ("generate", damaged),
                  ("export", "configs/export/huggingface.yaml", f"run={damaged}", output)):  # fmt: skip
        assert sentence in forked(*words, status=2).stderr
    assert "tokenizer/tokenizer.model changed" in "".join(tarmac("verify", damaged, status=1).stdout.split("\n"))


def test_finetuned_model_is_evaluated_generated_and_exported(runs, corpus, forked, plain, tuned):
    config = {
        "stage": "evaluate", "output": str(runs / "evaluation.json"),
        "models": {"pretrained": str(plain), "tuned": str(tuned)},
        "sets": {"text": {"type": "corpus", "corpus": str(corpus), "sequence_length": 64},
                 "pairs": {"type": "instruct", "path": str(corpus / "pairs" / "validation.jsonl")}},
        "checks": [{"type": "beats", "model": "tuned", "other": "pretrained", "set": "pairs"}],
        "max_sequences": 32,
    }  # fmt: skip
    (runs / "evaluate.yaml").write_text(yaml.safe_dump(config))
    forked("eval", runs / "evaluate.yaml")
    assert json.loads((runs / "evaluation.json").read_text())
    forked("generate", tuned, "--chat", "--prompt", "def f():", "--max-new-tokens", "8")
    exported = runs / f"export-{tuned.name}"
    forked("export", "configs/export/huggingface.yaml", f"run={tuned}", f"output={exported}")
    assert len({path.stat().st_mode for path in exported.iterdir()}) == 1
    assert (exported / "model.safetensors").is_file()


def test_run_is_reported_and_explained(tarmac, forked, plain, tuned, monkeypatch):
    tarmac("report", plain)
    assert "</html>" in (plain / "report.html").read_text()
    table = forked("explain", plain, "--step", "5").stdout
    assert ".py#0" in table
    monkeypatch.setenv("COLUMNS", "300")
    assert "pairs/train.jsonl:" in forked("explain", tuned, "--step", "3").stdout


def test_wandb_is_offline_without_a_key_and_one_run_over_restarts(killed):
    pieces = [path for path in (killed / "wandb").iterdir() if path.name.startswith("offline-run-")]
    assert len(pieces) >= 2
    assert {path.name.rsplit("-", 1)[1] for path in pieces} == {(killed / "run_id").read_text()}
