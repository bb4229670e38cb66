"""Which tokens are hidden, and what is read in their place."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.batch import IGNORED, Rows
from pipeline.data.loader import Loader, Share
from pipeline.data.noise import PADDING, Noise, Words, most_chosen
from tests.unit.data.test_loader import Numbers, order_of

VOCABULARY, MASK, PAD, END = 100, 99, 0, 1
ORDINARY = (np.arange(VOCABULARY) > END) & (np.arange(VOCABULARY) != MASK)


def noise(share: float = 0.15, words: Words | None = None, seed: int = 5) -> Noise:
    return Noise(seed, share, MASK, PAD, ORDINARY, words)


def rows_of(tokens: np.ndarray) -> Rows:
    rows = Rows(*tokens.shape, pad_id=PADDING)
    rows.inputs[...], rows.labels[...] = tokens, tokens
    return rows


def text(number: int, length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(END + 1, MASK, (number, length))


def test_of_many_tokens_the_shares_are_those_of_the_paper() -> None:
    tokens = text(2000, 200)
    rows = rows_of(tokens)
    noise().put_into(rows, np.arange(2000))
    chosen = rows.labels != IGNORED
    assert (chosen.sum(axis=1) == 30).all()
    assert (rows.labels[chosen] == tokens[chosen]).all()
    assert (rows.inputs[~chosen] == tokens[~chosen]).all()
    read = rows.inputs[chosen]
    masked, kept = (read == MASK).mean(), (read == tokens[chosen]).mean()
    error = 4 * np.sqrt(0.25 / len(read))
    assert abs(masked - 0.8) < error
    assert abs(kept - (0.1 + 0.1 / ORDINARY.sum())) < error  # the other token may be the same one
    others = read[(read != MASK) & (read != tokens[chosen])]
    assert set(others) == set(np.flatnonzero(ORDINARY))
    assert abs(chosen.mean(axis=0) - 0.15).max() < 0.04  # every column as likely


def test_noise_of_a_sample_is_its_own() -> None:
    tokens = np.repeat(text(1, 64), 3, axis=0)
    rows = rows_of(tokens)
    noise().put_into(rows, np.array([7, 8, 7]))
    assert (rows.inputs[0] == rows.inputs[2]).all()
    assert (rows.inputs[0] != rows.inputs[1]).any()
    other = rows_of(tokens)
    noise(seed=6).put_into(other, np.array([7, 8, 7]))
    assert (rows.inputs[0] != other.inputs[0]).any()


def test_golden_values() -> None:
    """They must not change: runs that resume read them."""
    rows = rows_of(np.arange(2, 34)[None])
    noise(0.25).put_into(rows, np.array([123_456_789_012]))
    assert np.flatnonzero(rows.labels[0] != IGNORED).tolist() == [6, 9, 16, 18, 19, 24, 25, 30]
    assert rows.inputs[0, [6, 9, 16, 18, 19, 24, 25, 30]].tolist() == [8, 3, 99, 99, 99, 99, 99, 99]


@given(st.integers(0, 2**62), st.integers(1, 9), st.integers(1, 40), st.floats(0.01, 0.5), st.data())
def test_rows_may_be_divided_in_any_way(
    first: int, number: int, length: int, share: float, data: st.DataObject
) -> None:
    """Nothing depends on what else is in a micro batch; padding and ends of documents stay what they are."""
    tokens = text(number, length, seed=first % 1000)
    special = data.draw(st.lists(st.sampled_from((PADDING, END, 7, 7)), min_size=length, max_size=length))
    tokens[0] = [one if one != 7 else token for one, token in zip(special, tokens[0], strict=True)]
    numbers = first + np.arange(number)
    whole = rows_of(tokens)
    noise(share).put_into(whole, numbers)
    cuts = sorted(data.draw(st.sets(st.integers(1, number))) | {number})
    start = 0
    for stop in cuts:
        part = rows_of(tokens[start:stop])
        noise(share).put_into(part, numbers[start:stop])
        assert (part.inputs == whole.inputs[start:stop]).all()
        assert (part.labels == whole.labels[start:stop]).all()
        start = stop
    assert (whole.inputs[tokens == PADDING] == PAD).all()
    assert (whole.inputs[tokens == END] == END).all()
    assert (whole.labels[(tokens == PADDING) | (tokens == END)] == IGNORED).all()
    chosen = (whole.labels != IGNORED).sum(axis=1)
    assert (chosen <= most_chosen(share, length)).all()
    assert (chosen[1:] == most_chosen(share, length)).all()


@given(st.integers(1, 60), st.floats(0.05, 0.5), st.integers(0, 1000))
def test_words_are_chosen_whole(length: int, share: float, seed: int) -> None:
    """Ids above 50 begin a word, and one begins behind id 2, at a new piece, and on both sides of an end."""
    begins, ends = np.arange(VOCABULARY) > 50, np.arange(VOCABULARY) == 2
    tokens = np.where(np.random.default_rng(seed).random((4, length)) < 0.1, END, text(4, length, seed))
    rows = Rows(4, length, PADDING, has_pieces=True)
    rows.inputs[...], rows.labels[...] = tokens, tokens
    assert rows.positions is not None
    rows.positions[...] = np.arange(length)
    rows.positions[:, length // 2 :] -= length // 2
    noise(share, Words(begins, ends)).put_into(rows, np.arange(4))
    for row in range(4):
        words: list[list[int]] = []
        for column, token in enumerate(tokens[row]):
            before = tokens[row, column - 1] if column else END
            is_new = token > 50 or before in (2, END) or column == length // 2
            if token != END:
                words = [*words, [column]] if is_new else [*words[:-1], [*words[-1], column]]
        chosen = set(np.flatnonzero(rows.labels[row] != IGNORED))
        assert all(chosen.isdisjoint(word) or chosen.issuperset(word) for word in words)
        assert len(chosen) <= most_chosen(share, length)


def seen(rank: int, world_size: int, micro_size: int, step: int) -> dict[int, tuple[list[int], ...]]:
    """Inputs, labels and positions by their place in the global batch, as one rank's loader gives them."""
    share = Share(rank, world_size, micro_size)
    hides = Noise(5, 0.3, 12_000, 3, np.arange(12_001) < 12_000)
    micro_batches = Loader(Numbers(), order_of(10), share, 3, noise=hides).batch(step).micro_batches
    mine, rows = share.rows(np.arange(10))
    found = {}
    for place, row in zip(mine.tolist(), rows.tolist(), strict=True):
        one, number = micro_batches[row // micro_size], row % micro_size
        positions = torch.arange(4) if one.position_ids is None else one.position_ids[number]
        found[place] = tuple(values.tolist() for values in (one.input_ids[number], one.labels[number], positions))
    return found


@pytest.mark.parametrize(("world_size", "micro_size"), [(1, 3), (2, 1), (2, 4), (3, 2)])
def test_ranks_and_micro_batches_see_the_noise_of_the_sample(world_size: int, micro_size: int) -> None:
    for step in range(4):
        whole = seen(0, 1, 10, step)
        parts = [seen(rank, world_size, micro_size, step) for rank in range(world_size)]
        assert {place: one for part in parts for place, one in part.items()} == whole
        assert all(label in (IGNORED, *range(12_000)) for _, labels, _ in whole.values() for label in labels)
    assert sum(labels != [IGNORED] * 4 for _, labels, _ in whole.values()) == 10


def test_whole_words_come_near_the_share() -> None:
    begins = np.arange(VOCABULARY) > 60
    rows = rows_of(text(500, 256))
    noise(0.15, Words(begins, np.zeros(VOCABULARY, dtype=bool))).put_into(rows, np.arange(500))
    assert 0.14 < (rows.labels != IGNORED).mean() <= 0.15


def test_padding_is_a_piece_that_no_text_sees() -> None:
    tokens = np.array([[5, 6, 7, 8], [5, 6, PADDING, PADDING], [PADDING, 5, PADDING, 6], [PADDING] * 4])
    rows = rows_of(tokens)
    noise().put_into(rows, np.arange(4))
    assert rows.positions is not None
    assert rows.positions.tolist() == [[0, 1, 2, 3], [0, 1, 0, 1], [0, 0, 0, 0], [0, 1, 2, 3]]
    with_pieces = Rows(1, 6, PADDING, has_pieces=True)
    with_pieces.inputs[...], with_pieces.labels[...] = [[4, 5, 6, 7, PADDING, PADDING]], IGNORED
    assert with_pieces.positions is not None
    with_pieces.positions[...] = [[0, 1, 0, 1, 4, 5]]
    noise().put_into(with_pieces, np.array([0]))
    assert with_pieces.positions.tolist() == [[0, 1, 0, 1, 0, 1]]


@pytest.mark.parametrize(("num_tokens", "most"), [(0, 0), (1, 1), (3, 1), (11, 2), (100, 15)])
def test_the_share_is_rounded_and_never_nothing(num_tokens: int, most: int) -> None:
    assert most_chosen(0.15, num_tokens) == most
