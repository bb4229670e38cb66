"""How DeepSpeed lays out its training state: the only file that knows.

It keeps fp32 weights and moments in flat tensors that differ by class (0.19, seen in its sources):

- no ZeRO: each parameter is one, whole on every rank, and so are its moments.
- `BF16_Optimizer` (stage 1 in bf16) and `DeepSpeedZeroOptimizer` (stages 1 and 2): the parameters of a group end to
  end, cut into equal parts; a parameter may lie on several ranks. The latter keeps Muon's momentum of *whole* matrices,
  of all that touch the part, one after the other, unless the optimizer is offloaded.
- `DeepSpeedZeroOptimizer_Stage3`: each parameter is cut into equal parts, the last one padded; sub-groups of parts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer

from pipeline.engine.checkpoint.columns import Columns
from pipeline.engine.engine import Engine
from pipeline.engine.files import Files

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
class Slice:
    """Where in a flat tensor a stretch of a parameter lies."""

    name: str
    shape: tuple[int, ...]
    start: int
    offset: int
    length: int
    is_owned: bool = True

    def fragment(self, kind: str, flat: torch.Tensor) -> Fragment:
        """The stretch in a flat tensor."""
        view = flat.detach().view(-1)[self.offset : self.offset + self.length]
        return Fragment(kind, self.name, self.shape, self.start, view, self.is_owned)


@dataclass(frozen=True)
class Flat:
    """A tensor that the optimizer updates, and what it is made of."""

    tensor: torch.Tensor
    group: dict[str, Any]
    slices: list[Slice]
    momentum: list[Slice] | None = None
    """How Muon's momentum lies, where that is otherwise than the weights do."""


def inner_optimizer(engine: Engine) -> Any:
    """The torch optimizer inside DeepSpeed's."""
    outer = engine.deepspeed.optimizer
    return outer.optimizer if _is_partitioned(outer) else outer


def _is_partitioned(optimizer: Any) -> bool:
    return isinstance(optimizer, DeepSpeedZeroOptimizer | BF16_Optimizer | DeepSpeedZeroOptimizer_Stage3)


def flats(engine: Engine) -> Iterator[Flat]:
    """What this rank's optimizer updates, in an order that depends on the model alone."""
    optimizer, names = engine.deepspeed.optimizer, engine.deepspeed.param_names
    if isinstance(optimizer, DeepSpeedZeroOptimizer_Stage3):
        return _stage_three(optimizer, names)
    if isinstance(optimizer, BF16_Optimizer):
        return _linked(optimizer, names, optimizer.bf16_groups, optimizer.fp32_groups_flat_partition)
    if isinstance(optimizer, DeepSpeedZeroOptimizer):
        return _linked(optimizer, names, optimizer.bit16_groups, optimizer.single_partition_of_fp32_groups)
    return _whole(engine, names)


def move_to_files(engine: Engine, files: Files) -> None:
    """Bring what the config wants there from host memory to files: fp32 weights, this rank's part of the parameters."""
    optimizer, offload = engine.deepspeed.optimizer, engine.config.engine.offload
    if offload.parameters == "nvme":
        for number, flat in enumerate(optimizer.fp16_partitioned_groups_flat):
            flat.data = files.moved(flat)
            optimizer._unflatten_partitioned_parameters(number)
        optimizer.param_groups_fp16_flat_cpu_memory = []
    if offload.optimizer == "nvme":
        for flat in flats(engine):
            flat.tensor.data = files.moved(flat.tensor)
            inner_optimizer(engine).state.pop(flat.tensor, None)  # moments are made anew, in files
        if isinstance(optimizer, DeepSpeedZeroOptimizer):
            optimizer._link_all_hp_params()


def _whole(engine: Engine, names: dict[torch.Tensor, str]) -> Iterator[Flat]:
    rank, world_size = engine.mesh.gradient_rank, engine.mesh.gradient_world_size
    for group in engine.deepspeed.optimizer.param_groups:
        for place, parameter in enumerate(group["params"]):
            is_mine = place % world_size == rank
            part = Slice(names[parameter], tuple(parameter.shape), 0, 0, parameter.numel(), is_mine)
            yield Flat(parameter, group, [part])


def _linked(optimizer: Any, names: dict[torch.Tensor, str], groups: Any, flats: Any) -> Iterator[Flat]:
    """Stages 1 and 2: DeepSpeed links each parameter with its stretch of the flat tensor."""
    keeps_whole = isinstance(optimizer, DeepSpeedZeroOptimizer) and not optimizer.cpu_offload
    for number, (parameters, flat) in enumerate(zip(groups, flats, strict=True)):
        group = optimizer.optimizer.param_groups[number]
        slices = {}
        for parameter in parameters:
            if (link := parameter._hp_mapping) is not None:
                there, here = link.lp_fragment_address, link.hp_fragment_address
                slices[parameter] = Slice(names[parameter], tuple(parameter.shape), there.start, here.start, here.numel)
        is_whole = keeps_whole and group.get("use_muon", False)
        momentum = list(_whole_matrices(optimizer.params_in_partition[number], slices)) if is_whole else None
        yield Flat(flat, group, list(slices.values()), momentum)


def _whole_matrices(parameters: Any, slices: dict[torch.Tensor, Slice]) -> Iterator[Slice]:
    """Whole matrices one after the other; of each, this rank saves what its part of the weights covers."""
    offset = 0
    for parameter in parameters:
        mine = slices[parameter]
        end = mine.start + mine.length
        for start, stop in ((0, mine.start), (mine.start, end), (end, parameter.numel())):
            if start < stop:
                yield Slice(mine.name, mine.shape, start, offset + start, stop - start, start == mine.start)
        offset += parameter.numel()


def _stage_three(optimizer: Any, names: dict[torch.Tensor, str]) -> Iterator[Flat]:
    rank = torch.distributed.get_rank(optimizer.dp_process_group)
    for number, flat in enumerate(optimizer.fp32_partitioned_groups_flat):
        offset, slices = 0, []
        for parameter in optimizer.fp16_groups[number]:
            slices += _part(names[parameter], parameter, rank, offset)
            offset += parameter.partition_numel()
        yield Flat(flat, optimizer.optimizer.param_groups[optimizer.sub_group_to_group_id[number]], slices)


def _part(name: str, parameter: Any, rank: int, offset: int) -> list[Slice]:
    """A rank's part of a parameter at stage 3, without the padding; none if it is all padding."""
    start = rank * parameter.partition_numel()
    length = min(parameter.ds_numel, start + parameter.partition_numel()) - start
    return [Slice(name, tuple(parameter.ds_shape), start, offset, length)] if length > 0 else []


def frozen(engine: Engine) -> Iterator[Fragment]:
    """Weights that are not trained, in their own type."""
    rank, world_size = engine.mesh.gradient_rank, engine.mesh.gradient_world_size
    for place, (name, parameter) in enumerate(engine.deepspeed.module.named_parameters()):
        if parameter.requires_grad:
            continue
        if hasattr(parameter, "ds_tensor"):
            yield from (part.fragment(FROZEN, parameter.ds_tensor) for part in _part(name, parameter, rank, 0))
            continue
        part = Slice(name, tuple(parameter.shape), 0, 0, parameter.numel(), place % world_size == rank)
        yield part.fragment(FROZEN, parameter)


def buffers(engine: Engine) -> Iterator[Fragment]:
    """Buffers that belong to the model's state."""
    for prefix, module in engine.deepspeed.module.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name not in module._non_persistent_buffers_set:
                part = Slice(f"{prefix}.{name}".lstrip("."), tuple(buffer.shape), 0, 0, buffer.numel(),
                              engine.group.ranks.is_main)  # fmt: skip
                yield part.fragment(BUFFER, buffer)
