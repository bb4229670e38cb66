"""Loading: each rank reads the stretches that it holds, whatever stage and number of ranks wrote them.

A checkpoint knows tensors and their pieces, not ranks, so resuming and resharding are one way. What a rank holds after
loading is compared with the checksums that the tensors had when they were saved.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch

from pipeline.engine.checkpoint.checksum import combined
from pipeline.engine.checkpoint.columns import Columns, end_in_whole, spread_crc32
from pipeline.engine.checkpoint.commit import Commit, step_name
from pipeline.engine.checkpoint.fragments import fragments, hide_parameters, optimizer_name, prepare, publish
from pipeline.engine.checkpoint.index import Index, read_index, require_whole
from pipeline.engine.checkpoint.layout import EMA, FROZEN, MASTER, Fragment
from pipeline.engine.checkpoint.tensors import DTYPES, TensorReader, as_bytes
from pipeline.engine.engine import Engine
from pipeline.errors import CheckpointError

_Digest = tuple[str, int, int, int, Columns | None]
"""Key, first element, elements, CRC-32 of a piece as it is spread in the whole tensor, whose columns."""


def load_checkpoint(engine: Engine, checkpoints: Path, commit: Commit, *, exclude_frozen: bool = False) -> None:
    """Put a verified checkpoint's weights and optimizer state into the engine; all ranks call it.

    Args:
        engine: An engine of the same model and kind of optimizer, at any stage, on any number of ranks.
        checkpoints: The run's `checkpoints` folder.
        commit: Which of them.
        exclude_frozen: Weights that are not trained are not in it, and stay.

    An average of weights that the engine keeps and the checkpoint has not begins with the checkpoint's weights.

    Raises:
        CheckpointError: It is of another model or optimizer, before anything is touched; or what arrived is not what
            was saved. On all ranks.
    """
    folder = checkpoints / step_name(commit.step)
    index = engine.group.agree(lambda: _fitting_index(engine, folder, commit))
    hide_parameters(engine)
    prepare(engine, index.step_counts)
    absent = {FROZEN} if exclude_frozen else set()
    absent |= set() if index.names(EMA) else {EMA}
    mine = [one for one in fragments(engine) if one.kind not in absent]
    digests = engine.group.agree(lambda: _fill(mine, index, TensorReader(folder, index)))
    if engine.average is not None and EMA in absent:
        engine.average.restart()
    publish(engine)
    if engine.loss_scale is not None and index.loss_scale is not None:
        engine.loss_scale.restore(index.loss_scale)
    told = engine.group.gather_to_main(digests) or []
    engine.group.main_decides(lambda: _compare(folder, index, [one for theirs in told for one in theirs]))


def _fitting_index(engine: Engine, folder: Path, commit: Commit) -> Index:
    index, optimizer = read_index(folder), optimizer_name(engine)
    if strange := index.files - {file.name for file in commit.files}:
        raise CheckpointError(
            f"{folder.name}: its index names {min(strange)}, which its commit does not; do not use it"
        )
    if index.optimizer != optimizer:
        raise CheckpointError(
            f"{folder.name} holds the state of {index.optimizer} and this run's optimizer is {optimizer}; choose"
            " another output and start from its weights (model.type: checkpoint)"
        )
    have = {one.name: one.shape for one in fragments(engine) if one.kind == MASTER}
    saved = {name: one.shape for name, one in index.names(MASTER).items()}
    wrong = [name for name in have if have[name] != saved.get(name)]
    trainable = {name for name, one in engine.deepspeed.module.named_parameters() if one.requires_grad}
    wrong += sorted(saved.keys() - trainable)
    if wrong:
        raise CheckpointError(
            f"{folder.name} is of another model: {wrong[0]} has the shape {saved.get(wrong[0], 'none')} there and"
            f" {have.get(wrong[0], 'none')} here; restore the run's config, or choose another output"
        )
    return index


def _fill(mine: Sequence[Fragment], index: Index, reader: TensorReader) -> list[_Digest]:
    """Read what this rank holds; the checksums of what it owns, as it is in memory then."""
    digests = []
    for one in mine:
        saved = DTYPES[index.tensor(one.key).dtype]
        target = one.view if one.view.dtype == saved else torch.empty(one.view.numel(), dtype=saved)
        reader.read_into(one.key, one.start, target, one.columns)
        if target is not one.view:
            one.view.copy_(target)
        if one.is_owned:
            data = as_bytes(target.to("cpu").contiguous())
            crc = spread_crc32(data, saved.itemsize, one.start, one.columns, one.shape)
            digests.append((one.key, one.start, one.view.numel(), crc, one.columns))
    return digests


def _compare(folder: Path, index: Index, digests: Sequence[_Digest]) -> None:
    """Raise unless each whole tensor is what was saved."""
    by_key: dict[str, list[_Digest]] = defaultdict(list)
    for digest in digests:
        by_key[digest[0]].append(digest)
    for key, pieces in by_key.items():
        record = index.tensor(key)
        size = DTYPES[record.dtype].itemsize
        require_whole(key, record.shape, [(start, length, columns) for _, start, length, _, columns in pieces])
        ends = sorted((end_in_whole(start, length, columns, record.shape) * size, crc)
                      for _, start, length, crc, columns in pieces)  # fmt: skip
        if combined((crc, end - before) for (before, _), (end, crc) in pairwise([(0, 0), *ends])) != record.crc32:
            raise CheckpointError(
                f"{folder.name}: {key} did not arrive as it was saved; check the machines' memory and disks, and resume"
                " from an older checkpoint"
            )
