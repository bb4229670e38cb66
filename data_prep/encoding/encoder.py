"""Texts to token ids: by a fast encoder where it gives exactly the tokenizer's ids, else by the tokenizer itself.

Fast encoders are young. One is used only after it passed the probes, once for each tokenizer, and a sample of what it
encodes is encoded again by the reference.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.encoding.fast import Encoded, FastEncoder
from data_prep.encoding.probes import probes
from pipeline.config.prep.tokenizer import Encoder as Choice
from pipeline.errors import MissingDependencyError, TarmacError
from pipeline.tokenizer.base import Tokenizer
from pipeline.tokenizer.sentencepiece import SPACE, SentencePieceTokenizer

REFERENCE = "reference"
"""Name of an encoder that is the tokenizer itself."""

_ONE_IN = 256
"""One of so many documents is compared with the reference."""
_COMPARED_CHARACTERS = 1 << 14
"""Of most longer texts, only the beginning is compared: the reference takes 20 times as long."""


def token_dtype(vocab_size: int) -> str:
    """The smallest of the two token types that holds every id."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


class Encoder:
    """Encodes texts as a tokenizer does."""

    def __init__(self, tokenizer: Tokenizer, fast: FastEncoder | None = None, reason: str = "") -> None:
        self._tokenizer, self._fast = tokenizer, fast
        self._dtype = np.dtype(token_dtype(tokenizer.vocab_size))
        self.name = fast.name if fast else REFERENCE
        """What encodes: `reference`, or a package and its version."""
        self.reason = reason
        """Why it is the reference, in words."""

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Ids of the texts laid end to end, uint16 or uint32, without EOS, and each text's number of ids, int64."""
        if self._fast is None:
            return self.reference(texts)
        try:
            ids, lengths = self._fast.encode(texts)
        except ValueError:  # some limit of its regular expressions
            return self.reference(texts)
        return ids.astype(self._dtype), lengths

    def reference(self, texts: Sequence[str]) -> Encoded:
        """The same by the tokenizer itself."""
        parts = [self._ids(text) for text in texts]
        lengths = np.array([len(part) for part in parts], dtype=np.int64)
        return np.concatenate([np.empty(0, dtype=np.int32), *parts]).astype(self._dtype), lengths

    def _ids(self, text: str) -> NDArray[np.int32]:
        if isinstance(self._tokenizer, SentencePieceTokenizer) and SPACE not in text:
            ids = self._tokenizer.processor.EncodeAsNumpy(text)  # not by a list: that takes a unigram model's time
        else:
            ids = self._tokenizer.encode(text)
        return np.asarray(ids, dtype=np.int32)


MakeFast = Callable[[Tokenizer], FastEncoder]
_made: dict[tuple[str, MakeFast], FastEncoder] = {}
"""The last fast encoder made. Making one takes a moment, and a worker encodes many shards with one tokenizer."""


def choose_encoder(tokenizer: Tokenizer, choice: Choice, make_fast: MakeFast = FastEncoder) -> Encoder:
    """The fast encoder if it is wanted, installed, reads the tokenizer and passes the probes; else the reference."""
    if choice == "reference":
        return Encoder(tokenizer, reason="tokenizer.encoder is reference")
    try:
        fast = _fast(tokenizer, make_fast)
    except TarmacError as error:
        return Encoder(tokenizer, reason=str(error))
    encoder = Encoder(tokenizer, fast)
    for text in probes(tokenizer, fast.names):
        if not _same(encoder.encode([text]), encoder.reference([text])):
            return Encoder(tokenizer, reason=f"{fast.name} gives other ids for {text[:40]!r}")
    return encoder


def make_encoder(tokenizer: Tokenizer, name: str, make_fast: MakeFast = FastEncoder) -> Encoder:
    """The encoder that `choose_encoder` has chosen, by its name, perhaps on another machine.

    Raises:
        MissingDependencyError: It is not installed here, or in another version.
    """
    if name == REFERENCE:
        return Encoder(tokenizer)
    fast = _fast(tokenizer, make_fast)
    if fast.name != name:
        raise MissingDependencyError(f"{name} is needed as on the other machines, found {fast.name}: install that one")
    return Encoder(tokenizer, fast)


def _fast(tokenizer: Tokenizer, make_fast: MakeFast) -> FastEncoder:
    key = (tokenizer.fingerprint(), make_fast)
    if key not in _made:
        _made.clear()
        _made[key] = make_fast(tokenizer)
    return _made[key]


def sampled(hashes: Sequence[int]) -> list[int]:
    """Places of the documents to be compared with the reference: one in 256, by their hashes."""
    return [place for place, hash_ in enumerate(hashes) if hash_ % _ONE_IN == 0]


def verify(
    encoder: Encoder,
    texts: Sequence[str],
    tokens: NDArray[Any],
    lengths: NDArray[np.int64],
    which: Iterable[int],
    long: bool = False,
) -> bool:
    """Whether the reference gives the same ids for some texts of what `encode` made.

    Unless it is asked for with `long`, a long text is not encoded again as a whole: both encode its beginning.
    """
    if encoder.name == REFERENCE:
        return True
    which = list(which)
    whole = [place for place in which if long or len(texts[place]) <= _COMPARED_CHARACTERS]
    beginnings = [texts[place][:_COMPARED_CHARACTERS] for place in which if place not in whole]
    return _same(_part(tokens, lengths, whole), encoder.reference([texts[place] for place in whole])) and _same(
        encoder.encode(beginnings), encoder.reference(beginnings)
    )


def _part(tokens: NDArray[Any], lengths: NDArray[np.int64], which: Sequence[int]) -> Encoded:
    """Ids and lengths of some of the texts."""
    stops = np.cumsum(lengths)
    parts = [tokens[stops[place] - lengths[place] : stops[place]] for place in which]
    return np.concatenate([tokens[:0], *parts]), lengths[list(which)]


def _same(one: Encoded, other: Encoded) -> bool:
    return np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])
