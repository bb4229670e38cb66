import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.best_fit import best_fit


def by_trying_all(lengths: list[int], capacity: int) -> list[int]:
    """How full each bin is: longest items first, each into the fullest bin that has room, or into a new one."""
    bins: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [place for place, filled in enumerate(bins) if filled + length <= capacity]
        if fitting:
            bins[max(fitting, key=lambda place: bins[place])] += length
        else:
            bins.append(length)
    return sorted(bins)


@given(st.integers(1, 40).flatmap(lambda capacity: st.tuples(
    st.just(capacity), st.lists(st.integers(1, capacity), max_size=40))))  # fmt: skip
def test_it_packs_as_trying_all_bins_does(given_items: tuple[int, list[int]]) -> None:
    capacity, lengths = given_items
    bins = best_fit(np.array(lengths, dtype=np.int64), capacity)
    filled = np.bincount(bins, weights=lengths) if lengths else np.empty(0)
    assert sorted(filled.astype(int).tolist()) == by_trying_all(lengths, capacity)


def test_a_known_answer() -> None:
    """The same for ever: runs go on with the bins that they began with."""
    lengths = np.array([5, 3, 5, 2, 7, 3, 1, 1, 6, 4])
    assert best_fit(lengths, 10).tolist() == [2, 0, 2, 3, 0, 3, 3, 3, 1, 1]
