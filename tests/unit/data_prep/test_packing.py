import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_prep.shards import Encoded, pack, token_dtype
from pipeline.corpus.chunk import Chunk, DocumentRecord

LENGTHS = st.lists(st.integers(1, 40), max_size=30)


def documents(lengths: list[int]) -> list[Encoded]:
    first = 0
    result = []
    for number, length in enumerate(lengths):
        tokens = np.arange(first, first + length, dtype=np.uint16)
        result.append((DocumentRecord(f"{number:032x}", "file", number, length * 3), tokens))
        first += length
    return result


def pieces(chunks: list[Chunk]) -> list[tuple[str, int, int, bool]]:
    """Each document's piece in each chunk: id, tokens, text bytes, whether it ends there."""
    found = []
    for chunk in chunks:
        ends = [*chunk.document_ends.tolist(), *([len(chunk.tokens)] if chunk.continues else [])]
        starts = [0, *ends[:-1]]
        for number, record in enumerate(chunk.documents):
            closed = number < len(chunk.document_ends)
            found.append((record.id, ends[number] - starts[number], record.text_bytes, closed))
        assert len(ends) == len(chunk.documents)
        assert ends[-1] == len(chunk.tokens)
    return found


@given(LENGTHS, st.integers(1, 25))
def test_every_token_comes_once_and_in_order(lengths: list[int], chunk_tokens: int) -> None:
    chunks = list(pack(documents(lengths), chunk_tokens))
    stream = [token for chunk in chunks for token in chunk.tokens.tolist()]
    assert stream == list(range(sum(lengths)))
    assert all(0 < len(chunk.tokens) <= chunk_tokens for chunk in chunks)


@given(LENGTHS, st.integers(1, 25))
def test_only_documents_longer_than_a_chunk_are_cut(lengths: list[int], chunk_tokens: int) -> None:
    chunks = list(pack(documents(lengths), chunk_tokens))
    found = pieces(chunks)
    for number, length in enumerate(lengths):
        mine = [piece for piece in found if piece[0] == f"{number:032x}"]
        assert sum(piece[1] for piece in mine) == length
        assert [piece[2] for piece in mine] == [length * 3] + [0] * (len(mine) - 1)
        assert [piece[3] for piece in mine] == [False] * (len(mine) - 1) + [True]
        assert len(mine) == max(1, -(-length // chunk_tokens))


@given(LENGTHS, st.integers(1, 25))
def test_chunks_say_what_goes_on(lengths: list[int], chunk_tokens: int) -> None:
    chunks = list(pack(documents(lengths), chunk_tokens))
    assert [chunk.continued for chunk in chunks[1:]] == [chunk.continues for chunk in chunks[:-1]]
    if chunks:
        assert not chunks[0].continued
        assert not chunks[-1].continues


def test_a_chunk_is_closed_only_when_the_next_document_does_not_fit() -> None:
    assert [len(chunk.tokens) for chunk in pack(documents([4, 4, 2, 1, 10, 25, 5]), 10)] == [10, 1, 10, 10, 10, 10]


def test_the_type_of_tokens_holds_every_id() -> None:
    assert (token_dtype(65_536), token_dtype(65_537)) == ("uint16", "uint32")
