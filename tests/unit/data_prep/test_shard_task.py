from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from data_prep.documents.document import content_hash
from data_prep.documents.source import HASHES_END, SourceDocuments, hash_ranges
from data_prep.encoding.encoder import REFERENCE, Encoder
from data_prep.shards import task as shards
from data_prep.shards.task import ShardResult, ShardTask
from data_prep.tokenizer.tasks import MeasureTask, SampledSource, TrainTokenizerTask
from pipeline.config.prep.tokenizer import TrainTokenizer
from pipeline.corpus.reader import ShardReader
from pipeline.tokenizer.base import Tokenizer
from pipeline.tokenizer.load import load_tokenizer
from tests.unit.data_prep.reads import Given, write_reads
from tests.unit.data_prep.write_task import files
from tests.unit.small import small_texts, small_tokenizer

TEXTS = small_texts(300)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer and 300 documents of one source; every tenth is held out."""
    work = tmp_path_factory.mktemp("work")
    small_tokenizer(work / "made" / "tokenizer")
    documents = [
        Given(int(number % 10 == 0), content_hash(text, 0), "a.py", number, text.encode())
        for number, text in enumerate(TEXTS)
    ]
    write_reads(work / "reads", "code", documents, run_bytes=20_000)
    return work


def source() -> SourceDocuments:
    return SourceDocuments("code", "", "", (), sum(map(len, TEXTS)), ("reads",), ())


def task(first: int = 0, last: int = HASHES_END - 1, number: int = 0, **values: Any) -> ShardTask:
    return ShardTask(
        source(), values.pop("split", "train"), number, first, last, 500, "", "reference", "made", **values
    )


def texts_of(folder: Path, result: ShardResult, tokenizer: Tokenizer) -> list[str]:
    assert result.entry is not None
    (path,) = folder.rglob(result.entry.name)
    reader = ShardReader(path, "uint16", result.entry.tokens)
    assert not reader.damaged_chunks()
    return [tokenizer.decode(reader.tokens(one.start, one.stop - 1).tolist()) for one in reader.documents()]


def test_a_shard_holds_its_range_of_a_split_by_hash(work: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(work / "made" / "tokenizer")
    found = []
    for number, (first, last) in enumerate(hash_ranges(3)):
        result = task(first, last, number).run(work, tmp_path)
        assert result.entry is not None
        assert result.entry.name == f"code-00000{number}.tar"
        assert sum(result.statistics.lengths.values()) == result.entry.documents
        found += texts_of(tmp_path, result, tokenizer)
    expected = [text for number, text in enumerate(TEXTS) if number % 10]
    assert found == sorted(expected, key=lambda text: content_hash(text, 0))
    assert {name.split("/")[0] for name in files(tmp_path)} == {"shards", "index"}


def test_a_held_out_shard_lies_in_its_own_folder(work: Path, tmp_path: Path) -> None:
    result = task(split="validation").run(work, tmp_path)
    assert result.entry is not None
    assert result.entry.documents == 30
    assert (tmp_path / "validation" / "code" / "code-000000.tar").is_file()


def test_an_empty_range_leaves_nothing(work: Path, tmp_path: Path) -> None:
    result = task(split="test").run(work, tmp_path)
    assert result.entry is None
    assert files(tmp_path) == {}


class WrongEncoder:
    """Right but for one text."""

    name = "wrong 1.0"

    def __init__(self, tokenizer: Tokenizer, wrong: str) -> None:
        self._tokenizer, self._wrong = tokenizer, wrong

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        parts = [[7] if text == self._wrong else self._tokenizer.encode(text) for text in texts]
        return np.array([id_ for part in parts for id_ in part], np.uint32), np.array([len(part) for part in parts])


@pytest.mark.parametrize("is_wrong", [False, True])
def test_where_the_fast_encoder_differs_the_shard_is_encoded_by_the_reference(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_wrong: bool
) -> None:
    expected = task().run(work, tmp_path / "expected")
    tokenizer = load_tokenizer(work / "made" / "tokenizer")
    by_hash = sorted((text for number, text in enumerate(TEXTS) if number % 10), key=lambda text: content_hash(text, 0))
    fast: Any = WrongEncoder(tokenizer, by_hash[0] if is_wrong else "")
    monkeypatch.setattr(shards, "make_encoder", lambda *_: Encoder(tokenizer, fast))
    result = task().run(work, tmp_path / "found")
    assert result.entry == expected.entry
    assert files(tmp_path / "found") == files(tmp_path / "expected")
    assert result.statistics == expected.statistics
    assert (result.re_encoded, result.encoder) == (is_wrong, REFERENCE if is_wrong else "wrong 1.0")


def test_a_token_stands_for_so_many_bytes_of_training_text(work: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(work / "made" / "tokenizer")
    texts = [text for number, text in enumerate(TEXTS) if number % 10]
    expected = sum(map(len, texts)) / sum(len(tokenizer.encode(text)) + 1 for text in texts)
    assert MeasureTask(source(), "", "reference", "made").run(work, tmp_path) == pytest.approx(expected)


def test_the_tokenizer_learns_from_the_first_documents_of_training_by_hash(work: Path, tmp_path: Path) -> None:
    """Held-out text has no part in it, and neither has what lies behind the sample."""
    config = TrainTokenizer(type="train", vocab_size=340)

    def trained(name: str, documents: Sequence[Given], sample_bytes: int) -> str:
        write_reads(work / name, "code", documents)
        sampled = SampledSource(SourceDocuments("code", "", "", (), 0, (name,), ()), sample_bytes)
        (tmp_path / name).mkdir()
        return TrainTokenizerTask(config, (sampled,)).run(work, tmp_path / name)

    documents = [Given(0, number << 120, "a.py", number, text.encode()) for number, text in enumerate(TEXTS[:60])]
    other = [Given(0, number << 120, "b.py", number, b"zzz qqq %d" % number) for number in range(60, 90)]
    held_out = [one._replace(split=1, hash=number << 110) for number, one in enumerate(other)]
    size = sum(len(one.text) for one in documents)
    fingerprint = trained("alone", documents, size)
    assert trained("with others", [*documents, *other, *held_out], size) == fingerprint
    assert trained("larger sample", [*documents, *other, *held_out], size + 200) != fingerprint
