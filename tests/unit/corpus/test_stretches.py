from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.stretches import joined


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=12), st.randoms())
def test_stretches_that_touch_are_joined(gaps: list[tuple[int, int]], chance: object) -> None:
    stretches, place = [], 0
    for gap, length in gaps:
        stretches.append((place + gap, place + gap + length))
        place += gap + length
    places = {one for start, stop in stretches for one in range(start, stop)}
    chance.shuffle(stretches)  # type: ignore[attr-defined]
    found = joined(*np.array(stretches, dtype=np.int64).reshape(-1, 2).T)
    pairs = list(zip(*(one.tolist() for one in found), strict=True))
    assert [one for start, stop in pairs for one in range(start, stop)] == sorted(places)
    assert all(stop < start for (_, stop), (start, _) in pairwise(pairs))
    assert all(start < stop for start, stop in pairs)
