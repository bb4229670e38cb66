"""First weights, put into what each rank holds of them: no rank ever holds a whole model for it."""

import torch

from pipeline.engine.checkpoint.fragments import fragments, hide_parameters, publish
from pipeline.engine.checkpoint.layout import BUFFER, FROZEN, MASTER, OBJECTIVE_PREFIX, Fragment
from pipeline.engine.engine import Engine
from pipeline.models.weights import Weights


def fill(engine: Engine, weights: Weights, *, only_frozen: bool = False) -> None:
    """Bring a model's first weights into the engine, the trained ones in fp32 at every stage; all ranks call it.

    DeepSpeed would make fp32 master weights from ones that are rounded already.

    Args:
        engine: An engine of that model.
        weights: All of the model's weights; one after the other is read and cut to what this rank holds.
        only_frozen: Those that are trained come from a checkpoint.

    Raises:
        TarmacError: One cannot be read; on all ranks.
    """
    hide_parameters(engine)
    kinds = (FROZEN,) if only_frozen else (MASTER, FROZEN, BUFFER)
    engine.group.agree(lambda: _fill([one for one in fragments(engine) if one.kind in kinds], weights))
    publish(engine)


def _fill(mine: list[Fragment], weights: Weights) -> None:
    name, whole = "", torch.empty(0)
    for one in mine:
        if one.name != name:
            name, key = one.name, one.name.removeprefix(OBJECTIVE_PREFIX)
            if one.kind == BUFFER and key not in weights.shapes:
                continue  # it begins as the model is made
            whole = weights.read(key)
        part = whole if one.columns is None else whole[:, one.columns.first : one.columns.first + one.columns.number]
        one.view.copy_(part.reshape(-1)[one.start : one.start + one.view.numel()])
