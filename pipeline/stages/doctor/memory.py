"""What memory and time a run's steps will take."""

from functools import partial

import torch
from torch import nn
from transformers import PretrainedConfig

from pipeline.config.run import RunConfig
from pipeline.data.loader import Share
from pipeline.engine.activations import pass_memory
from pipeline.engine.memory import MemoryEstimate, PassMemory, estimate_model, without_offloaded
from pipeline.engine.mesh import mesh_of
from pipeline.engine.out_of_memory import largest_batch
from pipeline.models.initialization import initial_weights
from pipeline.stages.building import assemble, flops_per_token
from pipeline.stages.doctor.checkpoints import Row
from pipeline.stages.doctor.devices import Device

USUAL_UTILISATION = 0.4
"""Share of the peak that is counted on: about what is published (LLM-Foundry, 1 B on 8 H100: 0.418)."""


def memory_rows(
    config: RunConfig, form: PretrainedConfig, model: nn.Module, vocab_size: int, ranks: int, device: Device
) -> list[Row]:
    """Memory of a rank by what takes it, the largest micro batch, the ZeRO stage to take, and how long it will take.

    Args:
        config: The run.
        form: transformers' config of its model.
        model: The model with its adapter; it needs no memory.
        vocab_size: Ids of the tokenizer.
        ranks: Their number.
        device: What each of them has.
    """
    whole = estimate_model(config, model, ranks)
    estimate = without_offloaded(whole, config, device.kind.type == "cuda")
    passes = passes_of(config, form, vocab_size, ranks, device.kind)
    most = estimate.most(passes, _micro_batches(config, ranks))
    parts = {
        "parameters": estimate.parameters, "gradients": estimate.gradients, "optimizer": estimate.optimizer,
        "buffers": estimate.buffers, "activations": passes.most - passes.logits, "logits": passes.logits,
    }  # fmt: skip
    because = {
        "parameters": f"in {config.engine.precision}", "gradients": "in fp32, as they are added up",
        "optimizer": "weights in fp32, and moments" + _average(config),
        "buffers": "for gradients and weights between ranks",
        "activations": "of a micro batch, and their gradients" + _shared(config),
        "logits": "at that moment; they come in chunks",
    }  # fmt: skip
    fits = "" if most <= device.memory else ": too little"
    return [
        *((name, _gb(size), because[name]) for name, size in parts.items()),
        ("memory", _gb(most), f"at the worst moment, on each rank, of {_gb(device.memory)}{fits}"),
        *([("offloaded", _gb(whole.total - estimate.total), _where(config))] if whole != estimate else []),
        _micro_row(config, form, vocab_size, ranks, device, estimate),
        _stage_row(config, model, passes, ranks, device),
        _time_row(config, form, ranks, device),
    ]


def _shared(config: RunConfig) -> str:
    return ", as if no rank shared its layers" if config.engine.tensor_parallel > 1 else ""


def _average(config: RunConfig) -> str:
    return "" if config.ema.decay is None else ", and an average of the weights"


def _where(config: RunConfig) -> str:
    offload = config.engine.offload
    return f"of each rank: optimizer to {offload.optimizer}, parameters to {offload.parameters}"


def passes_of(
    config: RunConfig, form: PretrainedConfig, vocab_size: int, ranks: int, device: torch.device
) -> PassMemory:
    """What the passes of the largest micro batch take on a device; without a GPU, by the operations of a CPU."""
    engine = config.engine.model_copy(update={"compile": False, "fp8": False})
    dtype = config.engine.precision
    source = partial(initial_weights, seed=config.seed)
    make = partial(assemble, config.model_copy(update={"engine": engine}), form, vocab_size, device, source, dtype)
    mesh = mesh_of(config.engine, 0, ranks)
    micro_batch = largest_batch(config, mesh.data_world_size).micro_batches[0]
    here = device if device.type == "cpu" or torch.cuda.is_available() else torch.device("cpu")
    whole = pass_memory(config, lambda: make()[0], micro_batch, vocab_size, here)
    size = config.engine.sequence_parallel  # of a sequence each rank has such a part, in attention of its heads
    return PassMemory(whole.forward // size, whole.backward // size, whole.logits // size)


def _micro_batches(config: RunConfig, ranks: int) -> int:
    data_ranks = mesh_of(config.engine, 0, ranks).data_world_size
    sizes = (one.global_size for one in config.stretches)
    return max(Share(0, data_ranks, config.batch.micro_size).num_micro_batches(size) for size in sizes)


def _micro_row(
    config: RunConfig, form: PretrainedConfig, vocab_size: int, ranks: int, device: Device, estimate: MemoryEstimate
) -> Row:
    """The largest micro batch, as what passes take grows with it in proportion."""

    def most(size: int) -> int:
        batch = config.batch.model_copy(update={"micro_size": size})
        sized = config.model_copy(update={"batch": batch})
        return estimate.most(passes_of(sized, form, vocab_size, ranks, device.kind), _micro_batches(sized, ranks))

    one, two = most(1), most(2)
    room = device.memory - one
    largest = 0 if room < 0 else 1 + room // max(1, two - one)
    share = max(1, max(one.global_size for one in config.stretches) // mesh_of(config.engine, 0, ranks).data_world_size)
    because = f"at most, by memory; a rank's share of a step is {share}, the config says {config.batch.micro_size}"
    return "micro batch", str(largest), because


def _stage_row(config: RunConfig, model: nn.Module, passes: PassMemory, ranks: int, device: Device) -> Row:
    """The lowest stage that fits: each next one sends more between ranks."""
    for stage in (1, 2, 3) if config.engine.tensor_parallel == 1 else (1, 2):
        engine = config.engine.model_copy(update={"zero_stage": stage})
        staged = config.model_copy(update={"engine": engine})
        estimate = without_offloaded(estimate_model(staged, model, ranks), staged, device.kind.type == "cuda")
        if estimate.most(passes, _micro_batches(config, ranks)) <= device.memory:
            return "ZeRO stage", str(stage), f"the lowest that fits; the config says {config.engine.zero_stage}"
    cures = [] if config.batch.micro_size == 1 else ["lower batch.micro_size"]
    cures += [] if config.engine.recompute == "full" else ["set engine.recompute to full"]
    cures += [] if config.engine.offload.optimizer != "none" else ["set engine.offload.optimizer to cpu"]
    return "ZeRO stage", "none", f"fits; {', or '.join([*cures, 'take more ranks'])}"


def _time_row(config: RunConfig, form: PretrainedConfig, ranks: int, device: Device) -> Row:
    tokens = config.tokens_by_length(config.num_steps)
    flops = sum(number * flops_per_token(config, form, length) for length, number in tokens.items())
    speed = ranks * device.flops * USUAL_UTILISATION
    because = f"{tokens.total() * speed / flops:,.0f} tokens/s at {USUAL_UTILISATION:.0%} of {device.flops / 1e12:,.2f}"
    return "time", f"{flops / speed / 3600:,.1f} h", f"{because} TFLOP/s ({device.origin})"


def _gb(size: float) -> str:
    return f"{size / 1e9:,.3f} GB"
