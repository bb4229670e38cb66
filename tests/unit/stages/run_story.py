"""A run folder with a history: 600 steps, killed at 340, resumed at 300, written by the real writers."""

import math
from pathlib import Path
from typing import Any

from pipeline.config.load import dump, validate
from pipeline.config.run import RunConfig
from pipeline.corpus.manifest import Manifest, ShardEntry, TokenizerEntry, write_manifest
from pipeline.runtime.files import append_json_line, write_json, write_text

BEGIN = 1_760_000_000.0
SAVED = (100, 200, 300, 400, 500, 600)


def tell_run(folder: Path, corpus: Path) -> Path:
    """Write the run's folder and the corpus it names; the run's folder."""
    _write_corpus(corpus)
    start_run(folder, corpus)
    _first_session(folder)
    _second_session(folder)
    for row in evaluations():
        append_json_line(folder / "evaluations.jsonl", row)
    for row in samples():
        append_json_line(folder / "samples.jsonl", row)
    return folder


def start_run(folder: Path, corpus: Path) -> Path:
    """A run folder in which nothing has happened yet."""
    config = {
        "stage": "pretrain",
        "output": str(folder),
        "model": {
            "type": "llama", "hidden_size": 192, "intermediate_size": 512, "num_layers": 4, "num_heads": 4,
            "num_key_value_heads": 4,
        },
        "data": {
            "type": "corpus",
            "sequence_length": 256,
            "sources": [
                {"corpus": str(corpus), "source": "stdlib", "weight": 3},
                {"corpus": str(corpus.with_name("absent")), "source": "web", "weight": 1},
            ],
        },
        "batch": {"global_size": 64, "micro_size": 16},
        "duration": {"steps": 600},
        "optimizer": {"type": "muon", "lr": 0.06, "adam_lr": 8e-3},
        "engine": {"gradient_clipping": 0},
    }  # fmt: skip
    folder.mkdir(parents=True)
    write_text(folder / "config.yaml", dump(validate(RunConfig, config, "story")))
    write_json(
        folder / "environment.json",
        {"host": "node-1", "python": "3.11.7", "parameters": 2_620_000, "versions": {"torch": "2.13.0"}},
    )
    return folder


def event(folder: Path, name: str, time: float, **details: Any) -> None:
    """A journal event at a time of the story."""
    append_json_line(folder / "journal.jsonl", {"event": name, "time": time, **details})


def training_row(step: int, time: float) -> dict[str, Any]:
    """What a step logs."""
    wobble = math.sin(step * 12.9898) * 43758.5453 % 1 - 0.5
    return {
        "step": step,
        "time": time,
        "train/loss": 2.1 + 6.2 * math.exp(-step / 60) + 0.9 * math.exp(-step / 300) + 0.12 * wobble,
        "train/learning_rate": 0.06 * min(step / 40, 1) * (1 if step < 480 else (600 - step) / 120 * 0.9 + 0.1),
        "train/gradient_norm": 0.6 + 2 * math.exp(-step / 40) + 0.25 * abs(wobble) + (3.1 if step == 220 else 0),
        "train/tokens": step * 64 * 256.0,
        "perf/tokens_per_second": 52_000 + 3000 * wobble - (20_000 if step % 300 == 10 else 0),
        "perf/mfu": 0.41 + 0.02 * wobble - (0.15 if step % 300 == 10 else 0),
        "perf/step_seconds": 0.31,
        "perf/memory_bytes": 1.4e9,
    }


def train_steps(folder: Path, first: int, last: int, begin: float) -> None:
    """Rows every 5 steps after `first`, validation every 50, a checkpoint every 100."""
    for step in range(first + 5, last + 1, 5):
        time = begin + (step - first) * 0.31
        row = training_row(step, time)
        append_json_line(folder / "metrics.jsonl", row)
        if step % 50 == 0:
            loss = row["train/loss"] + 0.05
            held_out = {"validation/loss": loss, "validation/bits_per_byte": loss * 0.49, "validation/tokens": 65536.0}
            append_json_line(folder / "metrics.jsonl", {"step": step, "time": time + 1, **held_out})
        if step in SAVED:
            event(folder, "save", time + 2, step=step, bytes=31_400_000, seconds=0.114)
            if step >= 400:
                (folder / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)


def _first_session(folder: Path) -> None:
    event(folder, "start", BEGIN, step=0, world_size=2)
    train_steps(folder, 0, 340, BEGIN + 12)


def _second_session(folder: Path) -> None:
    event(folder, "resume", BEGIN + 150, step=300, world_size=4)
    train_steps(folder, 300, 600, BEGIN + 160)
    event(folder, "end", BEGIN + 256, step=600, reason="complete")


def evaluations() -> list[dict[str, Any]]:
    """Rows as `tarmac eval` appends them."""
    row = {"step": 600, "set": "stdlib", "tokens": 402_111, "unigram_loss": 6.02}
    pairs = {"step": 600, "set": "pairs", "tokens": 9_214, "unigram_loss": None}
    return [
        {**row, "time": BEGIN + 300, "loss": 2.31, "perplexity": 10.07, "bits_per_byte": 1.13},
        {**pairs, "time": BEGIN + 310, "loss": 2.9, "perplexity": 18.17, "bits_per_byte": 1.42},
    ]


def samples() -> list[dict[str, Any]]:
    """Rows as `tarmac generate` appends them, one of them hostile."""
    row = {"time": BEGIN + 320, "step": 600, "temperature": 0.8, "seed": 7}
    code = '(self, value):\n        """Return the value of the option."""\n        return self._options[value]\n'
    return [
        {**row, "prompt": "def get_option", "continuation": code},
        {**row, "prompt": "<script>alert(1)</script>", "continuation": "</pre></script><img src=x onerror=alert(2)>"},
    ]


def _write_corpus(folder: Path) -> None:
    folder.mkdir(parents=True)
    shards = [
        ShardEntry(
            name=f"stdlib-{number:06d}.tar", bytes=2_210_000, sha256="0" * 64, tokens=1_048_576, documents=190,
            text_bytes=3_310_000, chunks=1,
        )
        for number in range(8)
    ]  # fmt: skip
    write_manifest(
        folder,
        Manifest(
            format_version=1, dtype="uint16",
            tokenizer=TokenizerEntry(fingerprint="ab" * 32, vocab_size=4096, eos_id=2),
            config_sha256="0" * 64, versions={}, train={"stdlib": shards}, validation={"stdlib": shards[:1]},
            statistics={
                "sources": {"stdlib": {"read": 1904, "kept": 1710, "dropped": {"duplicate": 160, "short": 34},
                                       "text_bytes": 29_790_000}},
            },
        ),
    )  # fmt: skip
