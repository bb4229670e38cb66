"""What forward and backward passes take besides weights, found by running them on tensors that have no memory.

The model itself is run, whatever its form, its attention and what of it is recomputed, and what would be alive is added
up at each moment. Compiled blocks are cut into forward and backward passes as torch.compile cuts them: its partitioner
decides what is kept in between.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pipeline.config.run import RunConfig
from pipeline.data.batch import MicroBatch
from pipeline.engine.memory import PassMemory
from pipeline.models.blocks import prepare_blocks

_PARTITIONED = "aot_eager_decomp_partition"
"""torch.compile's partitioner, without the code that it would generate."""


def pass_memory(
    config: RunConfig, make: Callable[[], nn.Module], micro_batch: MicroBatch, vocab_size: int, device: torch.device
) -> PassMemory:
    """Run a micro batch's passes without memory.

    Args:
        config: What is recomputed and compiled.
        make: Makes the objective, uncompiled, whose parameters have the type that it computes in.
        micro_batch: Its contents do not matter.
        vocab_size: Width of the logits.
        device: Where it would run, which decides on kernels.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device(device):
        objective = make()
        prepare_blocks(objective, config.engine, backend=_PARTITIONED)
        parts = [torch.zeros(part.shape, dtype=part.dtype) for part in _parts(micro_batch)]
        alive = _Alive(vocab_size, [*objective.parameters(), *objective.buffers(), *parts])
        for parameter in objective.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(alive.take)
        objective(*parts).backward()  # which compiles
        alive.begin()
        with alive:
            objective(*parts).backward()
    forward, backward = (sum(one.values()) for one in alive.worst)
    return PassMemory(forward, backward, alive.worst[backward > forward]["logits"])


def _parts(micro_batch: MicroBatch) -> list[torch.Tensor]:
    parts = [micro_batch.input_ids, micro_batch.labels]
    return parts if micro_batch.position_ids is None else [*parts, micro_batch.position_ids]


class _Alive(TorchDispatchMode):
    """Adds up the memory of all tensors that operations make, as long as they live."""

    def __init__(self, vocab_size: int, known: list[torch.Tensor]) -> None:
        super().__init__()
        self._vocab_size = vocab_size
        self._seen = {tensor.untyped_storage()._cdata for tensor in known}
        self.begin()

    def begin(self) -> None:
        """Begin with a forward pass."""
        self._now = {"others": 0, "logits": 0}
        self.worst = (dict(self._now), dict(self._now))
        self._has_gradients = False

    def take(self, parameter: torch.Tensor) -> None:
        """A weight's gradient is there; DeepSpeed takes it at once into a buffer of its own."""
        parameter.grad = None
        self._has_gradients = True

    supports_higher_order_operators = True
    """Compiled recomputation is one."""

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Compiled blocks stay compiled while this is on."""
        return True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in tree_leaves(made):
            if isinstance(one, torch.Tensor):
                self._add(one)
        return made

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self._seen:
            return
        kind = "logits" if tensor.ndim and tensor.shape[-1] == self._vocab_size else "others"
        self._seen.add(storage._cdata)
        self._now[kind] += storage.nbytes()
        weakref.finalize(storage, self._drop, storage._cdata, kind, storage.nbytes())
        worst = self.worst[self._has_gradients]
        if sum(self._now.values()) > sum(worst.values()):
            worst.update(self._now)

    def _drop(self, key: int, kind: str, size: int) -> None:
        self._seen.discard(key)
        self._now[kind] -= size
