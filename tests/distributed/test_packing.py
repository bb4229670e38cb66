"""Pieces in one row train as if each had a row of its own, at every stage and in every attention."""

import math

import pytest

from tests.distributed.jobs import run_job

CONFIGS = [
    {"zero_stage": 0, "precision": "fp32"},
    {"zero_stage": 0, "precision": "fp32", "attention": "documents", "recompute": "selective"},
    {"zero_stage": 1, "precision": "fp32", "attention": "documents", "compile": True},
    {"zero_stage": 3, "precision": "fp32"},
    {"zero_stage": 2, "precision": "bf16", "attention": "documents"},
]
TOLERANCE = {"fp32": 1e-5, "bf16": 2e-2}


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    """Per config, loss and gradient norm of each step: packed, alone, and with nothing kept apart."""
    return run_job("tests.distributed.ramp_body:packed", 2, tmp_path_factory.mktemp("packing"), configs=CONFIGS)[0]


@pytest.mark.parametrize("number", range(len(CONFIGS)))
def test_pieces_in_one_row_train_as_if_alone(curves, number):
    packed, alone, mixed = curves[number]
    tolerance = TOLERANCE[CONFIGS[number]["precision"]]
    for one, other in zip(packed, alone, strict=True):
        assert math.isclose(one[0], other[0], rel_tol=min(tolerance, 1e-6 if tolerance < 1e-3 else 1))
        assert math.isclose(one[1], other[1], rel_tol=tolerance)
    assert not math.isclose(packed[0][1], mixed[0][1], rel_tol=1e-2)
