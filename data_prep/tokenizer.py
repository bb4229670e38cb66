"""The corpus's tokenizer: given, or trained here, to the same bytes from the same text."""

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import sentencepiece

from data_prep.buckets import SplitSource
from pipeline.config.prep import GivenTokenizer, TrainTokenizer
from pipeline.errors import TokenizerError
from pipeline.tokenizer.base import Tokenizer
from pipeline.tokenizer.load import load_tokenizer
from pipeline.tokenizer.sentencepiece import SentencePieceTokenizer

CONTROL_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
"""Ids 4 to 7, after <unk>, <s>, </s> and <pad>. No text can produce them."""
MAX_PIECE_CHARACTERS = 2000
"""Texts are cut to pieces of at most this: sentencepiece silently leaves out longer ones than `max_sentence_length`."""

_FIXED_PIECES = 4 + len(CONTROL_TOKENS) + 256
"""Every vocabulary holds these and a piece for each byte."""


@dataclass(frozen=True)
class SampledSource:
    """A source and how much of the tokenizer's sample comes from it."""

    source: SplitSource
    sample_bytes: int


def make_tokenizer(config: TrainTokenizer | GivenTokenizer, sources: Sequence[SampledSource]) -> Tokenizer:
    """The tokenizer that a config asks for.

    Raises:
        TokenizerError: There is none at the given path, or the text is too little for the vocabulary.
    """
    if isinstance(config, GivenTokenizer):
        return load_tokenizer(config.path)
    pieces = (piece for sampled in sources for text in sample_texts(sampled) for piece in cut(text))
    return train_tokenizer(pieces, config.vocab_size)


def sample_texts(sampled: SampledSource) -> Iterator[str]:
    """Texts of the train split in the order of their hashes, up to about the source's share of the sample."""
    left = sampled.sample_bytes
    for hashed in sampled.source.all_documents("train"):
        if left <= 0:
            return
        text = hashed.document.text
        left -= len(text.encode("utf-8"))
        yield text


def cut(text: str, limit: int = MAX_PIECE_CHARACTERS) -> Iterator[str]:
    """A text in pieces of at most `limit` characters, cut behind a line feed where there is one.

    Line feeds stay in the pieces, so that a line's end and what it follows can become one token: on Python sources
    that is 9 % more bytes per token than lines without them.
    """
    start = 0
    while start < len(text):
        stop = start + limit
        if stop < len(text):
            stop = text.rfind("\n", start, stop) + 1 or stop
        yield text[start:stop]
        start = stop


def train_tokenizer(pieces: Iterable[str], vocab_size: int) -> SentencePieceTokenizer:
    """A BPE tokenizer with byte fallback that loses nothing: no normalisation, white space as it is.

    Raises:
        TokenizerError: The vocabulary is too large or too small for the text.
    """
    if vocab_size <= _FIXED_PIECES:
        raise TokenizerError(
            f"tokenizer.vocab_size ({vocab_size}) is too small for all bytes; use more than {_FIXED_PIECES}"
        )
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(pieces),
            model_writer=model,  # a file's path would become part of the model, and so would the number of threads
            num_threads=2,
            model_type="bpe",
            vocab_size=vocab_size,
            hard_vocab_limit=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            allow_whitespace_only_pieces=True,
            byte_fallback=True,
            character_coverage=0.9999,
            max_sentence_length=1 << 16,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=3,
            control_symbols=list(CONTROL_TOKENS),
            minloglevel=2,
        )
    except RuntimeError as error:
        raise TokenizerError(_vocabulary_sentence(vocab_size, str(error))) from error
    return SentencePieceTokenizer(model.getvalue())


def _vocabulary_sentence(vocab_size: int, message: str) -> str:
    """sentencepiece's refusal as one sentence with the cure."""
    if limit := re.search(r"value <= (\d+)", message):
        return f"tokenizer.vocab_size ({vocab_size}) is too large for this text; use at most {limit[1]}, or more text"
    if limit := re.search(r"smaller than required_chars\.\s*\d+ vs (\d+)", message):
        return f"tokenizer.vocab_size ({vocab_size}) is too small for this text's characters; use more than {limit[1]}"
    return f"tokenizer.vocab_size ({vocab_size}) cannot be trained on this text: {' '.join(message.split())}"
