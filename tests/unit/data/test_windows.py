import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.batch import IGNORED, stack
from pipeline.data.windows import Windows
from pipeline.errors import CorpusError
from tests.unit.corpus.build import write_corpus


@given(
    shards=st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=8), min_size=1, max_size=3),
    length=st.integers(1, 40),
    chunk_tokens=st.integers(1, 40),
)
@settings(max_examples=40)
def test_every_token_but_a_shards_first_is_predicted_once(
    shards: list[list[int]], length: int, chunk_tokens: int
) -> None:
    """Whatever the lengths of documents, chunks and windows: a window looks ahead across chunks."""
    bases = [10_000 * number for number in range(len(shards))]
    documents = [[[base + 100 * d + n for n in range(size)] for d, size in enumerate(sizes)]
                 for base, sizes in zip(bases, shards, strict=True)]  # fmt: skip
    streams = [[token for document in shard for token in document] for shard in documents]
    if not any(len(stream) > 1 for stream in streams):
        return
    with tempfile.TemporaryDirectory() as folder:
        corpus = write_corpus(Path(folder), {"web": documents}, chunk_tokens=chunk_tokens)
        windows = Windows({"web": (corpus, "web")}, "train", length)
        predicted: Counter[int] = Counter()
        for shard, size in enumerate(windows.shapes["web"]):
            following = dict(zip(streams[shard], streams[shard][1:], strict=False))
            for number in range(size):
                one = windows.fetch("web", shard, number)
                assert 1 <= len(one.inputs) == len(one.labels) <= length
                assert len(one.inputs) == length or number == size - 1
                assert [following[token] for token in one.inputs.tolist()] == one.labels.tolist()
                predicted.update(one.labels.tolist())
    assert predicted == Counter(token for stream in streams for token in stream[1:])


def test_a_short_last_window_is_padded(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"web": [[range(10, 17)]]})
    windows = Windows({"web": (corpus, "web")}, "train", 4)
    assert windows.shapes == {"web": [2]}
    batch = stack([windows.fetch("web", 0, 0), windows.fetch("web", 0, 1)], 3, 4, pad_id=3)
    assert batch.input_ids.tolist() == [[10, 11, 12, 13], [14, 15, 3, 3], [3, 3, 3, 3]]
    assert batch.labels.tolist() == [[11, 12, 13, 14], [15, 16, IGNORED, IGNORED], [IGNORED] * 4]
    assert batch.input_ids.dtype == batch.labels.dtype == torch.int64


def test_fingerprints_are_the_manifests(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"web": [[range(10)]], "code": [[range(20)]]})
    windows = Windows({"a/web": (corpus, "web"), "a/code": (corpus, "code")}, "train", 4)
    assert windows.fingerprints == {f"a/{name}": corpus.manifest.fingerprint("train", name) for name in ("web", "code")}


def test_a_source_without_a_window_is_refused(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"web": [[[1]]]})
    with pytest.raises(CorpusError, match=r"source 'web' of corpus .* has an empty train split; prepare more text"):
        Windows({"web": (corpus, "web")}, "train", 4)


def test_corpora_of_two_tokenizers_are_refused(tmp_path: Path) -> None:
    one = write_corpus(tmp_path / "one", {"web": [[range(9)]]}, fingerprint="1" * 64)
    two = write_corpus(tmp_path / "two", {"web": [[range(9)]]}, fingerprint="2" * 64)
    with pytest.raises(CorpusError, match=r"one and .*two were prepared with different tokenizers"):
        Windows({"one": (one, "web"), "two": (two, "web")}, "train", 4)


def test_a_damaged_shard_is_told_when_it_is_read(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"web": [[range(9)], [range(9)]]})
    windows = Windows({"web": (corpus, "web")}, "train", 4)
    path = tmp_path / "shards" / "web" / "web-000001.tar"
    path.write_bytes(path.read_bytes()[:512])
    assert windows.fetch("web", 0, 0).inputs.tolist() == [0, 1, 2, 3]
    with pytest.raises(CorpusError, match=r"web-000001.tar"):
        windows.fetch("web", 1, 0)


def test_the_largest_token_of_a_type_stays_itself(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"web": [[[65_535, 1, 2]]]})
    inputs = Windows({"web": (corpus, "web")}, "train", 2).fetch("web", 0, 0).inputs
    assert inputs.dtype == np.int64
    assert inputs.tolist() == [65_535, 1]
