"""Which stretches of which parameters this rank holds, to be saved and read into. Nothing is a collective but `publish`
and `averaged`."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer

from pipeline.engine.average import WeightAverage
from pipeline.engine.checkpoint.columns import Columns
from pipeline.engine.checkpoint.layout import (
    EMA,
    MASTER,
    MOMENTS,
    MOMENTUM,
    Flat,
    Fragment,
    buffers,
    flats,
    frozen,
    inner_optimizer,
    move_to_files,
)
from pipeline.engine.eight_bit import compress, expanded, is_8bit, prepare_8bit
from pipeline.engine.engine import Engine
from pipeline.engine.lion import Lion
from pipeline.engine.tensor_parallel import cut_of


def masters(engine: Engine) -> list[Fragment]:
    """Of the trained weights alone, in fp32."""
    found = [part.fragment(MASTER, flat.tensor) for flat in flats(engine) for part in flat.slices]
    return _of_whole(engine, found) if engine.mesh.tensor_size > 1 else found


def fragments(engine: Engine) -> list[Fragment]:
    """All this rank holds of the training state, in an order that depends on the model alone."""
    found: list[Fragment] = []
    for flat in flats(engine):
        found += [part.fragment(MASTER, flat.tensor) for part in flat.slices]
        if engine.average is not None:
            found += [part.fragment(EMA, engine.average.of(flat.tensor)) for part in flat.slices]
        state = inner_optimizer(engine).state.get(flat.tensor, {})
        state = expanded(state) if is_8bit(inner_optimizer(engine)) else state
        for kind in (*MOMENTS, MOMENTUM):
            if kind in state:
                slices = flat.momentum if kind == MOMENTUM and flat.momentum is not None else flat.slices
                found += [part.fragment(kind, state[kind]) for part in slices]
    found += [*frozen(engine), *buffers(engine)]
    return _of_whole(engine, found) if engine.mesh.tensor_size > 1 else found


def _of_whole(engine: Engine, parts: list[Fragment]) -> list[Fragment]:
    """Fragments of the parts of tensors that this rank holds, as such of whole ones, where ranks share layers."""
    cuts = {name: cut_of(parameter) for name, parameter in engine.deepspeed.module.named_parameters()}
    found = []
    for part in parts:
        if (cut := cuts.get(part.name)) is None:  # all ranks that share layers have it
            found.append(replace(part, is_owned=part.is_owned and engine.mesh.tensor_rank == 0))
            continue
        first = sum(cut.sizes[: engine.mesh.tensor_rank])
        if cut.dimension == 0:
            found.append(replace(part, shape=cut.shape, start=part.start + first * math.prod(cut.shape[1:])))
        else:
            columns = Columns(first, cut.sizes[engine.mesh.tensor_rank])
            found.append(replace(part, shape=cut.shape, columns=columns))
    return found


def step_counts(engine: Engine) -> dict[str, int]:
    """Updates that Adam has made of each parameter this rank holds the beginning of; it corrects moments by them."""
    counts = {}
    for flat in flats(engine):
        state = inner_optimizer(engine).state.get(flat.tensor, {})
        if "step" in state:
            counts |= {part.name: int(state["step"]) for part in flat.slices if part.is_owned and part.start == 0}
    return counts


def prepare(engine: Engine, counts: dict[str, int] | None = None) -> None:
    """Make what its first update would make, so that there is memory to read into: moments, zero, and the average.

    Args:
        engine: The engine.
        counts: Updates made of each parameter; none where training begins.
    """
    found, decay = list(flats(engine)), engine.config.ema.decay
    is_lion = isinstance(inner_optimizer(engine), Lion)
    if engine.files is not None and not engine.files.are_used:
        move_to_files(engine, engine.files)
    if engine.average is None and decay is not None:
        engine.average = WeightAverage([flat.tensor for flat in found], decay)
    for flat in found:
        state = inner_optimizer(engine).state[flat.tensor]
        if is_8bit(inner_optimizer(engine)):
            made = None if counts is None else _most_updates(flat, counts)
            prepare_8bit(inner_optimizer(engine), flat.tensor, made)
            continue
        if flat.group.get("use_muon", False):
            _prepare_momentum(engine, flat, state)
            continue
        for kind in MOMENTS[:1] if is_lion else MOMENTS:
            if kind not in state:
                state[kind] = _zeros(engine, flat.tensor)
        if not is_lion:
            state["step"] = _step_count(engine, flat, counts or {})


def _zeros(engine: Engine, like: torch.Tensor) -> torch.Tensor:
    if engine.files is not None and engine.config.engine.offload.optimizer == "nvme":
        return engine.files.zeros(like)
    return torch.zeros(like.shape, dtype=like.dtype, device=like.device)


def _step_count(engine: Engine, flat: Flat, counts: dict[str, int]) -> torch.Tensor | int:
    """Updates made of a flat tensor, as the optimizer keeps them: fused AdamW where the tensor is."""
    made = _most_updates(flat, counts)
    counts_in_tensors = getattr(inner_optimizer(engine), "aux_optimizer", True) is not None
    device = flat.tensor.device if flat.group.get("fused") else None
    return torch.tensor(float(made), device=device) if counts_in_tensors else made


def _most_updates(flat: Flat, counts: dict[str, int]) -> int:
    return max((counts.get(part.name, 0) for part in flat.slices), default=max(counts.values(), default=0))


def _prepare_momentum(engine: Engine, flat: Flat, state: dict[str, Any]) -> None:
    if MOMENTUM in state or (flat.momentum is not None and not flat.momentum):
        return
    length = flat.tensor.numel() if flat.momentum is None else max(part.offset + part.length for part in flat.momentum)
    shape = flat.tensor.shape if length == flat.tensor.numel() else (length,)
    state[MOMENTUM] = _zeros(engine, torch.empty(1, device=flat.tensor.device).expand(shape))


def hide_parameters(engine: Engine) -> None:
    """Before fragments are written into: at stage 3 no parameter may be gathered."""
    if isinstance(engine.deepspeed.optimizer, DeepSpeedZeroOptimizer_Stage3):
        engine.deepspeed.optimizer.checkpoint_event_prologue()


def publish(engine: Engine) -> None:
    """Bring what was written into fragments to where it trains: weights, 8-bit moments. All ranks call it."""
    optimizer = engine.deepspeed.optimizer
    for state in inner_optimizer(engine).state.values() if is_8bit(inner_optimizer(engine)) else ():
        compress(state)
    with torch.no_grad():
        if isinstance(optimizer, DeepSpeedZeroOptimizer_Stage3):
            for number, flat in enumerate(optimizer.fp32_partitioned_groups_flat):
                optimizer.fp16_partitioned_groups_flat[number].copy_(flat)
                optimizer._unflatten_partitioned_parameters(number)
            optimizer.invalidate_secondary_tensor()  # ZeRO++'s copies
            optimizer.checkpoint_event_epilogue()
        elif isinstance(optimizer, DeepSpeedZeroOptimizer | BF16_Optimizer):
            optimizer.update_lp_params()


@contextmanager
def averaged(engine: Engine) -> Iterator[None]:
    """Within it, the parameters that train hold the average of the weights. All ranks enter and leave it together."""
    assert engine.average is not None
    hide_parameters(engine)
    with engine.average.swapped():
        publish(engine)
        yield
        hide_parameters(engine)
    publish(engine)


def optimizer_name(engine: Engine) -> str:
    """The optimizer's class, which decides what moments there are; with 8-bit ones they are AdamW's."""
    return "AdamW" if is_8bit(inner_optimizer(engine)) else type(inner_optimizer(engine)).__name__
