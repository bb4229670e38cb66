"""Which stretches of which parameters this rank holds: the only file that knows how DeepSpeed lays out its state.

DeepSpeed keeps fp32 weights and moments in flat tensors that differ by class (0.19, seen in its sources):

- no ZeRO: each parameter is one, whole on every rank, and so are its moments.
- `BF16_Optimizer` (stage 1 in bf16) and `DeepSpeedZeroOptimizer` (stages 1 and 2): the parameters of a group end to
  end, cut into equal parts; a parameter may lie on several ranks. The latter keeps Muon's momentum of *whole* matrices,
  of all that touch the part, one after the other, unless the optimizer is offloaded.
- `DeepSpeedZeroOptimizer_Stage3`: each parameter is cut into equal parts, the last one padded; sub-groups of parts.

Nothing here is a collective but `publish`.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer

from pipeline.engine.average import WeightAverage
from pipeline.engine.checkpoint.columns import Columns
from pipeline.engine.eight_bit import compress, expanded, is_8bit, prepare_8bit
from pipeline.engine.engine import Engine
from pipeline.engine.lion import Lion
from pipeline.engine.tensor_parallel import cut_of

MASTER, FROZEN, BUFFER = "master", "frozen", "buffer"
"""Kinds of tensors besides the optimizer's own: trained weights in fp32, weights that are not trained, buffers."""
OBJECTIVE_PREFIX = "model."
"""What the objective around a model puts before its names."""
EMA = "ema"
"""Their average."""
MOMENTUM = "momentum_buffer"
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Fragment:
    """A stretch of one tensor of the training state, in this rank's memory."""

    kind: str
    """What it is: a weight, a moment, a buffer."""
    name: str
    """Name of the parameter or buffer."""
    shape: tuple[int, ...]
    """Shape of the whole tensor."""
    start: int
    """First element, of the whole tensor laid out flat."""
    view: torch.Tensor
    """The live memory, 1-D."""
    is_owned: bool
    """Whether this rank is the one that saves it; each element of a tensor has one such rank."""
    columns: Columns | None = None
    """Whose elements they are, where ranks hold other columns of the matrix; `start` counts among theirs."""

    @property
    def key(self) -> str:
        """Kind and name, as files spell them."""
        return f"{self.kind}/{self.name}"

    @property
    def dtype(self) -> torch.dtype:
        """How it is saved: what the optimizer works on in fp32, into which narrower types go without loss."""
        return self.view.dtype if self.kind in (FROZEN, BUFFER) else torch.float32


@dataclass(frozen=True)
class _Slice:
    """Where in a flat tensor a stretch of a parameter lies."""

    name: str
    shape: tuple[int, ...]
    start: int
    offset: int
    length: int
    is_owned: bool = True

    def fragment(self, kind: str, flat: torch.Tensor) -> Fragment:
        view = flat.detach().view(-1)[self.offset : self.offset + self.length]
        return Fragment(kind, self.name, self.shape, self.start, view, self.is_owned)


@dataclass(frozen=True)
class _Flat:
    """A tensor that the optimizer updates, and what it is made of."""

    tensor: torch.Tensor
    group: dict[str, Any]
    slices: list[_Slice]
    momentum: list[_Slice] | None = None
    """How Muon's momentum lies, where that is otherwise than the weights do."""


def fragments(engine: Engine) -> list[Fragment]:
    """All this rank holds of the training state, in an order that depends on the model alone."""
    found: list[Fragment] = []
    for flat in _flats(engine):
        found += [part.fragment(MASTER, flat.tensor) for part in flat.slices]
        if engine.average is not None:
            found += [part.fragment(EMA, engine.average.of(flat.tensor)) for part in flat.slices]
        state = _optimizer(engine).state.get(flat.tensor, {})
        state = expanded(state) if is_8bit(_optimizer(engine)) else state
        for kind in (*MOMENTS, MOMENTUM):
            if kind in state:
                slices = flat.momentum if kind == MOMENTUM and flat.momentum is not None else flat.slices
                found += [part.fragment(kind, state[kind]) for part in slices]
    found += [*_frozen(engine), *_buffers(engine)]
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
    for flat in _flats(engine):
        state = _optimizer(engine).state.get(flat.tensor, {})
        if "step" in state:
            counts |= {part.name: int(state["step"]) for part in flat.slices if part.is_owned and part.start == 0}
    return counts


def prepare(engine: Engine, counts: dict[str, int] | None = None) -> None:
    """Make what its first update would make, so that there is memory to read into: moments, zero, and the average.

    Args:
        engine: The engine.
        counts: Updates made of each parameter; none where training begins.
    """
    flats, decay = list(_flats(engine)), engine.config.ema.decay
    is_lion = isinstance(_optimizer(engine), Lion)
    if engine.average is None and decay is not None:
        engine.average = WeightAverage([flat.tensor for flat in flats], decay)
    for flat in flats:
        state = _optimizer(engine).state[flat.tensor]
        if is_8bit(_optimizer(engine)):
            made = None if counts is None else _most_updates(flat, counts)
            prepare_8bit(_optimizer(engine), flat.tensor, made)
            continue
        if flat.group.get("use_muon", False):
            _prepare_momentum(engine, flat, state)
            continue
        for kind in MOMENTS[:1] if is_lion else MOMENTS:
            if kind not in state:
                state[kind] = torch.zeros_like(flat.tensor, requires_grad=False)
        if not is_lion:
            state["step"] = _step_count(engine, flat, counts or {})


def _step_count(engine: Engine, flat: _Flat, counts: dict[str, int]) -> torch.Tensor | int:
    """Updates made of a flat tensor, as the optimizer keeps them: fused AdamW where the tensor is."""
    made = _most_updates(flat, counts)
    counts_in_tensors = getattr(_optimizer(engine), "aux_optimizer", True) is not None
    device = flat.tensor.device if flat.group.get("fused") else None
    return torch.tensor(float(made), device=device) if counts_in_tensors else made


def _most_updates(flat: _Flat, counts: dict[str, int]) -> int:
    return max((counts.get(part.name, 0) for part in flat.slices), default=max(counts.values(), default=0))


def _prepare_momentum(engine: Engine, flat: _Flat, state: dict[str, Any]) -> None:
    if MOMENTUM in state or (flat.momentum is not None and not flat.momentum):
        return
    length = flat.tensor.numel() if flat.momentum is None else max(part.offset + part.length for part in flat.momentum)
    shape = flat.tensor.shape if length == flat.tensor.numel() else (length,)
    state[MOMENTUM] = torch.zeros(shape, dtype=torch.float32, device=flat.tensor.device)


def hide_parameters(engine: Engine) -> None:
    """Before fragments are written into: at stage 3 no parameter may be gathered."""
    if isinstance(engine.deepspeed.optimizer, DeepSpeedZeroOptimizer_Stage3):
        engine.deepspeed.optimizer.checkpoint_event_prologue()


def publish(engine: Engine) -> None:
    """Bring what was written into fragments to where it trains: weights, 8-bit moments. All ranks call it."""
    optimizer = engine.deepspeed.optimizer
    for state in _optimizer(engine).state.values() if is_8bit(_optimizer(engine)) else ():
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
    return "AdamW" if is_8bit(_optimizer(engine)) else type(_optimizer(engine)).__name__


def _optimizer(engine: Engine) -> Any:
    """The torch optimizer inside DeepSpeed's."""
    outer = engine.deepspeed.optimizer
    return outer.optimizer if _is_partitioned(outer) else outer


def _is_partitioned(optimizer: Any) -> bool:
    return isinstance(optimizer, DeepSpeedZeroOptimizer | BF16_Optimizer | DeepSpeedZeroOptimizer_Stage3)


def _flats(engine: Engine) -> Iterator[_Flat]:
    optimizer, names = engine.deepspeed.optimizer, engine.deepspeed.param_names
    if isinstance(optimizer, DeepSpeedZeroOptimizer_Stage3):
        return _stage_three(optimizer, names)
    if isinstance(optimizer, BF16_Optimizer):
        return _linked(optimizer, names, optimizer.bf16_groups, optimizer.fp32_groups_flat_partition)
    if isinstance(optimizer, DeepSpeedZeroOptimizer):
        return _linked(optimizer, names, optimizer.bit16_groups, optimizer.single_partition_of_fp32_groups)
    return _whole(engine, names)


def _whole(engine: Engine, names: dict[torch.Tensor, str]) -> Iterator[_Flat]:
    rank, world_size = engine.mesh.gradient_rank, engine.mesh.gradient_world_size
    for group in engine.deepspeed.optimizer.param_groups:
        for place, parameter in enumerate(group["params"]):
            is_mine = place % world_size == rank
            part = _Slice(names[parameter], tuple(parameter.shape), 0, 0, parameter.numel(), is_mine)
            yield _Flat(parameter, group, [part])


def _linked(optimizer: Any, names: dict[torch.Tensor, str], groups: Any, flats: Any) -> Iterator[_Flat]:
    """Stages 1 and 2: DeepSpeed links each parameter with its stretch of the flat tensor."""
    keeps_whole = isinstance(optimizer, DeepSpeedZeroOptimizer) and not optimizer.cpu_offload
    for number, (parameters, flat) in enumerate(zip(groups, flats, strict=True)):
        group = optimizer.optimizer.param_groups[number]
        slices = {}
        for parameter in parameters:
            if (link := parameter._hp_mapping) is not None:
                there, here = link.lp_fragment_address, link.hp_fragment_address
                slices[parameter] = _Slice(
                    names[parameter], tuple(parameter.shape), there.start, here.start, here.numel
                )
        is_whole = keeps_whole and group.get("use_muon", False)
        momentum = list(_whole_matrices(optimizer.params_in_partition[number], slices)) if is_whole else None
        yield _Flat(flat, group, list(slices.values()), momentum)


def _whole_matrices(parameters: Any, slices: dict[torch.Tensor, _Slice]) -> Iterator[_Slice]:
    """Whole matrices one after the other; of each, this rank saves what its part of the weights covers."""
    offset = 0
    for parameter in parameters:
        mine = slices[parameter]
        end = mine.start + mine.length
        for start, stop in ((0, mine.start), (mine.start, end), (end, parameter.numel())):
            if start < stop:
                yield _Slice(mine.name, mine.shape, start, offset + start, stop - start, start == mine.start)
        offset += parameter.numel()


def _stage_three(optimizer: Any, names: dict[torch.Tensor, str]) -> Iterator[_Flat]:
    rank = torch.distributed.get_rank(optimizer.dp_process_group)
    for number, flat in enumerate(optimizer.fp32_partitioned_groups_flat):
        offset, slices = 0, []
        for parameter in optimizer.fp16_groups[number]:
            slices += _part(names[parameter], parameter, rank, offset)
            offset += parameter.partition_numel()
        yield _Flat(flat, optimizer.optimizer.param_groups[optimizer.sub_group_to_group_id[number]], slices)


def _part(name: str, parameter: Any, rank: int, offset: int) -> list[_Slice]:
    """A rank's part of a parameter at stage 3, without the padding; none if it is all padding."""
    start = rank * parameter.partition_numel()
    length = min(parameter.ds_numel, start + parameter.partition_numel()) - start
    return [_Slice(name, tuple(parameter.ds_shape), start, offset, length)] if length > 0 else []


def _frozen(engine: Engine) -> Iterator[Fragment]:
    """Weights that are not trained, in their own type."""
    rank, world_size = engine.mesh.gradient_rank, engine.mesh.gradient_world_size
    for place, (name, parameter) in enumerate(engine.deepspeed.module.named_parameters()):
        if parameter.requires_grad:
            continue
        if hasattr(parameter, "ds_tensor"):
            yield from (part.fragment(FROZEN, parameter.ds_tensor) for part in _part(name, parameter, rank, 0))
            continue
        part = _Slice(name, tuple(parameter.shape), 0, 0, parameter.numel(), place % world_size == rank)
        yield part.fragment(FROZEN, parameter)


def _buffers(engine: Engine) -> Iterator[Fragment]:
    """Buffers that belong to the model's state."""
    for prefix, module in engine.deepspeed.module.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name not in module._non_persistent_buffers_set:
                part = _Slice(f"{prefix}.{name}".lstrip("."), tuple(buffer.shape), 0, 0, buffer.numel(),
                              engine.group.ranks.is_main)  # fmt: skip
                yield part.fragment(BUFFER, buffer)
