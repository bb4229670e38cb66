"""Canaries: secrets of the environment and of configs are in no file of a run, in nothing it says, and not with W&B."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.logging_runs import Logging
from tests.faults.runs import Job, losses, write_recipe
from tests.faults.wandb_server import WandbServer

CANARY = "canary0f7c"
ENVIRONMENT = {
    "WANDB_API_KEY": f"{CANARY}WandbKey{'0' * 24}",
    "HF_TOKEN": f"hf_{CANARY}HuggingFace",
    "AWS_ACCESS_KEY_ID": f"AKIA{CANARY}Id",
    "AWS_SECRET_ACCESS_KEY": f"{CANARY}/AwsSecret+",
    "AWS_SESSION_TOKEN": f"{CANARY}AwsSession",
    "SLURM_JWT": f"eyJ{CANARY}Slurm",
    "SLURM_REST_PASSWORD": f"{CANARY}SlurmRest",
    "GITHUB_TOKEN": f"ghp_{CANARY}GitHub",
    "SIGNATURE": f"X-Amz-Signature={CANARY}Query",
    "HTTPS_PROXY": f"http://user:{CANARY}Proxy@127.0.0.1:9",
    "DATABASE_URL": f"postgres://user:{CANARY}Database@127.0.0.1/db",
    "SLURM_JOB_ID": "4711",
}
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Secrets, and folders of our own for all that libraries keep somewhere."""
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    return {**ENVIRONMENT, "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp"), "NO_PROXY": ""}


@pytest.fixture
def server() -> Iterator[WandbServer]:
    server = WandbServer()
    yield server
    server.close()


def leaks(folder: Path) -> list[str]:
    """Files that hold a canary."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [str(path.relative_to(folder)) for path in files if CANARY.encode() in path.read_bytes()]


def test_a_run_and_what_wandb_gets_of_it(
    tmp_path: Path, corpus: Path, environment: dict[str, str], server: WandbServer
) -> None:
    cloned = tmp_path / "home" / ".gitconfig"  # with a token, as W&B notes where a run's code is from
    cloned.write_text(f'[remote "origin"]\n\turl = https://{CANARY}Git:x-oauth-basic@host/code\n')
    recipe = write_recipe(tmp_path / "run.yaml", corpus, duration={"steps": 12}, tracking={"log_every_steps": 2})
    place = {"WANDB_BASE_URL": server.environment["WANDB_BASE_URL"]}
    with Job(recipe, 1, environment={**environment, **place}) as job:
        job.done()
    assert len(losses(job.run)) == 6
    (lines,) = server.lines.values()
    assert [line["step"] for line in lines if "train/loss" in line] == sorted(losses(job.run))
    assert list(job.run.glob("wandb/run-*/*.wandb"))
    assert any(b"4711" in body for body in server.bodies), "W&B notes SLURM's variables"
    assert not [body for body in server.bodies if CANARY.encode() in body]
    cloned.unlink()
    assert leaks(tmp_path) == []


@pytest.mark.parametrize("corpus_url", [f"{NOWHERE}/corpus?$SIGNATURE", "https://127.0.0.1:9/corpus?$SIGNATURE",
                                        "s3://bucket/corpus"])  # fmt: skip
def test_a_run_that_ends_with_an_error_about_a_url(
    tmp_path: Path, environment: dict[str, str], corpus_url: str
) -> None:
    cache = {"folder": str(tmp_path / "cache"), "attempts": 2, "first_pause_seconds": 0.01, "timeout_seconds": 2}
    data: dict[str, Any] = {"type": "corpus", "sources": [{"corpus": corpus_url, "source": "small"}],
                            "sequence_length": 32, "cache": cache}  # fmt: skip
    recipe = write_recipe(tmp_path / "run.yaml", tmp_path, data=data)
    with Job(recipe, 1, environment={**environment, "AWS_ENDPOINT_URL": NOWHERE}) as job:
        assert job.wait() == [2]
        assert "tarmac: " in job.said()
        assert "bucket/corpus" in job.said() or "127.0.0.1:9" in job.said()
    assert leaks(tmp_path) == []


@pytest.mark.parametrize(
    "word",
    [
        f"data.sources.0.corpus=s3://key:{CANARY}@bucket/corpus",
        f"data.sources.0.corpus=https://{CANARY}@host/corpus",
        f"data.sources.0.corpus=https://host/corpus?X-Amz-Signature={CANARY}",
        f"checkpoints.upload=s3://key:{CANARY}/with/slashes@bucket/run",
        f"checkpoints.upload=gs://bucket/run?token={CANARY}",
    ],
)
def test_a_config_with_a_secret_is_refused_without_telling_it(
    tmp_path: Path, corpus: Path, environment: dict[str, str], word: str
) -> None:
    recipe = write_recipe(tmp_path / "run.yaml", corpus)
    with Job(recipe, 1, word, environment=environment) as job:
        assert job.wait() == [2]
        (sentence,) = [line for line in job.said().splitlines() if line.startswith("tarmac: ")]
    assert word.partition("=")[0].rpartition(".")[2] in sentence
    assert "environment" in sentence
    assert not job.run.exists()
    assert leaks(tmp_path) == []


def test_wandb_that_is_not_reached_through_a_proxy(tmp_path: Path, environment: dict[str, str]) -> None:
    """Its sentence and its files tell where it failed, not the proxy's password."""
    run = Logging(tmp_path / "run", 1, 5, **environment, WANDB_BASE_URL="https://wandb.invalid").done()
    (warning,) = run.warnings
    assert "W&B is offline" in warning
    assert CANARY not in warning
    assert leaks(tmp_path) == []
