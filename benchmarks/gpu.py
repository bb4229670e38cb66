"""Training steps of models from 125 M to 7 B on one GPU: tokens/s, MFU, memory.

    python -m benchmarks.gpu [--model 1.3B] [--length 2048] [--steps 10] [--json gpu.json]
    python -m benchmarks.gpu --tiny        # the same code with a tiny model, on a CPU too

Real steps of Tarmac's engine in bf16 on random tokens, in a process of its own for each model and length; medians of
the steps after some that are not counted. MFU counts model FLOPs (Chowdhery et al. 2022, appendix B: attention
causally, nothing that is computed again), over the data sheet's peak and over the best matrix product measured here. A
model that does not fit says so. What does not fit the memory in fp32 is recomputed or offloaded as `MODELS` says.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.common import machine, plain_table, versions
from pipeline.config.load import validate
from pipeline.config.model import LlamaModel
from pipeline.config.run import RunConfig
from pipeline.data.batch import Batch, MicroBatch
from pipeline.engine.engine import Engine
from pipeline.engine.memory import peak_memory_bytes
from pipeline.engine.peak import measured_flops, peak_flops
from pipeline.engine.process_group import ProcessGroup
from pipeline.models.build import fresh_model, num_parameters
from pipeline.models.flops import training_flops_per_token
from pipeline.models.forms import decoder_config
from pipeline.models.processor import lacks_bf16, widen_products
from pipeline.objectives.causal import CausalLoss
from pipeline.runtime.ranks import ranks_from_environment

DATA_SHEET_FLOPS = 989e12
"""Dense bf16 matrix products of an H100 or H200, the peak that published figures refer to."""
VOCABULARY = 32_768
_MATRIX = 8192 if torch.cuda.is_available() else 1024
"""Size of the matrices whose product is the measured peak: a GPU is not full with less."""
Form = tuple[int, int, int, int, int]
MODELS: dict[str, tuple[Form, int, dict[str, Any]]] = {
    "tiny": ((64, 128, 2, 4, 2), 512, {}),
    "125M": ((768, 2048, 12, 12, 12), 32_768, {}),
    "350M": ((1024, 2816, 24, 16, 16), 32_768, {}),
    "1.3B": ((2048, 5504, 24, 16, 16), 16_384, {"recompute": "selective"}),
    "7B": ((4096, 11008, 32, 32, 32), 8192, {"recompute": "full", "offload": {"optimizer": "cpu"}}),
}
"""Hidden and intermediate size, layers, heads, key-value heads; tokens of a micro batch; changes of the engine."""
LENGTHS = (2048, 8192)
HEADER = ("model", "parameters", "L", "tokens/s", "MFU, 989 TFLOP/s", "of measured peak", "GiB", "seconds a step")


def main() -> None:
    """Measure what is asked for; print a table and write JSON."""
    options = _options()
    if options.one:
        print(json.dumps(measure(options.one, options.length[0], options)))
        return
    print(f"{_device()}; {machine()}; {versions(('torch', 'deepspeed', 'transformers'))}\n", flush=True)
    models, lengths = (["tiny"], [64]) if options.tiny else (options.model or list(MODELS)[1:], options.length)
    found = [_alone(model, length, options) for model in models for length in lengths or LENGTHS]
    print(plain_table(HEADER, [_row(one) for one in found]))
    if options.json:
        about = {"device": _device(), "machine": machine(), "date": time.strftime("%Y-%m-%d")}
        Path(options.json).write_text(json.dumps(about | {"results": found}, indent=1))


def _alone(model: str, length: int, options: argparse.Namespace) -> dict[str, Any]:
    """In a process of its own, so that none finds memory that another has left in pieces."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--one", model, "--length", str(length)]
    command += [
        "--steps",
        str(options.steps),
        "--warm-up",
        str(options.warm_up),
        "--micro-batches",
        str(options.micro_batches),
    ]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        said = process.stderr.splitlines() or ["nothing"]
        reason = next((line for line in reversed(said) if "Error" in line), said[-1])
        print(f"{model}, L = {length}: {reason}", file=sys.stderr)
        return {"model": model, "length": length, "error": reason}
    found: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return found


def measure(model: str, length: int, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of one model at one length."""
    form, tokens, changes = MODELS[model]
    rows = max(1, tokens // length)
    config = _config(form, length, rows, options.micro_batches, changes)
    assert isinstance(config.model, LlamaModel)
    with ProcessGroup(ranks_from_environment(), 600) as group:
        network = fresh_model(decoder_config(config.model, VOCABULARY, 0, 0), 0, "fp32", config.engine.attention)
        if lacks_bf16(group.device):
            widen_products(network)
        flops, number = training_flops_per_token(network.config, length), num_parameters(network)
        engine = Engine(CausalLoss(network, config.engine.compile), config, group)
        seconds = [_seconds(engine, batch) for batch in _batches(rows, length, options)]
        engine.close()
    speed = rows * length * options.micro_batches / median(seconds[options.warm_up :])
    return {
        "model": model, "length": length, "parameters": number, "tokens_per_second": speed,
        "mfu": speed * flops / DATA_SHEET_FLOPS,
        "of_measured_peak": speed * flops / measured_flops(group.device, _MATRIX),
        "of_known_peak": speed * flops / peak_flops(group.device)[0], "peak_bytes": peak_memory_bytes()["memory"],
        "seconds": seconds, "tokens_per_step": rows * length * options.micro_batches, "engine": changes,
    }  # fmt: skip


def _config(form: Form, length: int, rows: int, micro_batches: int, changes: dict[str, Any]) -> RunConfig:
    names = ("hidden_size", "intermediate_size", "num_layers", "num_heads", "num_key_value_heads")
    return validate(RunConfig, {
        "stage": "pretrain", "output": "unused",
        "model": {"type": "llama", "max_positions": length, **dict(zip(names, form, strict=True))},
        "data": {"type": "corpus", "sources": [{"corpus": "unused", "source": "unused"}], "sequence_length": length},
        "batch": {"global_size": rows * micro_batches, "micro_size": rows}, "duration": {"steps": 1},
        "optimizer": {"type": "adamw", "lr": 1e-4}, "engine": {"zero_stage": 1, **changes},
    }, "benchmark")  # fmt: skip


def _batches(rows: int, length: int, options: argparse.Namespace) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(0)
    for step in range(options.warm_up + options.steps):
        ids = torch.randint(VOCABULARY, (options.micro_batches, rows, length), generator=generator)
        yield Batch(step, tuple(MicroBatch(one, one.roll(-1, 1)) for one in ids))


def _seconds(engine: Engine, batch: Batch) -> float:
    """Of one step, which ends by reading its norm."""
    start = time.perf_counter()
    engine.train_step(batch, 1.0)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _row(found: dict[str, Any]) -> list[str]:
    first = [found["model"], *([""] if "error" in found else [f"{found['parameters']:,}"]), f"{found['length']:,}"]
    if "error" in found:
        return [*first, *[""] * 4, "failed"]
    shares = [f"{found[key]:.1%}" for key in ("mfu", "of_measured_peak")]
    memory, seconds = found["peak_bytes"] / (1 << 30), median(found["seconds"])
    return [*first, f"{found['tokens_per_second']:,.0f}", *shares, f"{memory:.1f}", f"{seconds:.2f}"]


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=list(MODELS), help="may be repeated (all but tiny)")
    parser.add_argument("--length", action="append", type=int, help="tokens of a sequence, repeatable (2048, 8192)")
    parser.add_argument("--steps", type=int, default=10, help="steps that are counted (10)")
    parser.add_argument("--warm-up", type=int, default=3, help="steps before, which also compile (3)")
    parser.add_argument("--micro-batches", type=int, default=4, help="micro batches of a step (4)")
    parser.add_argument("--tiny", action="store_true", help="a tiny model at L = 64, to try the program")
    parser.add_argument("--json", help="write the figures there, too")
    parser.add_argument("--one", choices=list(MODELS), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
