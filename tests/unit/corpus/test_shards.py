import hashlib
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.corpus.corpus import Corpus
from pipeline.corpus.index import DamagedShardError, build_index, index_path, read_index, write_index
from pipeline.corpus.reader import DamagedChunkError, ShardReader
from pipeline.corpus.verification import shard_fault, shard_files
from pipeline.corpus.writer import write_shard
from pipeline.errors import CorpusError
from tests.unit.corpus.build import Documents, cut, record, write_corpus

DOCUMENTS = st.lists(st.lists(st.integers(0, 65_535), min_size=1, max_size=40), min_size=1, max_size=12)
PLAIN: Documents = [range(100, 130), range(7), range(500, 640), [9], range(1000, 1049)]


def fault(corpus: Corpus) -> str | None:
    file = shard_files(corpus)[0]
    return shard_fault(file.path, file.entry)


def shard(folder: Path) -> Path:
    return folder / "shards" / "web" / "web-000000.tar"


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_corpus(tmp_path, {"web": [PLAIN]})


@given(documents=DOCUMENTS, chunk_tokens=st.integers(1, 60), data=st.data())
@settings(max_examples=60)
def test_what_is_written_is_read(documents: Documents, chunk_tokens: int, data: st.DataObject) -> None:
    stream = [token for document in documents for token in document]
    with tempfile.TemporaryDirectory() as folder:
        path = shard(Path(folder))
        entry = write_shard(path, cut(documents, chunk_tokens))
        reader = ShardReader(path, "uint16", len(stream))
        assert reader.tokens(0, len(stream)).tolist() == stream
        start = data.draw(st.integers(0, len(stream)))
        stop = data.draw(st.integers(start, len(stream)))
        assert reader.tokens(start, stop).tolist() == stream[start:stop]
        assert [(span.record, stream[span.start : span.stop]) for span in reader.documents()] == [
            (record(number, 10 * len(document)), list(document)) for number, document in enumerate(documents)
        ]
        assert reader.damaged_chunks() == []
    assert (entry.tokens, entry.documents, entry.chunks) == (len(stream), len(documents), reader.num_chunks)
    assert entry.text_bytes == 10 * len(stream)


def test_tokens_outside_the_stream_are_refused(corpus: Corpus) -> None:
    reader = corpus.open_shard("train", "web", 0)
    for start, stop in ((-1, 2), (3, 2), (0, reader.num_tokens + 1)):
        with pytest.raises(IndexError, match="are outside"):
            reader.tokens(start, stop)


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    entries = [write_shard(shard(tmp_path / name), cut(PLAIN, 50)) for name in ("one", "two")]
    assert entries[0] == entries[1]
    contents = [shard(tmp_path / name).read_bytes() for name in ("one", "two")]
    assert contents[0] == contents[1]
    assert hashlib.sha256(contents[0]).hexdigest() == entries[0].sha256
    assert len(contents[0]) == entries[0].bytes
    indexes = [index_path(shard(tmp_path / name)).read_bytes() for name in ("one", "two")]
    assert indexes[0] == indexes[1]
    assert len(list((tmp_path / "one").rglob("*.*"))) == 2  # nothing else was left


def test_members_carry_neither_time_nor_owner(corpus: Corpus) -> None:
    with tarfile.open(shard(corpus.folder)) as tar:
        members = tar.getmembers()
    assert members[0].name == "000000000.tokens.npy"
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_tokens_are_aligned_to_64_bytes_and_not_copied(tmp_path: Path, dtype: str) -> None:
    path = shard(tmp_path)
    entry = write_shard(path, cut(PLAIN, 50, dtype))
    index = read_index(path)
    assert len(index) > 2
    assert not (index["offset"] % 64).any()
    tokens = ShardReader(path, dtype, entry.tokens).tokens(0, 20)
    assert tokens.dtype == dtype
    assert tokens.base is not None
    assert not tokens.flags.writeable


def test_plain_webdataset_reads_a_shard(corpus: Corpus) -> None:
    samples = list(webdataset.WebDataset(str(shard(corpus.folder)), shardshuffle=False).decode())
    chunks = cut(PLAIN, 50)
    assert [sample["__key__"] for sample in samples] == [f"{number:09d}" for number in range(len(chunks))]
    for sample, chunk in zip(samples, chunks, strict=True):
        assert np.array_equal(sample["tokens.npy"], chunk.tokens)
        assert np.array_equal(sample["docends.npy"], chunk.document_ends)
        assert sample["meta.json"]["ids"] == [document.id for document in chunk.documents]
        assert sample["meta.json"]["continues"] == chunk.continues


def test_a_missing_index_is_rebuilt(corpus: Corpus) -> None:
    path = shard(corpus.folder)
    written = read_index(path)
    index_path(path).unlink()
    assert np.array_equal(read_index(path), written)
    assert corpus.open_shard("train", "web", 0).tokens(0, 30).tolist() == list(range(100, 130))


@pytest.mark.parametrize(
    "content",
    [b"", b"\x93NUMPY", b"PK\x03\x04 not an index", b"\0" * 500],
    ids=["empty", "cut", "zip", "zeros"],
)
def test_a_damaged_index_is_rebuilt(corpus: Corpus, content: bytes) -> None:
    path = shard(corpus.folder)
    written = read_index(path)
    index_path(path).write_bytes(content)
    assert np.array_equal(read_index(path), written)


@pytest.mark.parametrize("field", ["offset", "tokens"])
@pytest.mark.parametrize("row", [0, 1, -1])
def test_an_index_that_lies_is_rebuilt(corpus: Corpus, field: str, row: int) -> None:
    path = shard(corpus.folder)
    index = read_index(path).copy()
    index[field][row] ^= 8
    write_index(index_path(path), index)
    reader = corpus.open_shard("train", "web", 0)
    stream = [token for document in PLAIN for token in document]
    assert reader.tokens(0, reader.num_tokens).tolist() == stream
    assert reader.damaged_chunks() == []


def test_an_index_of_another_shape_is_rebuilt(corpus: Corpus) -> None:
    path = shard(corpus.folder)
    index = read_index(path)
    write_index(index_path(path), np.zeros((2, 2), dtype=index.dtype))
    assert np.array_equal(read_index(path), index)


def member_ends(path: Path) -> list[int]:
    with tarfile.open(path) as tar:
        return [member.offset_data + -(-member.size // 512) * 512 for member in tar]


@pytest.mark.parametrize("keep_index", [True, False])
def test_a_tarball_cut_at_any_member_boundary_is_refused(corpus: Corpus, keep_index: bool) -> None:
    path = shard(corpus.folder)
    content = path.read_bytes()
    if not keep_index:
        index_path(path).unlink()
    for end in (0, *member_ends(path)):
        path.write_bytes(content[:end])
        with pytest.raises(CorpusError, match=str(path)) as error:
            corpus.open_shard("train", "web", 0)
        assert "\n" not in str(error.value)
        assert fault(corpus) == f"has {end} bytes, should have {len(content)}"


def test_a_missing_tarball_is_named(corpus: Corpus) -> None:
    shard(corpus.folder).unlink()
    with pytest.raises(CorpusError, match=r"web-000000.tar cannot be mapped .*; prepare the corpus again"):
        corpus.open_shard("train", "web", 0)
    assert fault(corpus) == "is missing"
    with pytest.raises(CorpusError, match="cannot be read"):
        build_index(shard(corpus.folder))


def test_every_flipped_bit_of_tokens_is_found(corpus: Corpus) -> None:
    path = shard(corpus.folder)
    content = path.read_bytes()
    index = read_index(path)
    for chunk, row in enumerate(index):
        for place in (int(row["offset"]), int(row["offset"]) + int(row["tokens"]) * 2 - 1):
            damaged = bytearray(content)
            damaged[place] ^= 0x10
            path.write_bytes(damaged)
            assert corpus.open_shard("train", "web", 0).damaged_chunks() == [chunk]
            assert fault(corpus) == "has other bytes than were written"
    path.write_bytes(content)
    assert fault(corpus) is None


@given(st.integers(0, 117), st.integers(1, 110), st.integers(0, 4))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_found_exactly_where_a_stretch_touches_it(
    corpus: Corpus, start: int, length: int, chunk: int
) -> None:
    """Also inside of one that goes on in the chunks behind."""
    reader = corpus.open_shard("train", "web", 0)
    reader._hashes[chunk] ^= 1
    reader._written_hashes = {}
    first, last = reader.chunk_span(chunk)
    if start < last and start + length > first:
        with pytest.raises(DamagedChunkError, match=f"chunk {chunk} is damaged"):
            reader.rows(np.array([start]), length)
    else:
        assert reader.rows(np.array([start]), length).tolist() == [reader.tokens(start, start + length).tolist()]


def member_data(path: Path, ending: str) -> list[tuple[int, int]]:
    """Where the contents of the members with an ending begin and end in a tarball."""
    with tarfile.open(path) as tar:
        found = [member for member in tar if member.name.endswith(ending)]
    return [(member.offset_data, member.offset_data + member.size) for member in found]


def test_metadata_that_do_not_fit_are_an_error_with_a_name(corpus: Corpus) -> None:
    """Ends beyond the chunk or out of order, a header that ends the tarball, and metadata that are no JSON."""
    path = shard(corpus.folder)
    content = path.read_bytes()
    ends, (meta, _) = member_data(path, "docends.npy"), member_data(path, "meta.json")[-1]
    places = [*(place for start, stop in ends for place in range(start + 129, stop)), meta, meta - 512 + 150]
    assert len(places) > 12
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 0x40
        path.write_bytes(damaged)
        reader = corpus.open_shard("train", "web", 0)
        for read in (reader.document_ends, lambda reader=reader: list(reader.documents())):
            with pytest.raises(DamagedShardError, match=f"{path}: its metadata are damaged"):
                read()


def test_an_index_with_a_wrong_hash_damages_no_chunk(corpus: Corpus) -> None:
    path = shard(corpus.folder)
    index = read_index(path).copy()
    index["xxh3"][1] ^= 8
    write_index(index_path(path), index)
    reader = corpus.open_shard("train", "web", 0)
    reader.verify(np.arange(reader.num_chunks))
    assert reader.damaged_chunks() == []
    assert fault(corpus) == "has an index that does not fit it"


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    def chunks():  # type: ignore[no-untyped-def]
        yield cut(PLAIN, 500)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(shard(tmp_path), chunks())
    assert not list(tmp_path.rglob("*.*"))
