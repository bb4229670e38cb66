"""The noun of data preparation: a document and the hash of its text."""

from dataclasses import dataclass
from typing import NamedTuple

import xxhash

from pipeline.runtime.seeds import derive_seed

HASH_BITS = 128
HALF_BITS = 64


@dataclass(frozen=True)
class Document:
    """One text and where it came from."""

    source: str
    """Name of the source in the config."""
    origin: str
    """File it was read from, relative to the folder that all the source's files are in."""
    position: int
    """Its number in that file."""
    text: str
    """The text."""

    @property
    def id(self) -> str:
        """32 hexadecimal digits that tell it from every other document."""
        place = f"{self.source}\x1f{self.origin}\x1f{self.position}"
        return xxhash.xxh3_128_hexdigest(place.encode("utf-8"))


@dataclass(frozen=True)
class BrokenRecord:
    """A record in which no document could be found."""

    reason: str
    """One word for the statistics."""


class HashedDocument(NamedTuple):
    """A cleaned document with the seeded hash of its text, which decides its place, split and duplicates."""

    hash: int
    document: Document


def content_hash(text: str, seed: int) -> int:
    """A 128-bit hash of a text. Its upper half orders documents, its lower half splits them."""
    return xxhash.xxh3_128_intdigest(text.encode("utf-8"), seed=derive_seed(seed, "content"))


def upper_half(hash_: int) -> int:
    """The 64 bits that decide a document's bucket."""
    return hash_ >> HALF_BITS


def lower_half(hash_: int) -> int:
    """The 64 bits that decide a document's split."""
    return hash_ & ((1 << HALF_BITS) - 1)


def bucket_of(hash_: int, num_buckets: int) -> int:
    """Which of equal ranges of the upper half a hash is in, so that buckets in order are documents in order."""
    return upper_half(hash_) * num_buckets >> HALF_BITS
