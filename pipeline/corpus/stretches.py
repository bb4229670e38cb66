"""Stretches [start, stop) of a stream, many at a time."""

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]


def split_at(starts: Places, stops: Places, places: Places) -> tuple[Places, Places, Places]:
    """Stretches, none of them empty, cut at some rising places: starts and stops, and which stretch each is part of."""
    low, high = np.searchsorted(places, starts, side="right"), np.searchsorted(places, stops, side="left")
    counts = np.maximum(0, high - low)
    if not counts.any():
        return starts, stops, np.arange(len(starts))
    inside = places[ranges(low, counts)]
    which = np.repeat(np.arange(len(starts)), counts)
    return (
        np.insert(starts, which + 1, inside),
        np.insert(stops, which, inside),
        np.repeat(np.arange(len(starts)), counts + 1),
    )


def joined(starts: Places, stops: Places) -> tuple[Places, Places]:
    """Stretches, none overlapping another, in rising order; those that touch become one, and empty ones vanish."""
    order = np.argsort(starts, kind="stable")
    order = order[(stops > starts)[order]]
    starts, stops = starts[order], stops[order]
    is_apart = starts[1:] != stops[:-1]
    return starts[np.append(True, is_apart)[: len(starts)]], stops[np.append(is_apart, True)[: len(stops)]]


def distinct(places: Places) -> Places:
    """Places in rising order, each once. Sorting them is much faster than NumPy's own, which hashes."""
    rising = np.sort(places)
    is_first = np.append(True, rising[1:] != rising[:-1])[: len(rising)]
    return np.asarray(rising[is_first], dtype=np.int64)


def is_among(places: Places, rising: Places) -> NDArray[np.bool_]:
    """Which places are among some rising ones."""
    if not len(rising):
        return np.zeros(len(places), dtype=np.bool_)
    nearest = np.minimum(np.searchsorted(rising, places), len(rising) - 1)
    return np.asarray(rising[nearest] == places, dtype=np.bool_)


def ranges(firsts: Places, counts: Places) -> Places:
    """[first, first + count) of each pair, one after the other."""
    return np.repeat(firsts - (np.cumsum(counts) - counts), counts) + np.arange(int(counts.sum()))
