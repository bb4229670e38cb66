"""A small corpus of real text, prepared once by the real command, and ways to run the real command line."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
import yaml

from tests.integration.storage import S3_SERVER, serving, without_proxies
from tests.zygote import ROOT, Forked

TIMEOUT_SECONDS = 240
OFFLINE = {"WANDB_MODE": "offline"}

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def environment() -> dict[str, str]:
    """No GPU, no key, no network; one thread for tiny tensors."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    return kept | {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def tarmac() -> Command:
    """Run a `tarmac` command; fails the test unless the status is the expected one."""

    def run(*words: str, status: int = 0, folder: Path = ROOT) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "pipeline.cli", *map(str, words)]
        done = subprocess.run(
            command, cwd=folder, env=environment(), capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=TIMEOUT_SECONDS,
        )  # fmt: skip
        said = done.stdout[-3000:] + done.stderr[-3000:]
        assert done.returncode == status, f"{words} ended with {done.returncode}:\n{said}"
        return done

    return run


@pytest.fixture(scope="session")
def forked(tmp_path_factory) -> Command:
    """Run a command that imports much, without the seconds of that: how it starts is not the subject."""
    folder = tmp_path_factory.mktemp("forked")

    def run(*words: object, status: int = 0) -> "subprocess.CompletedProcess[str]":
        said, errors = folder / "said", folder / "errors"
        words = [str(word) for word in words]
        process = Forked("pipeline.cli:main", [words], OFFLINE, said, errors=errors)
        done = subprocess.CompletedProcess(
            words, process.wait(TIMEOUT_SECONDS), said.read_text(), errors.read_text()
        )  # fmt: skip
        assert done.returncode == status, f"{words} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done

    return run


@pytest.fixture(scope="session")
def corpus(tmp_path_factory, tarmac) -> Path:
    """A corpus of some of the standard library's modules, with pairs."""
    folder = tmp_path_factory.mktemp("corpus")
    raw = folder / "raw"
    raw.mkdir()
    modules = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:60]
    for module in modules:
        shutil.copy(module, raw / module.name)
    config = {
        "stage": "prep", "output": str(folder / "prepared"), "validation_share": 0.1,
        "sources": [{"name": "code", "reader": {"type": "text", "paths": [f"{raw}/*.py"]}}],
        "tokenizer": {"type": "train", "vocab_size": 512},
        "shards": {"chunk_tokens": 8192, "shard_tokens": 65536},
        "pairs": {"enabled": True},
    }  # fmt: skip
    (folder / "prep.yaml").write_text(yaml.safe_dump(config))
    tarmac("prep", folder / "prep.yaml")
    return folder / "prepared"


def write_recipe(path: Path, corpus: Path, output: Path, **changes) -> Path:
    """A tiny pre-training recipe."""
    recipe = {
        "stage": "pretrain", "output": str(output), "seed": 1,
        "model": {"type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_layers": 2, "num_heads": 2,
                  "num_key_value_heads": 1, "max_positions": 256},
        "data": {"type": "corpus", "sources": [{"corpus": str(corpus), "source": "code"}], "sequence_length": 64},
        "batch": {"global_size": 12, "micro_size": 4},
        "duration": {"steps": 12},
        "optimizer": {"type": "adamw", "lr": 0.01},
        "schedule": {"type": "wsd", "warmup_steps": 2},
        "engine": {"zero_stage": 2, "compile": False, "gradient_clipping": 1.0},
        "checkpoints": {"every_steps": 4, "keep_last": 3},
        "evaluation": {"every_steps": 6, "max_sequences": 8},
        "tracking": {"log_every_steps": 3},
        **changes,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(recipe))
    return path


def rows(path: Path) -> list[dict]:
    """The whole lines of a JSON-lines file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """The address of a server of S3 that ends with the tests."""
    with serving(S3_SERVER) as address:
        yield address


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    """An empty bucket `crawl`, found by what users set: environment variables."""
    settings = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "secret"}
    for name, value in {**settings, "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    without_proxies(monkeypatch)
    system = fsspec.filesystem("s3", skip_instance_cache=True)
    if system.exists("crawl"):
        system.rm("crawl", recursive=True)
    system.mkdir("crawl")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield system
    fsspec.get_filesystem_class("s3").clear_instance_cache()
