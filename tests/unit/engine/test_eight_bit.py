"""8-bit moments come back from fp32 bit by bit, whatever they went through."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.eight_bit import adamw_8bit, compress, expanded, is_8bit, prepare_8bit
from pipeline.errors import MissingDependencyError


@given(st.integers(0, 2**31), st.sampled_from([(64, 70), (9000,), (5,)]), st.floats(1e-12, 1e3))
@settings(deadline=None, max_examples=30)
def test_moments_that_were_expanded_come_back(seed, shape, scale):
    """Of matrices and flat parts, whole blocks of zeros, and what is too small for bytes."""
    generator = torch.Generator().manual_seed(seed)
    parameter = torch.nn.Parameter(torch.randn(shape, generator=generator))
    optimizer = adamw_8bit([parameter], lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    assert is_8bit(optimizer)
    prepare_8bit(optimizer, parameter, None)
    for _ in range(3):
        parameter.grad = torch.randn(shape, generator=generator).pow(5) * scale
        parameter.grad[:3] = 0
        optimizer.step()
    state = optimizer.state[parameter]
    before = {name: state[name].clone() for name in state if name.startswith(("state", "absmax"))}
    moments = {kind: one.clone() for kind, one in expanded(state).items()}
    prepare_8bit(optimizer, parameter, 3)
    for kind, waiting in expanded(state).items():
        assert not waiting.any()
        waiting.copy_(moments[kind])
    compress(state)
    assert state["step"] == 3
    assert all(torch.equal(one, moments[kind]) for kind, one in expanded(state).items())
    assert all(torch.equal(state[name], one) for name, one in before.items() if name.startswith("absmax"))
    assert moments["exp_avg"].shape == parameter.shape
    assert moments["exp_avg"].any()


def test_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'tarmac\[adam8bit\]'"):
        adamw_8bit([], lr=1e-3)
