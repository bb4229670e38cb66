"""Contenders of `benchmarks.training`: each trains the same model on the same tokens, so many steps whenever asked.

A process reads numbers of steps from its input, a line each, and writes the seconds that they took, as JSON.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.training_peers import litgpt, trainer
from benchmarks.training_task import (
    BETAS,
    CLIPPING,
    LEARNING_RATE,
    VOCABULARY,
    Task,
    Turns,
    config_of,
    micro_batches,
)
from pipeline.config.run import RunConfig
from pipeline.data.batch import Batch
from pipeline.engine.engine import Engine
from pipeline.engine.parameter_groups import parameter_groups
from pipeline.engine.peak import measured_flops
from pipeline.engine.process_group import ProcessGroup
from pipeline.models.attention import piece_bounds
from pipeline.models.blocks import prepare_blocks
from pipeline.models.build import fresh_model
from pipeline.models.flops import training_flops_per_token
from pipeline.models.forms import decoder_config
from pipeline.models.processor import lacks_bf16, widen_products
from pipeline.objectives.causal import CausalLoss
from pipeline.runtime.ranks import ranks_from_environment
from pipeline.train.loop import steps


def tarmac(task: Task, turns: Turns, apart: bool = True, **engine: Any) -> None:
    """The loop of a run, without hooks."""
    config = config_of(task, **engine)
    with ProcessGroup(ranks_from_environment(), 300) as group:
        trained = Engine(_model(config, group.device), config, group)
        turns.measure(trained.deepspeed, "forward", "backward", "step")
        batches = (Batch(step, (micro,)) for step, micro in enumerate(micro_batches(task, apart)))
        turns.wait()
        for _ in steps(trained, batches, lambda step: 1.0, lambda made: False):
            if not turns.made_a_step():
                break


def _model(config: RunConfig, device: torch.device) -> CausalLoss:
    form = decoder_config(config.model, VOCABULARY, eos_id=0, pad_id=0)  # type: ignore[arg-type]
    model = fresh_model(form, 0, "fp32", config.engine.attention)
    if config.engine.precision == "bf16" and lacks_bf16(device):
        widen_products(model)
    return CausalLoss(model, config.engine.compile)


def bare(task: Task, turns: Turns) -> None:
    """The same mathematics in a loop of PyTorch: rounded weights, fp32 master weights, clipping, AdamW."""
    config = config_of(task)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if task.precision == "bf16" else torch.float32
    model = _model(config, device).to(device)
    masters = [parameter.detach().clone() for parameter in model.parameters()]
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    prepare_blocks(model, config.engine)
    by_master = dict(zip(model.parameters(), masters, strict=True))
    groups = [group | {"params": [by_master[one] for one in group["params"]]}
              for group in parameter_groups(model, config.optimizer)]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS, fused=True)
    turns.wait()
    for micro in micro_batches(task, apart=True):
        assert micro.position_ids is not None
        parts = (micro.input_ids, micro.labels, micro.position_ids, piece_bounds(micro.position_ids))
        loss = model(*(part.to(device, non_blocking=True) for part in parts))
        (loss / micro.labels.numel()).backward()
        for parameter, master in by_master.items():
            assert parameter.grad is not None
            master.grad, parameter.grad = parameter.grad.float(), None
        torch.nn.utils.clip_grad_norm_(masters, CLIPPING)
        optimizer.step()
        torch._foreach_copy_([parameter.data for parameter in by_master], masters)
        if not turns.made_a_step():
            break


CONTENDERS: dict[str, Callable[[Task, Turns], None]] = {
    "tarmac": tarmac,
    "tarmac-mixed": lambda task, turns: tarmac(task, turns, apart=False),
    "tarmac-mask": lambda task, turns: tarmac(task, turns, attention="sdpa"),
    "bare": bare,
    "trainer-deepspeed": lambda task, turns: trainer(task, turns, with_deepspeed=True),
    "trainer": lambda task, turns: trainer(task, turns, with_deepspeed=False),
    "litgpt": litgpt,
}
"""By name."""


def figures(task: Task) -> dict[str, float]:
    """FLOPs of a token, and those the machine makes in a second at best in such products."""
    torch.set_num_threads(task.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = 8192 if device.type == "cuda" else 1024
    form = decoder_config(config_of(task).model, VOCABULARY, 0, 0)  # type: ignore[arg-type]
    return {"flops": training_flops_per_token(form, task.length), "peak": measured_flops(device, size)}


def main() -> None:
    """`NAME FORM LENGTH SEQUENCES PRECISION THREADS`; `figures` in place of a name prints them and ends."""
    name, form, length, sequences, precision, threads = sys.argv[1:]
    task = Task(form, int(length), int(sequences), precision, int(threads))
    if name == "figures":
        print(json.dumps(figures(task)))
        return
    answers = os.dup(1)
    os.dup2(2, 1)
    torch.set_num_threads(task.threads)
    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"
    CONTENDERS[name](task, Turns(answers))


if __name__ == "__main__":
    main()
