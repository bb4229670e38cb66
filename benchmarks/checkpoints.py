"""How long a checkpoint stalls training: written beside it against written while it waits, in turns in one process.

    python -m benchmarks.checkpoints --hidden 512 --layers 12 --ranks 2 --repeats 5

Each round trains a few steps, saves synchronously, trains, saves asynchronously, and trains until that is committed.
The stall is what training waited for; the slowdown is what the steps beside the writing took more.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as multiprocessing

from benchmarks.common import machine
from pipeline.config.load import validate
from pipeline.config.run import RunConfig
from pipeline.data.batch import Batch, MicroBatch
from pipeline.engine.checkpoint.fragments import prepare
from pipeline.engine.checkpoint.saving import Label, Saver
from pipeline.engine.engine import Engine
from pipeline.engine.process_group import ProcessGroup
from pipeline.models.build import fresh_model
from pipeline.models.forms import decoder_config
from pipeline.objectives.causal import CausalLoss
from pipeline.runtime.ranks import ranks_from_environment

LENGTH, VOCABULARY = 64, 4096
TARGET = 0.10
"""Largest stall as a share of a synchronous save of the same state."""


def main() -> None:
    """Print one JSON object; it says whether the target is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--stage", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", default=None, help="where to write (a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.ranks == 1:
            _rank(0, options, folder)
        else:
            multiprocessing.spawn(_rank, (options, folder), nprocs=options.ranks)
        print((Path(folder) / "result.json").read_text())


def _rank(rank: int, options: argparse.Namespace, folder: str) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(options.ranks)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": os.environ.get("MASTER_PORT", "29591")}
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // options.ranks))
    with ProcessGroup(ranks_from_environment(), 300) as group:
        engine = _engine(options, group)
        prepare(engine)
        rounds = list(_rounds(engine, Path(folder) / "checkpoints", options.repeats))
        if group.ranks.is_main:
            (Path(folder) / "result.json").write_text(json.dumps(_result(rounds, options), indent=1))


def _engine(options: argparse.Namespace, group: ProcessGroup) -> Engine:
    config = validate(RunConfig, {
        "stage": "pretrain", "output": "unused",
        "model": {"type": "llama", "hidden_size": options.hidden, "intermediate_size": 3 * options.hidden,
                  "num_layers": options.layers, "num_heads": 8, "num_key_value_heads": 8, "max_positions": LENGTH},
        "data": {"type": "corpus", "sources": [{"corpus": "unused", "source": "unused"}], "sequence_length": LENGTH},
        "batch": {"global_size": 2 * options.ranks, "micro_size": 2}, "duration": {"steps": 1},
        "optimizer": {"type": "adamw", "lr": 1e-3},
        "engine": {"zero_stage": options.stage, "compile": False, "precision": "fp32"},
    }, "benchmark")  # fmt: skip
    model = fresh_model(decoder_config(config.model, VOCABULARY, eos_id=0, pad_id=0), 0, "fp32", "sdpa")
    return Engine(CausalLoss(model), config, group)


def _rounds(engine: Engine, checkpoints: Path, repeats: int) -> Any:
    savers = {"synchronous": Saver(engine, checkpoints), "asynchronous": Saver(engine, checkpoints, asynchronous=True)}
    step = 0
    for _ in range(repeats + 1):  # the first warms caches up
        row: dict[str, Any] = {"alone": [_train(engine, step + n) for n in range(4)]}
        step += 4
        for name, saver in savers.items():
            saver.begin(Label(step, {}))
            beside = []
            while saver.is_pending:
                busy = engine.group.max(saver.is_busy)
                saved = None if busy else saver.advance()
                if saver.is_pending:
                    beside.append(_train(engine, step))
                    step += 1
            row |= {name: saver.stall_seconds, f"{name} whole": saved.seconds, "bytes": saved.commit.bytes}
            row["beside"] = beside
        yield row


def _train(engine: Engine, step: int) -> float:
    generator = torch.Generator().manual_seed(step)
    tokens = torch.randint(VOCABULARY, (2, LENGTH + 1), generator=generator)
    start = time.perf_counter()
    engine.train_step(Batch(step, (MicroBatch(tokens[:, :-1].clone(), tokens[:, 1:].clone()),)), 1.0)
    return time.perf_counter() - start


def _result(rounds: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    measured = rounds[1:]
    ratios = [row["asynchronous"] / row["synchronous"] for row in measured]
    alone = statistics.median(seconds for row in measured for seconds in row["alone"])
    beside = statistics.median([seconds for row in measured for seconds in row["beside"]] or [alone])
    return {
        "machine": machine(), "ranks": options.ranks, "zero stage": options.stage,
        "megabytes": round(measured[-1]["bytes"] / 1e6, 1),
        "synchronous save, seconds": round(statistics.median(row["synchronous"] for row in measured), 3),
        "asynchronous stall, seconds": round(statistics.median(row["asynchronous"] for row in measured), 3),
        "asynchronous save until it is committed, seconds":
            round(statistics.median(row["asynchronous whole"] for row in measured), 3),
        "stall as a share: median, most": [round(statistics.median(ratios), 4), round(max(ratios), 4)],
        "target": TARGET, "met": statistics.median(ratios) <= TARGET,
        "step alone, seconds": round(alone, 3), "step beside writing, seconds": round(beside, 3),
    }  # fmt: skip


if __name__ == "__main__":
    main()
