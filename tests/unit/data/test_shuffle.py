"""How well the order is shuffled. Each measure is a number of standard deviations from what chance gives; a
deliberately weak permutation fails the same judgement.

Some thousand measures are taken, so the limit is 5 standard deviations: by chance one in two million is beyond. Keys
are fixed, so the outcome never changes.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.data.cuts import Cuts
from pipeline.data.mixture import integer_weights
from pipeline.data.order import Order
from pipeline.data.permutation import Permutation, permutation
from pipeline.data.phases import Phase, Setting, SourceShare
from tests.unit.data.test_order import Shards

LIMIT = 5.0
LAGS = (1, 2, 3, 4, 5, 7, 8, 16, 32, 64, 100, 128, 256)
CELLS = 16
SIZES = (1000, 4096, 16_385)
KEYS = range(8)
Images = NDArray[np.int64]


def normal(chi: float, freedom: int) -> float:
    """A chi-square as standard deviations (Wilson and Hilferty 1931)."""
    spread = 2 / (9 * freedom)
    return float(((chi / freedom) ** (1 / 3) - (1 - spread)) / np.sqrt(spread))


def chi_square(images: Images) -> float:
    """Position × place, in 16 × 16 cells; both margins are fixed, so that there are 15² degrees of freedom."""
    size = len(images)
    cells = np.zeros((CELLS, CELLS))
    np.add.at(cells, (np.arange(size) * CELLS // size, images * CELLS // size), 1)
    expected = np.outer(cells.sum(1), cells.sum(0)) / size
    return normal(((cells - expected) ** 2 / expected).sum(), (CELLS - 1) ** 2)


def runs(images: Images) -> float:
    """Runs above and below the median: n/2 + 1 are expected (Wald and Wolfowitz 1940)."""
    above = images >= len(images) / 2
    high, size = int(above.sum()), len(images)
    low = size - high
    mean = 2 * high * low / size + 1
    return float((1 + np.count_nonzero(np.diff(above)) - mean) / np.sqrt((mean - 1) * (mean - 2) / (size - 1)))


def turns(images: Images) -> float:
    """Peaks and troughs: 2 (n - 2) / 3 are expected (Bienaymé 1874)."""
    rises, size = np.diff(images) > 0, len(images)
    return float((np.count_nonzero(np.diff(rises)) - 2 * (size - 2) / 3) / np.sqrt((16 * size - 29) / 90))


def autocorrelation(images: Images, lag: int) -> float:
    """Of values `lag` places apart, on a circle: -1 / (n - 1) is expected, with a deviation of about n^-1/2."""
    centred, size = images - images.mean(), len(images)
    found = float((centred * np.roll(centred, lag)).sum() / (centred**2).sum())
    return (found + 1 / (size - 1)) * float(np.sqrt(size))


def neighbours(images: Images) -> float:
    """Mean distance of values next to each other: (n + 1) / 3 is expected.

    Var|X - Y| = n²/18, and neighbouring distances share a value: covariance n²/180 (from E|x - X| of a uniform X).
    """
    size = len(images)
    return float(np.abs(np.diff(images)).mean() - (size + 1) / 3) / float(np.sqrt((1 / 18 + 2 / 180) / size) * size)


def differences(images: Images, lag: int) -> float:
    """Differences modulo n of values some places apart, in 64 classes: chi-square with 63 degrees of freedom."""
    size = len(images)
    found = (images[lag:] - images[:-lag]) % size
    counts = np.bincount(found * 64 // size, minlength=64)
    widths = np.bincount(np.arange(1, size) * 64 // size, minlength=64)  # 0 is no difference of two places
    expected = len(found) * widths / widths.sum()
    return normal(((counts - expected) ** 2 / expected).sum(), 63)


def worst(images: Images) -> float:
    """The measure that is farthest from chance, in standard deviations; too even is as suspicious as too uneven."""
    found = [measure(images) for measure in (chi_square, runs, turns, neighbours)]
    lagged = [measure(images, lag) for measure in (autocorrelation, differences) for lag in LAGS]
    return max(map(abs, [*found, *lagged]))


def ours(size: int, key: int) -> Images:
    return permutation(size, key, "sequences", "web", 0, 3).astype(np.int64)


def drawn(size: int, key: int) -> Images:
    """NumPy's own: shows that the measures are right."""
    return np.random.default_rng(key).permutation(size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shuffle", [ours, drawn])
def test_a_permutation_cannot_be_told_from_chance(shuffle: Callable[[int, int], Images], size: int) -> None:
    assert max(worst(shuffle(size, key)) for key in KEYS) < LIMIT


def one_round(size: int, key: int) -> Images:
    """Half of each value is what it was."""
    weak = Permutation(size, key)
    weak._round_keys = weak._round_keys[:1]
    return weak(np.arange(size, dtype=np.uint64)).astype(np.int64)


def two_rounds(size: int, key: int) -> Images:
    weak = Permutation(size, key)
    weak._round_keys = weak._round_keys[:2]
    return weak(np.arange(size, dtype=np.uint64)).astype(np.int64)


def congruence(size: int, key: int) -> Images:
    """Linear: neighbours are always the same distance apart."""
    factor = next(one for one in range(size * 5 // 8 + key, 2 * size) if np.gcd(one, size) == 1)
    return (np.arange(size) * factor + key) % size


def blocks(size: int, key: int) -> Images:
    """A shuffle buffer: blocks of 64 values are shuffled, and each stays where it is."""
    draw = np.random.default_rng(key)
    return np.concatenate([draw.permutation(part) for part in np.array_split(np.arange(size), size // 64)])


def block_order(size: int, key: int) -> Images:
    """Blocks of 8 values in a random order: within each, nothing is shuffled."""
    parts = np.array_split(np.arange(size), size // 8)
    return np.concatenate([parts[number] for number in np.random.default_rng(key).permutation(len(parts))])


def rotation(size: int, key: int) -> Images:
    return np.roll(np.arange(size), key * 97)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("weak", [one_round, two_rounds, congruence, blocks, block_order, rotation])
def test_a_weak_permutation_is_told_from_chance(weak: Callable[[int, int], Images], size: int) -> None:
    """With any key: so a single bad one of ours would show."""
    for key in KEYS:
        images = weak(size, key)
        assert sorted(images.tolist()) == list(range(size))
        assert worst(images) > LIMIT


def test_keys_give_orders_that_have_nothing_in_common() -> None:
    """Of epochs and of shards: rank correlation of each pair, with a deviation of n^-1/2; equal places: 1 is mean."""
    size = 4096
    orders = [permutation(size, 7, "sequences", "web", epoch, shard) for epoch in range(6) for shard in range(6)]
    for one, other in pairwise(orders):
        assert abs(np.corrcoef(one, other)[0, 1]) * np.sqrt(size) < LIMIT
        assert np.count_nonzero(one == other) < 10


def sequence_of(weights: list[float], steps: int) -> tuple[Images, Images]:
    """Source, and place in the source as a whole, of each sample of an order."""
    shards = {name: Shards([[4] * 1000] * 8) for name in ("code", "web")[: len(weights)]}
    shares = zip(shards, integer_weights(weights), strict=True)
    setting = Setting(tuple(SourceShare(name, "", 8, weight) for name, weight in shares), 4, 64)
    order = Order(Cuts(shards, 3), 3, [Phase(0, 0, setting)])
    batches = [order.batch(step) for step in range(steps)]
    found = [(sample.at.source, sample.at.shard, sample.sequence) for batch in batches for sample in batch]
    sources = np.array([source == "web" for source, _, _ in found], dtype=np.int64)
    return sources, np.array([shard * 1000 + sequence for _, shard, sequence in found])


def test_the_whole_order_is_shuffled_within_and_over_shards() -> None:
    """Shard after shard, each in an order of its own that cannot be told from chance."""
    _, places = sequence_of([1], steps=125)
    shards = places.reshape(8, 1000) // 1000
    assert (shards == shards[:, :1]).all()
    assert sorted(shards[:, 0].tolist()) == list(range(8))
    assert shards[:, 0].tolist() != list(range(8))
    inside = [places[start : start + 1000] % 1000 for start in range(0, 8000, 1000)]
    assert max(worst(one) for one in inside) < LIMIT
    for one, other in pairwise(inside):
        assert abs(np.corrcoef(one, other)[0, 1]) * np.sqrt(1000) < LIMIT


def test_sources_come_as_if_drawn_by_chance() -> None:
    """Of two sources: runs, and correlation at several lags. Quotas make shares exact, so only the order is random."""
    sources, _ = sequence_of([3, 1], steps=128)
    assert int(sources.sum()) in range(2045, 2052)
    size, high = len(sources), int(sources.sum())
    mean = 2 * high * (size - high) / size + 1
    number = 1 + np.count_nonzero(np.diff(sources))
    assert abs(number - mean) / np.sqrt((mean - 1) * (mean - 2) / (size - 1)) < LIMIT
    assert max(abs(autocorrelation(sources, lag)) for lag in LAGS) < LIMIT
