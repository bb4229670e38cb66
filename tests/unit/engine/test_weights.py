"""Whole weights of a checkpoint without a job, whatever wrote it; the mean of several."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.checkpoint.commit import step_name
from pipeline.engine.checkpoint.weights import find_checkpoint, saved_weights
from pipeline.errors import CheckpointError
from tests.unit.small import small_checkpoint

FLOATS = st.floats(-(2.0**90), 2.0**90, width=32, allow_subnormal=False)


def written(checkpoints: Path, step: int, tensors: dict[str, torch.Tensor]) -> Path:
    small_checkpoint(checkpoints, step, tensors)
    return checkpoints / step_name(step)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_weights_come_in_fp32_without_moments(tmp_path: Path) -> None:
    frozen = torch.tensor([1.0, 2.5]).bfloat16()
    tensors = {"master/model.w": torch.arange(6.0).reshape(2, 3), "frozen/model.base": frozen}
    moments = {"exp_avg/model.w": torch.ones(2, 3), "momentum_buffer/model.v": torch.ones(4)}
    folder = written(tmp_path, 1, tensors | moments | {"buffer/model.seen": torch.ones(1)})
    saved = saved_weights(folder)
    weights = {name: saved.read(name) for name in saved.shapes}
    assert weights.keys() == {"w", "base", "seen"}
    assert torch.equal(weights["w"], torch.arange(6.0).reshape(2, 3))
    assert all(weight.dtype == torch.float32 for weight in weights.values())
    assert torch.equal(weights["base"], frozen.float())


def test_the_average_that_a_run_kept_comes_instead(tmp_path: Path) -> None:
    """With what is not trained, of which there is none; and of several the mean."""
    folders = [
        written(tmp_path, n, {"master/w": torch.ones(2), "ema/w": torch.ones(2) * n, "frozen/v": torch.zeros(1)})
        for n in (3, 5)
    ]
    one = saved_weights(folders[0], ema=True)
    assert {name: one.read(name).tolist() for name in one.shapes} == {"w": [3, 3], "v": [0]}
    assert saved_weights(*folders, ema=True).read("w").tolist() == [4, 4]
    with pytest.raises(CheckpointError, match=r"no average of its weights; leave out ema, or train with ema.decay"):
        saved_weights(written(tmp_path, 7, {"master/w": torch.ones(2)}), ema=True)


@given(st.lists(st.lists(FLOATS, min_size=3, max_size=3), min_size=1, max_size=5))
def test_the_mean_is_the_mean_rounded_once(tmp_path_factory: pytest.TempPathFactory, values: list[list[float]]) -> None:
    checkpoints = tmp_path_factory.mktemp("mean")
    folders = [written(checkpoints, n, {"master/model.w": torch.tensor(row)}) for n, row in enumerate(values, 1)]
    expected = torch.tensor(values, dtype=torch.float64).sum(0) / len(values)
    mean = saved_weights(*folders).read("w")
    torch.testing.assert_close(mean, expected.float(), rtol=2e-7, atol=1e-7 * float(torch.tensor(values).abs().max()))
    if len(values) == 1:
        assert torch.equal(mean, saved_weights(folders[0]).read("w"))


def test_small_weights_are_not_lost_beside_a_large_one(tmp_path: Path) -> None:
    """Summed in fp32, 2^25 + 1 + 1 + 1 is 2^25."""
    values = (2.0**25, 1.0, 1.0, 1.0)
    folders = [written(tmp_path, step, {"master/model.w": torch.tensor([one])}) for step, one in enumerate(values, 1)]
    assert saved_weights(*folders).read("w").item() == 2**23 + 1


@pytest.mark.parametrize("other", [{"master/model.w": torch.ones(3, 2)}, {"master/model.v": torch.ones(2, 3)}])
def test_checkpoints_of_different_models_have_no_mean(tmp_path: Path, other: dict[str, torch.Tensor]) -> None:
    folders = [written(tmp_path, 1, {"master/model.w": torch.ones(2, 3)}), written(tmp_path, 2, other)]
    with pytest.raises(CheckpointError, match="step-00000002 is of another model than step-00000001"):
        saved_weights(*folders)


def test_the_newest_good_one_is_found(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        written(tmp_path, step, {"master/model.w": torch.ones(2)})
    assert find_checkpoint(tmp_path)[1].step == 3
    assert find_checkpoint(tmp_path, 1)[0] == tmp_path / step_name(1)
    flip(tmp_path / step_name(3) / "state" / "rank-00000.safetensors")
    assert find_checkpoint(tmp_path)[1].step == 2
    assert (tmp_path / step_name(3)).is_dir()
    with pytest.raises(CheckpointError, match=r"step-00000003: state/rank-00000\.safetensors has other bytes"):
        find_checkpoint(tmp_path, 3)
    (tmp_path / step_name(2) / "index.json").unlink()
    (tmp_path / step_name(1) / "state" / "more.bin").touch()
    with pytest.raises(CheckpointError, match=r"is whole: .*index\.json cannot be read.*more\.bin is not listed"):
        find_checkpoint(tmp_path)


def test_a_checkpoint_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no checkpoint; train the run first"):
        find_checkpoint(tmp_path)
    written(tmp_path, 2, {"master/model.w": torch.ones(2)})
    written(tmp_path, 4, {"master/model.w": torch.ones(2)})
    with pytest.raises(CheckpointError, match=r"step 3 has no checkpoint in .*; it has 2, 4$"):
        find_checkpoint(tmp_path, 3)
