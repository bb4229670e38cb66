import json
import tracemalloc
from dataclasses import asdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from data_prep.documents.frames import StoredDocument
from data_prep.shards.statistics import Counted, ShardStatistics


def documents(*metadata: dict[str, str], text: str = "text") -> list[StoredDocument]:
    return [
        StoredDocument(
            number, "file", number, f"{number} {text}".encode(), json.dumps(fields).encode() if fields else b""
        )
        for number, fields in enumerate(metadata)
    ]


def test_what_passes_is_counted_and_passes_unchanged() -> None:
    given_documents = documents(
        {"url": "https://www.example.org/a", "language": "en"},
        {"url": "http://example.org:80/b", "language": "de"},
        {"url": "http://EXAMPLE.com", "language": "en"},
        {"url": "no address"},
        {"url": "http://[broken"},
        {},
    )
    counted = Counted(iter(given_documents))
    assert counted.any()
    assert counted.any()
    assert list(counted) == given_documents
    statistics = counted.statistics()
    assert statistics.languages == {"de": 1, "en": 2}
    assert statistics.domains == {"example.org": 2, "example.com": 1}
    assert statistics.samples == ["0 text", "1 text"]


def test_nothing_is_nothing() -> None:
    counted = Counted(iter([]))
    assert not counted.any()
    assert list(counted) == []
    assert counted.statistics() == ShardStatistics({}, {}, {}, [])


@given(st.lists(st.integers(1, 70), max_size=20))
def test_lengths_are_counted_by_powers_of_two(lengths: list[int]) -> None:
    counted = Counted(iter([]))
    rows = [(number, np.zeros(length, dtype=np.uint16)) for number, length in enumerate(lengths)]
    assert list(counted.tokens(rows)) == rows
    found = counted.statistics().lengths
    assert list(found) == sorted(found)
    assert found == {
        power: count
        for power in range(1, 8)
        if (count := sum(2 ** (power - 1) <= length < 2**power for length in lengths))
    }


def test_of_very_many_domains_the_commonest_are_kept() -> None:
    addresses = [f"http://{number:05d}.org" for number in range(1500)] + ["http://common.org"] * 2
    counted = Counted(iter(documents(*({"url": address} for address in addresses))))
    assert len(list(counted)) == 1502
    domains = counted.statistics().domains
    assert list(domains) == ["common.org", *(f"{number:05d}.org" for number in range(99))]


def test_what_the_driver_holds_of_a_shard_is_little() -> None:
    addresses = [f"http://a-name-of-some-length-{number:05d}.org" for number in range(1500)]
    counted = Counted(iter(documents(*({"url": address} for address in addresses))))
    list(counted)
    tracemalloc.start()
    held = [TypeAdapter(ShardStatistics).validate_python(asdict(counted.statistics())) for _ in range(20)]
    assert tracemalloc.get_traced_memory()[0] < len(held) * 32_000
    tracemalloc.stop()


def test_a_sample_is_cut_between_characters() -> None:
    counted = Counted(iter(documents({}, text="é" * 1000)))
    list(counted)
    assert counted.statistics().samples == ["0 " + "é" * 199]
