from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_prep.documents.document import content_hash, lower_half
from data_prep.documents.split import SPLITS, Extremes, SplitShares, moved_documents, moved_together

LOWERS = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=12, unique=True)
SHARES = st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)).filter(lambda pair: sum(pair) < 1)


def extremes_of(hashes: list[int], shares: SplitShares) -> Extremes:
    splits = [shares.split_of(hash_) for hash_ in hashes]
    counts = tuple(splits.count(number) for number in range(3))
    train = [hash_ for hash_, split in zip(hashes, splits, strict=True) if split == 0]
    held_out = [hash_ for hash_, split in zip(hashes, splits, strict=True) if split != 0]
    return Extremes(counts, min(train, key=lower_half, default=None), max(held_out, key=lower_half, default=None))  # type: ignore[arg-type]


@pytest.mark.parametrize(("validation", "test"), [(0.1, 0.05), (0.02, 0.0), (0.0, 0.3), (0.0, 0.0)])
def test_shares_are_shares_of_the_documents(validation: float, test: float) -> None:
    shares = SplitShares(validation, test)
    found = Counter(SPLITS[shares.split_of(content_hash(str(number), 3))] for number in range(20_000))
    for split, share in (("validation", validation), ("test", test)):
        assert abs(found[split] / 20_000 - share) < 0.008
        assert bool(found[split]) == bool(share)


@given(st.integers(0, 2**128 - 1), SHARES, st.floats(0, 0.9))
def test_a_larger_share_takes_documents_from_others_and_gives_none_back(
    hash_: int, pair: tuple[float, float], more: float
) -> None:
    """Else what was held out would come into training when the share grows."""
    validation, test = pair
    before, after = SplitShares(validation, test), SplitShares(max(validation, more), test)
    if before.split_of(hash_) == 1:
        assert after.split_of(hash_) == 1
    if before.split_of(hash_) == 2:
        assert after.split_of(hash_) in (1, 2)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), SHARES)
def test_only_the_lower_half_decides(upper: int, lower: int, pair: tuple[float, float]) -> None:
    """The upper half decides the shard: with both from one half, a shard would lie in one split."""
    shares = SplitShares(*pair)
    assert shares.split_of(upper << 64 | lower) == shares.split_of(lower)


@given(LOWERS, SHARES)
@example([5], (0.9, 0.0))
@example([2**63], (0.4, 0.5))
def test_no_side_is_empty_if_it_can_be_helped(lowers: list[int], pair: tuple[float, float]) -> None:
    shares = SplitShares(*pair)
    hashes = [number << 64 | lower for number, lower in enumerate(lowers)]
    extremes = extremes_of(hashes, shares)
    moved = moved_documents(shares, extremes)
    splits = {hash_: moved.get(hash_, shares.split_of(hash_)) for hash_ in hashes}
    counts = Counter(splits.values())
    assert set(moved) <= set(hashes)
    assert counts[0] > 0
    if shares.validation and sum(extremes.documents[:2]) > 1:
        assert counts[1] > 0
    if not shares.validation:
        assert counts[1] == 0
    if extremes.documents[0] and (extremes.documents[1] or not shares.validation):
        assert not moved


def test_nothing_moves_where_nothing_is() -> None:
    assert moved_documents(SplitShares(0.5, 0.1), Extremes()) == {}


@pytest.mark.parametrize(
    ("documents", "moved"),
    [((2, 0, 0), {7: 1}), ((1, 0, 0), {}), ((1, 0, 5), {}), ((0, 2, 0), {9: 0}), ((0, 1, 0), {9: 0}), ((3, 1, 0), {})],
)
def test_what_lies_nearest_to_the_border_moves(documents: tuple[int, int, int], moved: dict[int, int]) -> None:
    assert moved_documents(SplitShares(0.5, 0.1), Extremes(documents, 7, 9 if any(documents[1:]) else None)) == moved


@given(st.lists(LOWERS, min_size=1, max_size=4), SHARES)
@example([[0, 9], [1, 9], [0, 1]], (1e-30, 0.0))
def test_moved_together_no_source_loses_its_training_documents(
    sources: list[list[int]], pair: tuple[float, float]
) -> None:
    """And all that moves is what some source asks for."""
    shares = SplitShares(*pair)
    numbered = [[lower << 64 | lower for lower in lowers] for lowers in sources]
    extremes = [extremes_of(hashes, shares) for hashes in numbered]
    moved = moved_together(shares, extremes)
    assert moved.items() <= {item for one in extremes for item in moved_documents(shares, one).items()}
    for hashes in numbered:
        splits = [moved.get(hash_, shares.split_of(hash_)) for hash_ in hashes]
        assert 0 in splits


def test_what_one_source_moves_moves_in_all() -> None:
    shares = SplitShares(0.05, 0.0)
    low, high = 2**60, 2**63
    few, many = extremes_of([low, high], shares), extremes_of([low, high, 5], shares)
    assert moved_documents(shares, many) == {}
    assert moved_together(shares, [few, many]) == {low: 1}
    assert moved_together(shares, [few, extremes_of([low], shares)]) == {}
