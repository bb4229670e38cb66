"""However a step is laid out, it learns the same: ranks, ZeRO stage, compilation, packing, accumulation."""

import math
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.distributed.jobs import run_job

TOLERANCE = {"fp32": 1e-5, "bf16": 5e-3}
"""How far losses of any of 50 steps may be apart, as a share."""


class Layout(NamedTuple):
    """How a step is laid out."""

    ranks: int
    precision: str
    zero_stage: int
    compile: bool
    packed: bool
    accumulation: int
    """Micro batches of each rank."""

    def __str__(self) -> str:
        ways = [*["compiled"] * self.compile, *["packed"] * self.packed, f"{self.accumulation} micro batches"]
        return ", ".join([f"{self.ranks} ranks", self.precision, f"ZeRO {self.zero_stage}", *ways])


FP32 = [(False, True, 1), (False, False, 4), (True, True, 4)]
BF16 = [(False, True, 1), (True, False, 4)]
"""Compiled, packed, micro batches."""
PLAIN = {precision: Layout(1, precision, 1, False, False, 1) for precision in TOLERANCE}
"""What the others are compared with."""
LAYOUTS = [
    *PLAIN.values(),
    *(Layout(ranks, "fp32", stage, *step) for ranks in (1, 2) for stage in (0, 1, 2, 3) for step in FP32),
    *(Layout(ranks, "bf16", stage, *step) for ranks in (1, 2) for stage in (1, 2, 3) for step in BF16),
]
AGAIN = [one for one in LAYOUTS if one.compile and one.precision == "fp32" and one.zero_stage in (2, 3)]
"""Run twice."""


def learn(ranks: int, job: Path) -> tuple[dict[Layout, list[float]], dict[Layout, list[float]]]:
    """Losses of each layout on so many ranks, and of some of them again."""
    first, again = ([one for one in layouts if one.ranks == ranks] for layouts in (LAYOUTS, AGAIN))
    layouts = [one._asdict() for one in (*first, *again)]
    losses = run_job("tests.distributed.matrix_body:curves", ranks, job, layouts=layouts)[0]
    return dict(zip(first, losses, strict=False)), dict(zip(again, losses[len(first) :], strict=True))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return learn(1, tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    return learn(2, tmp_path_factory.mktemp("together"))


@pytest.fixture
def curves(request, layout):
    """Of the layout's number of ranks."""
    return request.getfixturevalue("alone" if layout.ranks == 1 else "together")


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_fifty_steps_are_the_same_however_they_are_laid_out(alone, curves, layout):
    reference, measured = alone[0][PLAIN[layout.precision]], curves[0][layout]
    assert len(reference) == 50
    assert reference[-1] < 0.6 * reference[0]  # it learns
    tolerance = TOLERANCE[layout.precision]
    assert all(math.isclose(*pair, rel_tol=tolerance) for pair in zip(reference, measured, strict=True))


@pytest.mark.parametrize("layout", AGAIN, ids=str)
def test_the_same_layout_is_the_same_to_the_last_bit(curves, layout):
    first, again = curves
    assert again[layout] == first[layout]
