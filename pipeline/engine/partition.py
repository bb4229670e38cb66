"""Models whose parameters are in parts from the beginning, so that no rank ever holds a whole one."""

from collections.abc import Iterator
from contextlib import contextmanager

import deepspeed
from deepspeed.runtime.zero.partition_parameters import DeepSpeedTensorOverride
from deepspeed.utils import groups, set_z3_leaf_module
from torch import nn

from pipeline.config.run import RunConfig
from pipeline.engine.process_group import ProcessGroup
from pipeline.engine.settings import deepspeed_dict
from pipeline.models.blocks import blocks_of


@contextmanager
def partitioned(config: RunConfig, group: ProcessGroup) -> Iterator[None]:
    """At ZeRO 3, models made inside hold each parameter in parts from the beginning; all ranks make the same."""
    if config.engine.zero_stage < 3:
        yield
        return
    settings = deepspeed_dict(config, group.ranks.world_size)
    has_copies = config.engine.zeropp.partition_size > 1
    copies = groups._get_zero_param_intra_parallel_group() if has_copies else None  # an engine before left its own
    with _Partitioned(
        config_dict_or_path=settings,
        zero_param_parallel_group=copies,
        tensor_overrides=[DeepSpeedTensorOverride.device],
    ):
        yield


class _Partitioned(deepspeed.zero.Init):
    """Rounds parameters alone: by itself DeepSpeed makes every tensor in the type that trains, also frequencies."""

    def _zero_init_param(self, param: nn.Parameter) -> None:
        param.data = param.data.to(self.dtype)
        super()._zero_init_param(param)


def gather_by_block(model: nn.Module) -> None:
    """Let ZeRO 3 gather a block's weights at once and not layer by layer, so that no hook of it is inside a block: its
    hooks would cut what is compiled of the block into pieces, and be compiled themselves."""
    if all(parameter.requires_grad for parameter in model.parameters()):  # frozen ones would be released too early
        for block in blocks_of(model):
            set_z3_leaf_module(block, True)
