"""The demo: raw text in; a trained, fine-tuned, evaluated and exported model out, one rank killed on the way.

Every step is a plain `tarmac` command, echoed before it runs, that a user could type.
"""

import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from pipeline.config.load import load
from pipeline.config.run import RunConfig
from pipeline.runtime.files import read_json_lines

CLUSTER = "configs/cluster/local.yaml"
CORPUS = Path("data/stdlib")
RUN, PLAIN_RUN, TUNED = Path("runs/demo"), Path("runs/demo-uninterrupted"), Path("runs/demo-sft")
EXPORT = Path("exports/demo")
TRAIN = ["launch", "configs/pretrain/demo.yaml", "--cluster", CLUSTER]
TINY = ["model.hidden_size=16", "model.intermediate_size=16", "model.num_layers=1", "model.num_heads=1",
        "model.num_key_value_heads=1", "engine.compile=false", "evaluation.max_sequences=8",
        "tracking.wandb.mode=disabled"]  # fmt: skip

console = Console(highlight=False)


class DemoError(SystemExit):
    """The demo did not do what it promises."""


def main() -> None:
    """Run everything and print the minutes of each part."""
    _remove_earlier()
    minutes: dict[str, float] = {}
    for name, part in (
        ("prep", _prep), ("train, killed and resumed", _train), ("same data, uninterrupted", _compare),
        ("finetune", _finetune), ("eval", _evaluate), ("generate", _generate), ("export", _export), ("report", _report),
    ):  # fmt: skip
        console.rule(name)
        start = time.monotonic()
        part()
        minutes[name] = (time.monotonic() - start) / 60
    table = Table("Part", "Minutes", title="The demo")
    for name, spent in [*minutes.items(), ("all", sum(minutes.values()))]:
        table.add_row(name, f"{spent:.2f}")
    console.print(table)


def _remove_earlier() -> None:
    """What an earlier demo left is deleted, so that each demo shows everything; nothing else is."""
    for folder in (CORPUS, RUN, PLAIN_RUN, TUNED, EXPORT):
        shutil.rmtree(folder, ignore_errors=True)


def _start(*words: str) -> "subprocess.Popen[bytes]":
    console.print(f"\n[bold]$ tarmac {shlex.join(words)}[/bold]")
    return subprocess.Popen([sys.executable, "-m", "pipeline.cli", *words])


def _tarmac(*words: str) -> None:
    """Run a command; the demo ends if it fails."""
    status = _start(*words).wait()
    if status:
        raise DemoError(f"demo: `tarmac {words[0]}` ended with {status}")


def _prep() -> None:
    _tarmac("prep", "configs/data_prep/stdlib.yaml")


def _train() -> None:
    job = _start(*TRAIN)
    recipe = load(RunConfig, "configs/pretrain/demo.yaml")
    _wait_for_kill(job, recipe.evaluation.every_steps * 4 // 5)
    victim = _last_rank(job)
    rank = victim.environ()["RANK"]
    console.print(f"\n[bold red]demo: now rank {rank} (process {victim.pid}) is killed with SIGKILL;"
                  " what the others say of it below is expected[/bold red]")  # fmt: skip
    victim.send_signal(signal.SIGKILL)
    status = job.wait()
    console.print(f"[bold red]demo: the job ended with status {status}; the same command again[/bold red]")
    if status == 0:
        raise DemoError("demo: the job ended with 0 although a rank was killed")
    _tarmac(*TRAIN)
    resumed = [event for event in read_json_lines(RUN / "journal.jsonl") if event["event"] == "resume"]
    console.print(f"demo: resumed at step {resumed[-1]['step']} of {recipe.num_steps}")


def _wait_for_kill(job: "subprocess.Popen[bytes]", step: int) -> None:
    """Wait until a step is done and a checkpoint is older than the newest step.

    The step is some way before the first evaluation: a kill while that is compiled shows the compiler's complaints.
    """
    while job.poll() is None:
        steps = [row["step"] for row in read_json_lines(RUN / "metrics.jsonl") if "train/loss" in row]
        saves = [event["step"] for event in read_json_lines(RUN / "journal.jsonl") if event["event"] == "save"]
        if steps and saves and steps[-1] >= step and steps[-1] > saves[-1]:
            return
        time.sleep(0.2)
    raise DemoError(f"demo: training ended with {job.returncode} before a rank could be killed")


def _last_rank(job: "subprocess.Popen[bytes]") -> psutil.Process:
    """The job's process with the highest rank."""
    ranks = [
        process
        for process in psutil.Process(job.pid).children(recursive=True)
        if "pipeline.cli" in process.cmdline() and "RANK" in process.environ()
    ]
    if not ranks:
        raise DemoError("demo: the job has no rank to kill")
    return max(ranks, key=lambda process: int(process.environ()["RANK"]))


def _compare() -> None:
    """Train a tiny model on the same data without a kill: what reaches `forward` does not depend on the model."""
    console.print("The same recipe with a one-layer model, uninterrupted: its ledger must be that of the killed run.")
    _tarmac(*TRAIN, f"output={PLAIN_RUN}", *TINY)
    table = Table("Rank", "Steps", "Steps done again", "Digests equal", title="Tokens as passed to forward, per step")
    for path in sorted((RUN / "ledger").iterdir()):
        killed = read_json_lines(path)
        plain = {row["step"]: row["digest"] for row in read_json_lines(PLAIN_RUN / "ledger" / path.name)}
        equal = sum(plain[row["step"]] == row["digest"] for row in killed)
        steps = {row["step"] for row in killed}
        rank, twice = path.stem.removeprefix("rank-"), len(killed) - len(steps)
        table.add_row(rank, str(len(steps)), str(twice), f"{equal} of {len(killed)}")
        if equal != len(killed) or steps != plain.keys():
            raise DemoError(f"demo: {path.name}: the resumed run saw other data than an uninterrupted one")
    console.print(table)


def _finetune() -> None:
    _tarmac("launch", "configs/finetune/sft.yaml", "--cluster", CLUSTER)


def _evaluate() -> None:
    _tarmac("eval", "configs/evaluate/demo.yaml")


def _generate() -> None:
    _tarmac("generate", str(RUN), "--prompt", "def read_file(path):", "--max-new-tokens", "96")
    question = "def is_absolute(self):"
    _tarmac("generate", str(TUNED), "--chat", "--prompt", question, "--max-new-tokens", "48", "--temperature", "0")
    _tarmac("generate", str(RUN), "--few-shot", str(CORPUS / "pairs" / "validation.jsonl"), "--max-new-tokens", "48")


def _export() -> None:
    _tarmac("export", "configs/export/huggingface.yaml", f"run={RUN}", f"output={EXPORT}")


def _report() -> None:
    _tarmac("report", str(RUN))


if __name__ == "__main__":
    main()
