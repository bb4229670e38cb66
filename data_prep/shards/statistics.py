"""What a shard holds, counted while it is written."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

from numpy.typing import NDArray

from data_prep.documents.frames import StoredDocument

_MOST_DOMAINS = 100
"""The driver holds them of each of its tens of thousands of shards: about 20 KiB a shard."""
_SAMPLES = 2
_SAMPLE_BYTES = 400
_HOST = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?([^/?#:\[]+|\[[^\]]*\])")
Record = TypeVar("Record")


@dataclass(frozen=True)
class ShardStatistics:
    """Counts over a shard's documents."""

    lengths: dict[int, int]
    """k -> documents of 2^(k-1) to 2^k - 1 tokens, EOS included."""
    languages: dict[str, int]
    """Language that a filter found -> documents."""
    domains: dict[str, int]
    """Host of the address -> documents; the commonest hundred of the shard."""
    samples: list[str]
    """How a few of its documents begin."""


class Counted:
    """Documents that are counted as they pass."""

    def __init__(self, documents: Iterator[StoredDocument]) -> None:
        """Count `documents`, which are taken once."""
        self._documents = documents
        self._lengths: Counter[int] = Counter()
        self._languages: Counter[str] = Counter()
        self._domains: Counter[str] = Counter()
        self._samples: list[str] = []

    def any(self) -> bool:
        """Whether there is at least one document."""
        first = next(self._documents, None)
        if first is not None:
            self._documents = chain([first], self._documents)
        return first is not None

    def __iter__(self) -> Iterator[StoredDocument]:
        for document in self._documents:
            if document.metadata:
                self._count(document)
            if len(self._samples) < _SAMPLES:
                self._samples.append(document.text[:_SAMPLE_BYTES].decode("utf-8", "ignore"))
            yield document

    def _count(self, document: StoredDocument) -> None:
        fields = document.fields
        if language := fields.get("language"):
            self._languages[language] += 1
        if host := _host(fields.get("url", "")):
            self._domains[host] += 1

    def tokens(self, encoded: Iterable[tuple[Record, NDArray[Any]]]) -> Iterator[tuple[Record, NDArray[Any]]]:
        """Pass records and tokens on, counting the tokens."""
        for record, tokens in encoded:
            self._lengths[len(tokens).bit_length()] += 1
            yield record, tokens

    def statistics(self) -> ShardStatistics:
        """The counts of all that has passed."""
        domains = sorted(self._domains.items(), key=lambda item: (-item[1], item[0]))[:_MOST_DOMAINS]
        return ShardStatistics(
            dict(sorted(self._lengths.items())), dict(sorted(self._languages.items())), dict(domains), self._samples
        )


def _host(url: str) -> str:
    found = _HOST.match(url)
    return found[1].lower().removeprefix("www.") if found else ""
