from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_prep.documents.frames import StoredDocument
from data_prep.encoding.encoder import token_dtype
from data_prep.shards import task as shards
from data_prep.shards.pack import Encoded, pack
from data_prep.shards.task import encode_documents
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


def encode(documents: Sequence[StoredDocument]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """A token for each byte."""
    tokens = np.frombuffer(b"".join(document.text for document in documents), dtype=np.uint8).astype(np.uint16)
    return tokens, np.array([len(document.text) for document in documents], dtype=np.int64)


@given(st.lists(st.binary(max_size=12), max_size=20), st.integers(0, 40))
def test_each_document_has_its_tokens_and_one_eos_however_they_are_batched(
    texts: list[bytes], batch_bytes: int
) -> None:
    documents = [StoredDocument(number, "file", number, text, b"") for number, text in enumerate(texts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_BATCH_BYTES", batch_bytes)
        encoded = list(encode_documents(iter(documents), "web", encode, 999))
    assert [tokens.tolist() for _, tokens in encoded] == [[*text, 999] for text in texts]
    assert [record for record, _ in encoded] == [
        DocumentRecord(f"{one.id('web'):032x}", "file", one.position, len(one.text)) for one in documents
    ]
    assert all(tokens.dtype == np.uint16 for _, tokens in encoded)


def test_metadata_is_kept_by_name() -> None:
    fields = [b'{"id": "a1", "url": "u"}', b'{"url": "v"}', b""]
    documents = [StoredDocument(number, "file", number, b"x", one) for number, one in enumerate(fields)]

    def kept(*names: str) -> list[Mapping[str, str]]:
        return [record.metadata for record, _ in encode_documents(documents, "web", encode, 0, names)]

    assert kept("url", "id", "other") == [{"url": "u", "id": "a1"}, {"url": "v"}, {}]
    assert kept() == [{}, {}, {}]


def test_batches_hold_so_much_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_BATCH_BYTES", 100)
    sizes: list[int] = []

    def measured(documents: Sequence[StoredDocument]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        sizes.append(sum(len(document.text) for document in documents))
        return encode(documents)

    documents = (StoredDocument(number, "file", number, b"x" * 30, b"") for number in range(40))
    assert len(list(encode_documents(documents, "web", measured, 0))) == 40
    assert sizes == [120] * 10
