"""URL filter: whole domains with their subdomains, single addresses, words in the address.

A document without `url` passes.
"""

import re
from collections.abc import Iterable, Iterator, MutableMapping
from itertools import chain
from os.path import isfile

import numpy as np
import xxhash
from numpy.typing import NDArray

from data_prep.filters.base import Dropped, Filter
from data_prep.readers.streams import open_input
from pipeline.config.prep.filters import UrlFilter
from pipeline.errors import ConfigError

_SCHEME = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
_HOST_END = re.compile(r"[/?#]")
_PORT = re.compile(r":\d*$")
_MAX_HOST_CHARACTERS = 253
_WORD_GAP = re.compile(r"[\W_]+")


def build(config: UrlFilter) -> Filter:
    """Drops documents by their `url`. Raises CorpusError if a list cannot be read."""
    domains = _HashedSet(map(plain_domain, chain(config.domains, _read_lists(config.domain_files))))
    addresses = _HashedSet(map(plain_address, _read_lists(config.url_files)))
    words = frozenset(word.lower() for word in config.words)

    def judge(text: str, metadata: MutableMapping[str, str]) -> str | Dropped:
        url = metadata.get("url")
        if not url:
            return text
        if domains.holds_any(parent_domains(host_of(url))):
            return Dropped("domain")
        if addresses.holds_any([plain_address(url)]):
            return Dropped("address")
        return text if words.isdisjoint(_WORD_GAP.split(url.lower())) else Dropped("word")

    return judge


def host_of(url: str) -> str:
    """The host of an address in lower case; internationalised names in their ASCII form."""
    authority = _HOST_END.split(_without_scheme(url), maxsplit=1)[0]
    return plain_domain(_PORT.sub("", authority.rpartition("@")[2]))


def parent_domains(host: str) -> list[str]:
    """A host and every domain it is in: `a.b.c`, `b.c`, `c`; nothing for what is too long to be a host."""
    labels = host.split(".") if len(host) <= _MAX_HOST_CHARACTERS else []
    return [".".join(labels[start:]) for start in range(len(labels))]


def plain_domain(domain: str) -> str:
    """A domain in the form in which domains are compared."""
    domain = domain.strip().strip(".").lower()
    if domain.isascii():
        return domain
    try:
        return domain.encode("idna").decode("ascii")
    except UnicodeError:
        return domain


def plain_address(url: str) -> str:
    """An address in the form in which addresses are compared: without scheme, fragment and a final slash."""
    return _without_scheme(url.strip()).partition("#")[0].rstrip("/")


def _without_scheme(url: str) -> str:
    scheme = _SCHEME.match(url)
    return url[scheme.end() :] if scheme else url


def check(config: UrlFilter) -> None:
    """Raises ConfigError if a list is missing."""
    for path in inputs(config):
        if not isfile(path):
            raise ConfigError(f"url filter: the list {path!r} does not exist; correct domain_files or url_files")


def inputs(config: UrlFilter) -> list[str]:
    """The files that the filter reads."""
    return [*config.domain_files, *config.url_files]


def _read_lists(paths: Iterable[str]) -> Iterator[str]:
    """Lines of the lists, without blank ones and those that begin with `#`."""
    for path in paths:
        with open_input(path) as file:
            lines = (line.decode("utf-8", "replace") for line in file)
            yield from (line for line in lines if line.strip() and not line.startswith("#"))


class _HashedSet:
    """Strings by their 64-bit hashes, 8 bytes each: a list of 5 million domains takes 40 MB in a worker."""

    def __init__(self, values: Iterable[str]) -> None:
        self._hashes = np.unique(_hash_all(values))

    def holds_any(self, values: Iterable[str]) -> bool:
        """Whether one of some strings is in the set."""
        if not self._hashes.size:
            return False
        hashes = _hash_all(values)
        places = np.minimum(np.searchsorted(self._hashes, hashes), self._hashes.size - 1)
        return bool((self._hashes[places] == hashes).any())


def _hash_all(values: Iterable[str]) -> NDArray[np.uint64]:
    return np.fromiter((xxhash.xxh3_64_intdigest(value.encode("utf-8", "replace")) for value in values), np.uint64)
