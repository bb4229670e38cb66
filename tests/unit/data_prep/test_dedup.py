from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.dedup.exact import HASHES_NAME, DedupTask, Kept, find_duplicates, hash_row, merge_kept, read_duplicates
from data_prep.document import Document, bucket_of, content_hash, lower_half
from data_prep.spill import SpillWriter, read_bucket
from data_prep.split import is_held_out, validation_threshold

SEED = 3


def run_dedup(
    folder: Path, documents: list[tuple[int, Document]], num_partitions: int
) -> tuple[set[str], dict[int, Kept]]:
    """Losers' ids and what is left of each source; documents of each parity come from a task of their own."""
    folders = tuple(folder / str(task) for task in range(2))
    for task, path in enumerate(folders):
        with SpillWriter(path / HASHES_NAME) as writer:
            for source, document in documents[task::2]:
                hash_ = content_hash(document.text, SEED)
                writer.add(bucket_of(hash_, num_partitions), hash_row(hash_, source, document))
    outputs = [folder / f"{number}.npy" for number in range(num_partitions)]
    parts = [find_duplicates(DedupTask(number, folders, output)) for number, output in enumerate(outputs)]
    sources = {source for source, _ in documents}
    kept = {source: merge_kept([part[source] for part in parts if source in part]) for source in sources}
    return read_duplicates(outputs), kept


def test_the_first_source_keeps_a_text_and_within_it_the_lowest_id(tmp_path: Path) -> None:
    twins = [(0, Document("a", "x", number, "twice")) for number in range(2)]
    across = [(0, Document("a", "x", 2, "across")), (1, Document("b", "x", 0, "across"))]
    alone = [(1, Document("b", "x", 1, "alone"))]
    losers, kept = run_dedup(tmp_path, [*reversed(across), *twins, *alone], 1)
    assert losers == {max(document.id for _, document in twins), across[1][1].id}
    assert (kept[0].documents, kept[0].duplicates, kept[0].text_bytes) == (2, 1, len("twice") + len("across"))
    assert (kept[1].documents, kept[1].duplicates, kept[1].text_bytes) == (1, 1, len("alone"))


@given(texts=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12)), max_size=40), num_partitions=st.integers(1, 5))
def test_one_of_each_text_is_left(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[int, int]], num_partitions: int
) -> None:
    folder = tmp_path_factory.mktemp("dedup")
    documents = [
        (source, Document(f"s{source}", "file", number, f"text {text}")) for number, (source, text) in enumerate(texts)
    ]
    losers, kept = run_dedup(folder, documents, num_partitions)
    left = sorted(document.text for _, document in documents if document.id not in losers)
    assert left == sorted({document.text for _, document in documents})
    for source, counts in kept.items():
        mine = [document for number, document in documents if number == source]
        assert counts.duplicates == sum(document.id in losers for document in mine)
        keys = [lower_half(content_hash(one.text, SEED)) for one in mine if one.id not in losers]
        assert counts.documents == len(keys)
        if keys:
            assert (counts.lowest, counts.highest) == (min(keys), max(keys))


@given(keys=st.lists(st.integers(0, 2**64 - 1), min_size=2, unique=True), share=st.floats(0, 1, exclude_max=True))
def test_each_side_of_the_split_has_a_document(keys: list[int], share: float) -> None:
    threshold = validation_threshold(share, Kept(len(keys), 0, 1, min(keys), max(keys)))
    held_out = [key for key in keys if is_held_out(key, threshold)]
    if share == 0:
        assert not held_out
    else:
        assert 0 < len(held_out) < len(keys)


def test_an_only_document_is_for_training() -> None:
    assert validation_threshold(0.9, Kept(1, 0, 1, 5, 5)) == 0


def test_the_share_is_a_share_of_the_hashes() -> None:
    keys = [lower_half(content_hash(str(number), SEED)) for number in range(2000)]
    threshold = validation_threshold(0.1, Kept(len(keys), 0, 1, min(keys), max(keys)))
    assert 150 < sum(is_held_out(key, threshold) for key in keys) < 250


@given(st.integers(0, 2**128 - 1), st.integers(1, 1000))
def test_buckets_are_ranges_in_order(hash_: int, num_buckets: int) -> None:
    bucket = bucket_of(hash_, num_buckets)
    assert 0 <= bucket < num_buckets
    assert bucket * 2**64 <= (hash_ >> 64) * num_buckets < (bucket + 1) * 2**64


def test_spilled_rows_come_back_by_bucket_and_in_order(tmp_path: Path) -> None:
    rows = [(number % 3, f"{number} ".encode()) for number in range(100)]
    with SpillWriter(tmp_path / "deep" / "spill", buffer_bytes=50) as writer:
        for bucket, row in rows:
            writer.add(bucket, row)
    for bucket in range(4):
        expected = b"".join(row for number, row in rows if number == bucket)
        assert read_bucket(tmp_path / "deep" / "spill", bucket) == expected
