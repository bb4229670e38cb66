"""Contenders of `benchmarks.training`: each trains the same model on the same tokens, so many steps whenever asked.

A process reads numbers of steps from its input, a line each, and writes the seconds that they took, as JSON.
"""

import json
import os
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pipeline.config.load import validate
from pipeline.config.run import RunConfig
from pipeline.data.batch import Batch, MicroBatch
from pipeline.engine.engine import Engine
from pipeline.engine.parameter_groups import parameter_groups
from pipeline.engine.peak import measured_flops
from pipeline.engine.process_group import ProcessGroup, complete_environment
from pipeline.models.attention import piece_bounds
from pipeline.models.blocks import prepare_blocks
from pipeline.models.build import fresh_model
from pipeline.models.flops import training_flops_per_token
from pipeline.models.forms import decoder_config
from pipeline.models.processor import lacks_bf16, widen_products
from pipeline.objectives.causal import CausalLoss
from pipeline.runtime.ranks import ranks_from_environment
from pipeline.train.loop import steps

VOCABULARY = 16_384
FORMS = {
    "tiny": {"hidden_size": 32, "intermediate_size": 64, "num_layers": 2, "num_heads": 4, "num_key_value_heads": 2},
    "10M": {"hidden_size": 256, "intermediate_size": 704, "num_layers": 8, "num_heads": 4, "num_key_value_heads": 2},
    "50M": {"hidden_size": 512, "intermediate_size": 1408, "num_layers": 14, "num_heads": 8, "num_key_value_heads": 4},
}
"""Models by their number of parameters; 10M and 50M of a vocabulary of 16,384 with tied embeddings."""
_DOCUMENT_BYTES, _BYTES_PER_TOKEN = 8_000, 4
LEARNING_RATE, WEIGHT_DECAY, CLIPPING, BETAS = 3e-4, 0.1, 1.0, (0.9, 0.95)


class Task(NamedTuple):
    """What is trained, on what."""

    form: str
    length: int
    sequences: int
    """Of a step, in one micro batch."""
    precision: str
    threads: int


def config_of(task: Task, **engine: Any) -> RunConfig:
    """Tarmac's config of a task; `engine` changes its engine block."""
    return validate(RunConfig, {
        "stage": "pretrain", "output": "unused",
        "model": {"type": "llama", "max_positions": task.length, "tie_embeddings": True, **FORMS[task.form]},
        "data": {"type": "corpus", "sources": [{"corpus": "unused", "source": "unused"}],
                 "sequence_length": task.length},
        "batch": {"global_size": task.sequences, "micro_size": task.sequences}, "duration": {"steps": 1},
        "optimizer": {"type": "adamw", "lr": LEARNING_RATE, "betas": BETAS, "weight_decay": WEIGHT_DECAY},
        "engine": {"zero_stage": 1, "precision": task.precision, "gradient_clipping": CLIPPING, **engine},
    }, "benchmark")  # fmt: skip


def micro_batches(task: Task, apart: bool) -> Iterator[MicroBatch]:
    """Random tokens in documents as long as the standard library's sources, cut at 8 kB, laid end to end."""
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    sizes = np.array([min(path.stat().st_size, _DOCUMENT_BYTES) // _BYTES_PER_TOKEN + 1 for path in paths])
    source = np.random.default_rng(0)
    begins = _begins(sizes, source)
    while True:
        shape = (task.sequences, task.length)
        ids = torch.from_numpy(source.integers(VOCABULARY, size=shape))
        positions = torch.from_numpy(_positions(begins, shape)) if apart else None
        yield MicroBatch(ids, ids.roll(-1, 1), positions)


def _begins(sizes: np.ndarray, source: np.random.Generator) -> Iterator[int]:
    """Without end, 1 where a token is the first of a document."""
    while True:
        for size in source.permutation(sizes):
            yield 1
            yield from [0] * (int(size) - 1)


def _positions(begins: Iterator[int], shape: tuple[int, int]) -> np.ndarray:
    first = np.fromiter(islice(begins, shape[0] * shape[1]), np.int64).reshape(shape)
    first[:, 0] = 1
    places = np.arange(shape[1])
    return places - np.maximum.accumulate(np.where(first == 1, places, 0), axis=1)


class Turns:
    """Tells a contender's loop when its turn is over, and the program how long it took."""

    def __init__(self, answers: int) -> None:
        """Answers go to a file descriptor of their own: libraries print where they like."""
        self._answers, self._left, self._parts = answers, 0, Parts()

    def wait(self) -> bool:
        """Wait for the next turn; whether there is one."""
        line = sys.stdin.readline()
        self._left, self._start = int(line or 0), time.perf_counter()
        return self._left > 0

    def made_a_step(self) -> bool:
        """Whether to go on."""
        self._left -= 1
        if self._left:
            return True
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        answer = {"seconds": time.perf_counter() - self._start, "parts": self._parts.take()}
        os.write(self._answers, json.dumps(answer).encode() + b"\n")
        return self.wait()

    def measure(self, owner: Any, *names: str) -> None:
        """Add up what calls of these methods of an object take."""
        for name in names:
            setattr(owner, name, self._parts.timed(getattr(owner, name)))


class Parts:
    """Seconds inside of some functions; on a CPU, where nothing runs behind one's back."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""

        def call(*arguments: Any, **settings: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **settings)
            finally:
                self._seconds += time.perf_counter() - start

        return call

    def take(self) -> float:
        """The sum since the last call."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


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


def trainer(task: Task, turns: Turns, with_deepspeed: bool) -> None:
    """transformers' Trainer: rows in a data set, documents told by positions, its own loss."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class AfterStep(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = not turns.made_a_step()

    is_bf16 = task.precision == "bf16"
    if with_deepspeed:  # which else looks for MPI
        complete_environment(ranks_from_environment())
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=task.sequences, max_steps=10**6, learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant", weight_decay=WEIGHT_DECAY, adam_beta1=BETAS[0], adam_beta2=BETAS[1],
            max_grad_norm=CLIPPING, bf16=is_bf16, report_to=[], save_strategy="no", logging_steps=10**9,
            disable_tqdm=True, use_cpu=not torch.cuda.is_available(), dataloader_num_workers=0, torch_compile=False,
            optim="adamw_torch_fused", deepspeed=_deepspeed(task, is_bf16) if with_deepspeed else None,
        )  # fmt: skip
        form = decoder_config(config_of(task).model, VOCABULARY, eos_id=0, pad_id=0)  # type: ignore[arg-type]
        model = fresh_model(form, 0, "fp32", "sdpa")
        turns.wait()
        Trainer(model, arguments, train_dataset=_rows(task), callbacks=[AfterStep()]).train()


def _deepspeed(task: Task, is_bf16: bool) -> dict[str, Any]:
    optimizer = {"lr": LEARNING_RATE, "betas": list(BETAS), "eps": 1e-8, "weight_decay": WEIGHT_DECAY}
    return {
        "train_micro_batch_size_per_gpu": task.sequences, "gradient_accumulation_steps": 1,
        "gradient_clipping": CLIPPING, "bf16": {"enabled": is_bf16}, "zero_optimization": {"stage": 1},
        "optimizer": {"type": "AdamW", "params": optimizer | {"torch_adam": True}},
    }  # fmt: skip


def _rows(task: Task) -> torch.utils.data.IterableDataset[dict[str, torch.Tensor]]:
    class Rows(torch.utils.data.IterableDataset[dict[str, torch.Tensor]]):
        def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
            for micro in micro_batches(task, apart=True):
                assert micro.position_ids is not None
                for row in range(task.sequences):
                    ids = micro.input_ids[row]
                    yield {"input_ids": ids, "labels": ids, "position_ids": micro.position_ids[row]}

    return Rows()


CONTENDERS: dict[str, Callable[[Task, Turns], None]] = {
    "tarmac": tarmac,
    "tarmac-mixed": lambda task, turns: tarmac(task, turns, apart=False),
    "tarmac-mask": lambda task, turns: tarmac(task, turns, attention="sdpa"),
    "bare": bare,
    "trainer-deepspeed": lambda task, turns: trainer(task, turns, with_deepspeed=True),
    "trainer": lambda task, turns: trainer(task, turns, with_deepspeed=False),
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
