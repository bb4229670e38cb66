"""The noun of data preparation: a document and the hash of its text."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import xxhash

from pipeline.runtime.seeds import derive_seed

HASH_BITS = 128
HALF_BITS = 64


@dataclass(frozen=True, slots=True)
class Document:
    """One text and where it came from."""

    source: str
    """Name of the source in the config."""
    origin: str
    """File it was read from, by its name below the entry of `paths` that it was found in."""
    position: int
    """Its number in that file."""
    text: str
    """The text."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What the reader's mapping took from the record, such as `url`; and what filters found, such as `language`."""

    @property
    def id(self) -> str:
        """32 hexadecimal digits that tell it from every other document."""
        return f"{document_id(self.source, self.origin, self.position):032x}"


def document_id(source: str, origin: str, position: int) -> int:
    """128 bits that tell a document from every other: a hash of where it came from."""
    return xxhash.xxh3_128_intdigest(f"{source}\x1f{origin}\x1f{position}".encode())


@dataclass(frozen=True, slots=True)
class BrokenRecord:
    """A record in which no document could be found."""

    reason: str
    """One word for the statistics."""
    origin: str
    """File it is in."""
    position: int
    """Its number in that file."""
    detail: str = ""
    """What exactly is wrong, for the person who looks at the rejects."""
    records: int = 1
    """How many records are lost with it, as far as that can be known."""
    lost_bytes: int = 0
    """Where it cannot: about how many bytes of content are lost."""


def content_hash(text: str, seed: int) -> int:
    """A 128-bit hash of a text. Its upper half orders documents, its lower half splits them."""
    return xxhash.xxh3_128_intdigest(text.encode("utf-8"), seed=derive_seed(seed, "content"))


def upper_half(hash_: int) -> int:
    """The 64 bits that decide a document's place, and so which shard it is in."""
    return hash_ >> HALF_BITS


def lower_half(hash_: int) -> int:
    """The 64 bits that decide a document's split."""
    return hash_ & ((1 << HALF_BITS) - 1)
