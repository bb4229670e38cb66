import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.permutation import Permutation, permutation

KEYS = st.lists(st.integers(-(2**63), 2**63) | st.text(max_size=5), max_size=3)


@given(st.integers(1, 3000), KEYS)
def test_it_is_a_bijection(size: int, key: list[int | str]) -> None:
    assert sorted(permutation(size, *key).tolist()) == list(range(size))


@given(st.integers(1, 2**62), KEYS, st.lists(st.integers(0, 2**62), min_size=1, max_size=50, unique=True))
def test_large_ones_keep_distinct_indices_distinct(size: int, key: list[int | str], indices: list[int]) -> None:
    distinct = sorted({index % size for index in indices})
    images = Permutation(size, *key)(np.array(distinct, dtype=np.uint64)).tolist()
    assert len(set(images)) == len(distinct)
    assert all(0 <= image < size for image in images)


@given(st.integers(1, 2**62) | st.integers(1, 5000), KEYS, st.lists(st.integers(0, 2**62), min_size=1, max_size=50))
def test_the_inverse_finds_back(size: int, key: list[int | str], indices: list[int]) -> None:
    one, places = Permutation(size, *key), np.array([index % size for index in indices], dtype=np.uint64)
    assert one.inverse(one(places)).tolist() == places.tolist()
    assert one(one.inverse(places)).tolist() == places.tolist()


def test_golden_values() -> None:
    """Data already trained on depends on these: they may never change."""
    assert permutation(10, 0).tolist() == [9, 8, 3, 7, 4, 5, 0, 6, 1, 2]
    assert permutation(10, 1, "shards").tolist() == [6, 4, 0, 9, 8, 2, 1, 7, 3, 5]
    large = Permutation(10**12, 7, "sequences", "web", 3)(np.array([0, 1, 2, 10**12 - 1], dtype=np.uint64))
    assert large.tolist() == [821319424210, 86057620359, 239608254983, 720286639619]
    assert int((permutation(1000, 5) * np.arange(1000, dtype=np.uint64)).sum()) == 251431552
    largest = Permutation(2**62, "x")(np.array([0, 2**62 - 1], dtype=np.uint64))
    assert largest.tolist() == [3940066867575984917, 3960981994154531878]


def test_keys_of_any_kind_differ() -> None:
    keys: list[tuple[int | str, ...]] = [(), (0,), (1,), ("1",), (0, 1), ("0", 1), ("a", "b"), ("ab",)]
    assert len({tuple(permutation(50, *key).tolist()) for key in keys}) == len(keys)


def test_every_image_is_as_likely() -> None:
    """Where index 0 goes, over many keys: chi-square with 31 degrees of freedom, 0.1 % quantile 61.1."""
    counts = np.bincount([int(permutation(32, "uniform", key)[0]) for key in range(6400)], minlength=32)
    assert float(((counts - 200) ** 2 / 200).sum()) < 61.1


@pytest.mark.parametrize("size", [0, -1, 2**62 + 1])
def test_a_size_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=r"must be in \[1, 2\*\*62\]"):
        Permutation(size)


@given(st.integers(1, 3000), st.integers(0, 2**32))
def test_few_images_are_those_of_the_table(size: int, seed: int) -> None:
    """However often it was asked before."""
    keyed, index = Permutation(size, seed), np.arange(0, size, 1 + size // 3, dtype=np.uint64)
    found = {tuple(keyed(index).tolist()) for _ in range(12)}
    assert found == {tuple(permutation(size, seed)[index].tolist())}
