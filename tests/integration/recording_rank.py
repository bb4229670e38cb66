"""A rank that writes down what its model is given."""

import json
import os
import signal
from pathlib import Path

import torch

from pipeline.cli import main
from pipeline.engine.engine import Engine
from pipeline.objectives.causal import CausalLoss


def train(words: list[str], folder: str, kill: str) -> int:
    """Train, and write a line to the folder for each forward pass that is learned from.

    `kill` says `rank:step`: that rank ends itself by SIGKILL in the middle of that step.
    """
    record(Path(folder), int(os.environ["RANK"]), kill)
    return main(words)


def record(folder: Path, rank: int, kill: str) -> None:
    """Put a writer in front of the forward pass of this process."""
    train_step, forward, made = Engine.train_step, CausalLoss.forward, {"step": 0}

    def noted_step(engine, batch, learning_rate_share):
        made["step"] = batch.step + 1
        return train_step(engine, batch, learning_rate_share)

    def noted_forward(loss, input_ids, labels, position_ids=None, bounds=None):
        if torch.is_grad_enabled():
            given = {"input_ids": input_ids, "labels": labels, "position_ids": position_ids}
            row = made | {name: None if one is None else one.tolist() for name, one in given.items()}
            with (folder / f"rank-{rank}.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            if kill == f"{rank}:{made['step']}":
                os.kill(os.getpid(), signal.SIGKILL)
        return forward(loss, input_ids, labels, position_ids, bounds)

    Engine.train_step, CausalLoss.forward = noted_step, noted_forward
