"""What no network is needed for: the marks that a trained model must pass."""

import zlib
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.corpus.corpus import Corpus
from pipeline.data.batch import IGNORED, MicroBatch
from pipeline.evaluation.measure import Measurement, count
from pipeline.tokenizer.base import Tokenizer

_COUNTED_AT_ONCE = 1 << 22


def token_counts(corpus: Corpus, vocab_size: int) -> NDArray[np.int64]:
    """How often each id occurs in the train split, all sources together, int64 of shape (vocab_size,)."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    for source, shards in sorted(corpus.manifest.train.items()):
        for number, shard in enumerate(shards):
            reader = corpus.open_shard("train", source, number)
            for start in range(0, shard.tokens, _COUNTED_AT_ONCE):
                tokens = reader.tokens(start, min(start + _COUNTED_AT_ONCE, shard.tokens))
                counts += np.bincount(tokens, minlength=vocab_size)
    return counts


def unigram(
    train_counts: NDArray[np.int64], micro_batches: Iterable[MicroBatch], byte_lengths: NDArray[np.int64]
) -> Measurement:
    """Loss of guessing every token from how often it occurs in the train split, add-one smoothed.

    Args:
        train_counts: From `token_counts`.
        micro_batches: Those a model is measured on, so that both are scored on the same tokens.
        byte_lengths: UTF-8 bytes of each id.
    """
    smoothed = train_counts.astype(np.float64) + 1
    nats = torch.from_numpy(np.log(smoothed.sum()) - np.log(smoothed))
    lengths, total = torch.from_numpy(byte_lengths), Measurement()
    for micro_batch in micro_batches:
        labels = micro_batch.labels
        total += Measurement(float(nats[labels[labels != IGNORED]].sum())) + count(labels, lengths)
    return total


def gzip_bits_per_byte(corpus: Corpus, tokenizer: Tokenizer) -> float | None:
    """Bits per byte of the validation split's text, all documents in one gzip stream at level 9.

    One stream, not one per document, so that gzip too may use what it has already seen (its window is 32 KiB).
    None if the split has no text.
    """
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    text_bytes = compressed_bytes = 0
    for text in validation_texts(corpus, tokenizer):
        encoded = text.encode("utf-8")
        text_bytes += len(encoded)
        compressed_bytes += len(compressor.compress(encoded))
    compressed_bytes += len(compressor.flush())
    return 8 * compressed_bytes / text_bytes if text_bytes else None


def validation_texts(corpus: Corpus, tokenizer: Tokenizer) -> Iterable[str]:
    """The text of every document of the validation split, in order."""
    for source, shards in sorted(corpus.manifest.validation.items()):
        for number in range(len(shards)):
            reader = corpus.open_shard("validation", source, number)
            for span in reader.documents():
                yield tokenizer.decode(reader.tokens(span.start, span.stop).tolist())
