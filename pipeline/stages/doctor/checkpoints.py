"""What a run's checkpoints would take here, and how often to write them.

The interval is Young's, sqrt(2 · MTTF · save time) (Young 1974, doi 10.1145/361147.361115): written more often,
checkpoints cost more than what is trained again after a failure; less often, the other way round.
"""

import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pipeline.config.checkpoints import Checkpoints
from pipeline.config.decoders import Decoder
from pipeline.config.optimization import Lion, Muon, Optimizer
from pipeline.config.run import RunConfig
from pipeline.engine.checkpoint.layout import MASTER, Fragment
from pipeline.engine.checkpoint.snapshot import Snapshot
from pipeline.engine.checkpoint.tensors import Part, write_tensors
from pipeline.engine.memory import has_two_moments
from pipeline.errors import RunError
from pipeline.runtime.columns import counted
from pipeline.runtime.files import available_bytes
from pipeline.stages.form import USUAL_VOCABULARY, vocabulary

GPU_HOURS_PER_FAILURE = 54 * 24 * 16_384 / 419
"""Llama 3's training had 419 unexpected interruptions in 54 days on 16,384 GPUs (arXiv:2407.21783, table 5)."""

Row = tuple[str, str, str]
"""What, how much, and why."""

_SAMPLE_BYTES, _LEAST_BYTES = 16 << 20, 1 << 12
_NUM_SAMPLES = 4
_MOST_SECONDS = 10.0
"""After which no other sample is written."""


@dataclass(frozen=True)
class Cost:
    """What one checkpoint takes."""

    weight_bytes: int
    moment_bytes: int
    save_seconds: float
    """From its beginning to its commit."""
    wait_seconds: float
    """How long training waits for it."""

    @property
    def bytes(self) -> int:
        """Size."""
        return self.weight_bytes + self.moment_bytes


def checkpoint_rows(config: RunConfig, model: nn.Module, ranks: int, mttf_hours: float | None = None) -> list[Row]:
    """What a run's checkpoints take, for how many there is room, and how often to write them.

    Args:
        config: The run.
        model: Its model with its adapter; it needs no memory.
        ranks: Their number.
        mttf_hours: Mean time between failures of the job; that of Llama 3's GPUs, by their number, if not given.

    Raises:
        RunError: The output cannot be written.
    """
    weights, moments = checkpoint_bytes(config, model)
    folder = _nearest_folder(config.output)
    write, copy = _measured(config.output, folder)
    save = (weights + moments) / write
    wait = (weights + moments) / ranks / copy if config.checkpoints.asynchronous else save
    cost = Cost(weights, moments, save, wait)
    return [
        ("checkpoint", f"{cost.bytes / 1e9:.3f} GB", _parts(config, cost)),
        ("writing", f"{write / 1e9:.2f} GB/s", f"hashed and synced, by one process, in {folder}"),
        ("save", f"{cost.save_seconds:.2f} s", "by that speed; where ranks write beside each other it is less"),
        ("training waits", f"{cost.wait_seconds:.2f} s", _what_is_waited_for(config.checkpoints, copy)),
        _room(config, available_bytes(folder) // max(1, cost.bytes)),
        *_interval(config.checkpoints, cost, ranks, mttf_hours),
    ]


def checkpoint_bytes(config: RunConfig, model: nn.Module) -> tuple[int, int]:
    """Bytes of the weights, with their average, and of the optimizer's moments in a checkpoint, of all ranks together.

    Args:
        config: The run.
        model: Its model with its adapter; it needs no memory. Weights that are not trained are not written.
    """
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    saved = model.state_dict().keys()
    buffers = sum(one.nbytes for name, one in model.named_buffers() if name in saved)
    weight_bytes = 4 if config.ema.decay is None else 8
    weights = weight_bytes * sum(one.numel() for one in trained.values()) + buffers
    return weights, sum(_moment_bytes(config.optimizer, *one) * one[1].numel() for one in trained.items())


def young_seconds(mttf_hours: float, cost: Cost) -> float:
    """Seconds between checkpoints by which the least time is lost."""
    return math.sqrt(2 * 3600 * mttf_hours * cost.wait_seconds)


def _moment_bytes(optimizer: Optimizer, name: str, parameter: nn.Parameter) -> int:
    """What is kept of each element besides itself: two moments in fp32, or one."""
    has_one = isinstance(optimizer, Lion) or (isinstance(optimizer, Muon) and not has_two_moments(name, parameter))
    return 4 if has_one else 8


def _nearest_folder(output: str) -> Path:
    """The run's folder, or the one in which it would be made."""
    folder = (Path(output) / "checkpoints").absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def _measured(output: str, folder: Path) -> tuple[float, float]:
    """Bytes a second that one process writes as checkpoints are written, and copies into host memory before."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = min(_SAMPLE_BYTES, available_bytes(folder) // (2 * _NUM_SAMPLES))  # a small disk is not filled
    values = torch.rand(max(size, _LEAST_BYTES) // 4)
    try:
        with tempfile.TemporaryDirectory(prefix=".tarmac-doctor-", dir=folder) as scratch:
            return _write_speed(Path(scratch), values), _copy_speed(values.to(device))
    except OSError as error:
        raise RunError(f"output {output} cannot be written: {error.strerror}; choose another or mend it") from error


def _write_speed(scratch: Path, values: torch.Tensor) -> float:
    part = Part("master/sample", tuple(values.shape), 0, values.numel(), values.dtype, lambda: values)
    start, written = time.perf_counter(), 0
    for number in range(_NUM_SAMPLES):
        if time.perf_counter() - start < _MOST_SECONDS:
            written += write_tensors(scratch, str(number), [part])[0].bytes
    return written / (time.perf_counter() - start)


def _copy_speed(values: torch.Tensor) -> float:
    snapshot = Snapshot(values.nbytes, values.device)
    sample = Fragment(MASTER, "sample", tuple(values.shape), 0, values, True)
    start = time.perf_counter()
    for _ in range(_NUM_SAMPLES):
        snapshot.take([sample])
    return _NUM_SAMPLES * values.nbytes / (time.perf_counter() - start)


def _parts(config: RunConfig, cost: Cost) -> str:
    known = vocabulary(config) or not isinstance(config.model, Decoder)
    guess = "" if known else f"; {USUAL_VOCABULARY:,} words assumed"
    return f"{cost.weight_bytes / 1e9:.3f} of weights, {cost.moment_bytes / 1e9:.3f} of moments{guess}"


def _what_is_waited_for(settings: Checkpoints, copy: float) -> str:
    if not settings.asynchronous:
        return "checkpoints.asynchronous is false: for the whole save"
    return f"for the copy of a rank's part into host memory at {copy / 1e9:.1f} GB/s; the rest goes on beside"


def _room(config: RunConfig, number: int) -> Row:
    """For how many there is room, beside how many the settings keep at most."""
    settings = config.checkpoints
    regular = config.num_steps // settings.keep_every_steps if settings.keep_every_steps else 0
    most = settings.keep_last + settings.keep_best + regular
    cure = "" if number > most else ": too little; free space, or lower checkpoints.keep_last"
    return "room", counted(number, "checkpoint"), f"the config keeps up to {most} and writes one more{cure}"


def _interval(settings: Checkpoints, cost: Cost, ranks: int, mttf_hours: float | None) -> list[Row]:
    hours = mttf_hours or GPU_HOURS_PER_FAILURE / ranks
    whence = f"{GPU_HOURS_PER_FAILURE:,.0f} GPU hours, as of Llama 3 (arXiv:2407.21783), by {ranks}"
    best = young_seconds(hours, cost)
    rule = "√(2 · time to a failure · training waits)" if best >= cost.save_seconds else "no save begins in another"
    units = {"steps": settings.steps, "tokens": settings.every_tokens, "minutes": settings.every_minutes}
    now = ", ".join(f"{number:,} {unit}" for unit, number in units.items() if number)
    minutes = max(best, cost.save_seconds) / 60
    return [
        ("time to a failure", f"{hours:,.1f} h", "--mttf-hours" if mttf_hours else whence),
        ("interval", f"{minutes:.1f} min", f"{rule}; the config says every {now}"),
    ]
