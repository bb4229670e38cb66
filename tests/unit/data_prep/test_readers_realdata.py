"""Every file of the real web crawl, the bad ones among them, with what a person found in it.

The figures of archives were counted with warcio 1.7 and by looking at the bytes, those of JSON with `zcat | wc -l`.
"""

from collections import Counter
from pathlib import Path

import pytest
import xxhash

from data_prep.documents.document import BrokenRecord
from data_prep.readers import FileReading
from tests.unit.data_prep.read_records import figures, make_reader, open_all, texts

pytestmark = pytest.mark.realdata

Figures = tuple[int, dict[str, int], dict[str, int]]
"""Documents; skipped records by reason; broken records by reason."""

CRAWL: dict[str, tuple[str, Figures]] = {
    "c4/c4-sample.01.json.gz": ("jsonl", (10, {}, {})),
    "c4/c4-sample.02.json.gz": ("jsonl", (10, {}, {})),
    "c4/c4-sample.03.json.gz": ("jsonl", (10, {}, {})),
    "dolma/multiple_files__cc_en_head-0091.jsonl": ("jsonl", (10, {}, {})),
    "dolma/provided__deduper__documents__000.json.gz": ("jsonl", (10, {}, {})),
    "dolma/provided__documents__000.json.gz": ("jsonl", (10, {}, {})),
    # 22 pages with a request each; wget's manifest, arguments and log
    "dolma/warc__sample-0000.warc.gz": ("warc", (22, {"warcinfo": 1, "request": 22, "metadata": 1, "no_page": 2}, {})),
    # all records in one gzip member, under a name that says nothing: other libraries refuse it, it can be read
    "warcio/example-bad.warc.gz.bad": ("warc", (1, {"warcinfo": 1, "request": 2, "revisit": 1, "status_302": 1}, {})),
    "warcio/example-digest.warc": ("warc", (0, {"request": 4}, {})),
    "warcio/example-iana.org-chunked.warc": ("warc", (1, {"warcinfo": 1, "request": 1}, {})),
    "warcio/example-resource.warc.gz": ("warc", (1, {"warcinfo": 2}, {})),
    "warcio/example-space-in-target-uri.warc.gz": ("warc", (0, {"warcinfo": 1, "not_text": 1}, {})),
    # the page says 1591 bytes, of which the file holds 1579
    "warcio/example-space-in-url.arc": ("warc", (0, {"warcinfo": 1}, {"cut_short": 1})),
    "warcio/example-wget-bad-target-uri.warc.gz": (
        "warc",
        (1, {"warcinfo": 1, "request": 1, "metadata": 1, "no_page": 2}, {}),
    ),
    "warcio/example.arc": ("warc", (1, {"warcinfo": 1}, {})),
    "warcio/example.arc.gz": ("warc", (1, {"warcinfo": 1}, {})),
    "warcio/example.warc": ("warc", (1, {"warcinfo": 2, "request": 2, "revisit": 1}, {})),
    "warcio/example.warc.gz": ("warc", (1, {"warcinfo": 2, "request": 2, "revisit": 1}, {})),
    # answers in JSON
    "warcio/post-test.warc.gz": ("warc", (0, {"request": 3, "not_text": 3}, {})),
    "wiki/wiki_demo.txt": ("text", (1, {}, {})),
}


def open_one(path: Path, type_: str) -> FileReading:
    (reading,) = open_all(make_reader(type_, path))
    return reading


def test_the_table_names_every_file(realdata: Path) -> None:
    crawl = realdata / "webcrawl"
    assert {path.relative_to(crawl).as_posix() for path in crawl.rglob("*") if path.is_file()} == set(CRAWL)


@pytest.mark.parametrize("name", CRAWL)
def test_every_file_of_the_crawl(realdata: Path, name: str) -> None:
    path = realdata / "webcrawl" / name
    type_, (documents, skipped, broken) = CRAWL[name]
    reading = open_one(path, type_)
    assert figures(reading) == (documents, skipped, Counter(broken))
    assert reading.content_hash == xxhash.xxh3_128_hexdigest(path.read_bytes())


def test_what_is_lost_of_the_bad_ones(realdata: Path) -> None:
    """Nobody knows what was behind the cut of the one that is cut: it counts as much as there is."""
    name = "warcio/example-space-in-url.arc"
    reading = open_one(realdata / "webcrawl" / name, "warc")
    (broken,) = (record for record in reading if isinstance(record, BrokenRecord))
    assert (broken.records, broken.lost_bytes, reading.bytes) == (1, 1873, 1873)


EXAMPLES = [name for name, (_, found) in CRAWL.items() if name.startswith("warcio") and found[0] and "iana" not in name]


@pytest.mark.parametrize("name", EXAMPLES)
def test_one_page_in_many_wrappings_is_one_text(realdata: Path, name: str) -> None:
    (text,) = texts(list(open_one(realdata / "webcrawl" / name, "warc")))
    assert text.startswith("Example Domain\n\nThis domain is established to be used for illustrative examples")
    assert "background-color" not in text


def test_a_chunked_page_is_joined(realdata: Path) -> None:
    (text,) = texts(list(open_one(realdata / "webcrawl/warcio/example-iana.org-chunked.warc", "warc")))
    assert "The global coordination of the DNS Root, IP addressing" in text
    assert "001c37" not in text  # the length of its chunk


def test_tables_and_arrays_of_other_folders(realdata: Path) -> None:
    glaive, xquad = (realdata / name for name in ("instruct/llamafactory_glaive_toolcall_en_demo.json", "xquad"))
    (chat,) = open_all(make_reader("jsonl", glaive, text_field="tools"))
    assert figures(chat)[0] == 300
    assert [figures(one)[::2] for one in open_all(make_reader("jsonl", xquad))] == [(0, Counter(no_text=1))] * 3
