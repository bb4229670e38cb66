"""What contenders of `benchmarks.training` train, on what, and when it is their turn."""

import json
import os
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pipeline.config.load import validate
from pipeline.config.run import RunConfig
from pipeline.data.batch import MicroBatch

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
