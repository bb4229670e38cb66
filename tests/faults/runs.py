"""Small runs for faults: a corpus made here, and ranks started as a launcher would start them, without one."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.distributed.jobs import free_port
from tests.unit.small import LLAMA, small_corpus, small_texts, small_tokenizer
from tests.zygote import ROOT, Forked


def small_corpus_folder(folder: Path, num_texts: int = 600) -> Path:
    """A corpus of one source, `small`, with a validation split."""
    tokenizer = small_tokenizer(folder / "tokenizer")
    small_corpus(folder / "corpus", tokenizer, small_texts(num_texts), small_texts(30, first=num_texts))
    return folder / "corpus"


def write_recipe(path: Path, corpus: Path, **changes: Any) -> Path:
    """A tiny run that takes some 20 ms a step; its folder lies beside the recipe."""
    recipe = {
        "stage": "pretrain", "output": str(path.with_suffix("")), "seed": 1,
        "model": LLAMA,
        "data": {"type": "corpus", "sources": [{"corpus": str(corpus), "source": "small"}], "sequence_length": 32},
        "batch": {"global_size": 8, "micro_size": 2},
        "duration": {"steps": 60},
        "optimizer": {"type": "adamw", "lr": 0.01},
        "schedule": {"type": "constant"},
        "engine": {"zero_stage": 2, "compile": False, "timeout_seconds": 60},
        "checkpoints": {"every_steps": 10, "keep_last": 6},
        "evaluation": {"every_steps": 100000, "max_sequences": 8},
        "tracking": {"log_every_steps": 1, "wandb": {"mode": "disabled"}},
        **changes,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(recipe))
    return path


def copy_of(run: Path, path: Path, corpus: Path, **changes: Any) -> Path:
    """A recipe at `path` whose run folder is a copy of a run made here."""
    shutil.copytree(run, path.with_suffix(""))
    return write_recipe(path, corpus, **changes)


class Job:
    """The ranks of one start of a run."""

    def __init__(
        self,
        recipe: Path,
        world_size: int = 2,
        *words: str,
        environment: Mapping[str, str] | None = None,
        call: str = "pipeline.cli:main",
        more: Sequence[Any] = (),
        folders: Sequence[Path] = (),
        verb: str = "train",
    ) -> None:
        """Start them; what they say is kept beside the recipe. `call` is what gets the command's words, and `more`.

        Each rank runs in its folder, if there are any.
        """
        self._verb, self._call, self._more = verb, call, more
        self.run, port = recipe.with_suffix(""), free_port()
        self._logs = [recipe.with_suffix(f".{rank}.log") for rank in range(world_size)]
        self._folders = folders or [ROOT] * world_size
        self.ranks = [
            self._start(recipe, rank, world_size, port, words, environment or {}) for rank in range(world_size)
        ]

    def _start(
        self, recipe: Path, rank: int, world_size: int, port: int, words: tuple[str, ...], more: Mapping[str, str]
    ) -> Forked:
        environment = {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port), **more,
        }  # fmt: skip
        call = [[self._verb, str(recipe), *words], *self._more]
        return Forked(self._call, call, environment, self._logs[rank], self._folders[rank])

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *error: object) -> None:
        """Leave no rank behind."""
        for rank in self.ranks:
            if rank.poll() is None:
                rank.kill()
            rank.wait()

    @property
    def is_running(self) -> bool:
        return any(rank.poll() is None for rank in self.ranks)

    def send(self, number: signal.Signals, rank: int) -> None:
        self.ranks[rank].send_signal(number)

    def wait(self, seconds: float = 120) -> list[int]:
        """The exit status of each rank; fails if one runs longer."""
        end = time.monotonic() + seconds
        try:
            return [rank.wait(max(0.1, end - time.monotonic())) for rank in self.ranks]
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"a rank still runs after {seconds} s:\n{self.said()}") from error

    def done(self, seconds: float = 120) -> None:
        """Wait for an orderly end."""
        statuses = self.wait(seconds)
        assert statuses == [0] * len(self.ranks), f"{statuses}:\n{self.said()}"

    def said(self) -> str:
        """What all ranks said."""
        return "".join(f"--- rank {n}\n{log.read_text()[-20000:]}" for n, log in enumerate(self._logs))

    def wait_until(self, holds: Callable[[], Any], seconds: float = 90) -> None:
        """Wait until something holds; fails if the job ends before."""
        end = time.monotonic() + seconds
        while not holds():
            assert self.is_running, f"the job ended:\n{self.said()}"
            assert time.monotonic() < end, f"it took more than {seconds} s:\n{self.said()}"
            time.sleep(0.005)

    def wait_for_step(self, step: int) -> None:
        self.wait_until(lambda: last_step(self.run) >= step)


def rows(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSON-lines file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def last_step(run: Path) -> int:
    """The last step that rank 0 has made, by its ledger."""
    path = run / "ledger" / "rank-00000.jsonl"
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 400))
            lines = file.read().splitlines(keepends=True)
    except FileNotFoundError:
        return 0
    whole = [json.loads(line) for line in lines[-2:] if line.endswith(b"\n") and line.startswith(b"{")]
    return int(whole[-1]["step"]) if whole else 0


def events(run: Path, *kinds: str) -> list[dict[str, Any]]:
    """Events of the journal, of some kinds or all."""
    return [row for row in rows(run / "journal.jsonl") if not kinds or row["event"] in kinds]


def losses(run: Path) -> dict[int, float]:
    """The loss that each step was logged with last."""
    return {row["step"]: row["train/loss"] for row in rows(run / "metrics.jsonl") if "train/loss" in row}


def ledger(run: Path, rank: int) -> dict[int, str]:
    """Digest per step; a step that was run twice must have the same one."""
    result: dict[int, str] = {}
    for row in rows(run / "ledger" / f"rank-{rank:05d}.jsonl"):
        assert result.setdefault(row["step"], row["digest"]) == row["digest"], f"step {row['step']} saw other data"
    return result
