import gzip
import math
from collections import Counter
from pathlib import Path

import pytest

from pipeline.data.batch import IGNORED
from pipeline.data.validation import corpus_batches
from pipeline.evaluation.baselines import gzip_bits_per_byte, token_counts, unigram, validation_texts
from tests.unit.small import small_corpus, small_texts, small_tokenizer


def test_unigram_is_the_smoothed_entropy_of_the_scored_targets(tmp_path: Path) -> None:
    tokenizer = small_tokenizer(tmp_path / "tokenizer")
    train, validation = small_texts(50), small_texts(5, first=300)
    corpus = small_corpus(tmp_path / "corpus", tokenizer, train, validation)
    seen = Counter(token for text in train for token in [*tokenizer.encode(text), tokenizer.eos_id])

    counts = token_counts(corpus, tokenizer.vocab_size)
    assert {token: count for token, count in enumerate(counts.tolist()) if count} == dict(seen)

    batches = list(corpus_batches(corpus.folder, 16, 4))
    found = unigram(counts, batches, tokenizer.byte_lengths())
    targets = [label for one in batches for label in one.labels.flatten().tolist() if label != IGNORED]
    size = sum(seen.values()) + tokenizer.vocab_size
    expected = sum(-math.log((seen[target] + 1) / size) for target in targets)
    assert found.tokens == len(targets) > 50
    assert found.loss_sum == pytest.approx(expected, rel=1e-9)
    assert found.text_bytes == sum(tokenizer.byte_lengths()[target] for target in targets)


def test_gzip_sees_the_validation_text_as_one_stream(tmp_path: Path) -> None:
    tokenizer = small_tokenizer(tmp_path / "tokenizer")
    texts = small_texts(30)
    corpus = small_corpus(tmp_path / "corpus", tokenizer, small_texts(3), texts)
    assert list(validation_texts(corpus, tokenizer)) == texts
    whole = "".join(texts).encode()
    assert gzip_bits_per_byte(corpus, tokenizer) == pytest.approx(8 * len(gzip.compress(whole, 9)) / len(whole))
