from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.mixture import BLOCK_SAMPLES, WEIGHT_TOTAL, Mixture, counts, integer_weights

FLOATS = st.lists(st.floats(0, 1e6), min_size=1, max_size=12).filter(any)
WEIGHTS = FLOATS.map(integer_weights)


@given(FLOATS)
def test_integer_weights_sum_up_and_keep_their_share(weights: list[float]) -> None:
    found = integer_weights(weights)
    assert sum(found) == WEIGHT_TOTAL
    total = sum(map(Fraction, weights))
    for weight, share in zip(weights, found, strict=True):
        assert (share > 0) == (weight > 0)
        assert abs(share - Fraction(weight) / total * WEIGHT_TOTAL) <= len(weights)  # tiny ones are lifted to 1


@given(FLOATS, st.integers(-20, 20))
def test_only_the_ratio_of_weights_matters(weights: list[float], exponent: int) -> None:
    scaled = [Fraction(weight) * Fraction(2) ** exponent for weight in weights]
    assert integer_weights(scaled) == integer_weights(weights)  # type: ignore[arg-type]


@given(WEIGHTS, st.integers(0, 10**12), st.integers(0, 5000))
def test_counts_are_exact_and_never_fall(weights: tuple[int, ...], first: int, more: int) -> None:
    early, late = counts(weights, first), counts(weights, first + more)
    assert sum(early) == first
    assert sum(late) == first + more
    depth = len(weights).bit_length()
    for weight, before, after in zip(weights, early, late, strict=True):
        assert before <= after
        assert abs(before - Fraction(weight, WEIGHT_TOTAL) * first) <= depth
        assert weight or not after


@given(WEIGHTS, st.integers(0, 10 * BLOCK_SAMPLES), st.lists(st.integers(1, 1500), min_size=1, max_size=6))
@settings(max_examples=60)
def test_assignment_agrees_with_counts_in_any_partition(weights: tuple[int, ...], first: int, parts: list[int]) -> None:
    mixture = Mixture(weights, 3, "mixture", 0)
    whole_sources, whole_indices = Mixture(weights, 3, "mixture", 0).assign(first, sum(parts))
    start = first
    for size in parts:
        sources, indices = mixture.assign(start, size)
        assert np.array_equal(sources, whole_sources[start - first :][:size])
        assert np.array_equal(indices, whole_indices[start - first :][:size])
        start += size
    before, after = mixture.counts(first), mixture.counts(start)
    for source, (early, late) in enumerate(zip(before, after, strict=True)):
        assert whole_indices[whole_sources == source].tolist() == list(range(early, late))


@given(WEIGHTS, st.integers(0, 10**12), st.integers(1, 20))
@settings(max_examples=60)
def test_the_sample_of_a_source_is_found_back(weights: tuple[int, ...], first: int, number: int) -> None:
    mixture = Mixture(weights, 3)
    sources, indices = mixture.assign(first, number)
    assert [mixture.sample(*pair) for pair in zip(sources.tolist(), indices.tolist(), strict=True)] == list(
        range(first, first + number)
    )


@given(WEIGHTS, st.integers(0, 10**11))
@settings(max_examples=60)
def test_a_block_holds_exact_quotas(weights: tuple[int, ...], block: int) -> None:
    mixture = Mixture(weights, 0)
    sources, _ = mixture.assign(block * BLOCK_SAMPLES, BLOCK_SAMPLES)
    found = np.bincount(sources, minlength=len(weights)).tolist()
    edges = [counts(weights, number * BLOCK_SAMPLES) for number in (block, block + 1)]
    assert found == [late - early for early, late in zip(*edges, strict=True)]


def test_sources_come_in_a_keyed_order() -> None:
    weights = integer_weights([1, 1])
    orders = {tuple(Mixture(weights, key).assign(0, 64)[0].tolist()) for key in range(20)}
    assert len(orders) == 20
    blocks = Mixture(weights, 0).assign(0, 2 * BLOCK_SAMPLES)[0]
    assert not np.array_equal(blocks[:BLOCK_SAMPLES], blocks[BLOCK_SAMPLES:])


@pytest.mark.parametrize("index", [0, 1, 2, 7])
def test_the_samples_of_a_rare_source_are_found(index: int) -> None:
    """Its first one comes after some blocks."""
    mixture = Mixture(integer_weights([5000, 1, 3]), 0)
    sources, indices = mixture.assign(0, 60_000)
    for source in range(3):
        place = int(np.flatnonzero((sources == source) & (indices == index))[0])
        assert mixture.sample(source, index) == place


def test_golden_values() -> None:
    """Data already trained on depends on these: they may never change."""
    weights = integer_weights([0.7, 0.2, 0.1])
    assert weights == (3006477107, 858993459, 429496730)
    mixture = Mixture(weights, 0, "mixture", 0)
    sources, indices = mixture.assign(0, 24)
    assert sources.tolist() == [0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2, 0, 1, 0, 1]
    assert indices.tolist() == [0, 0, 1, 2, 3, 4, 1, 2, 5, 6, 7, 3, 8, 9, 10, 11, 12, 13, 4, 0, 14, 5, 15, 6]
    assert mixture.counts(10**9 + 7) == [700000008, 199999997, 100000002]
