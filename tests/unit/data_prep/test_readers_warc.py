"""Web archives: which records are pages, what a page's text is, and archives with damage."""

import gzip
import io
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import brotli
import pytest
import zstandard
from fastwarc.warc import ArchiveIterator
from hypothesis import given
from hypothesis import strategies as st

from data_prep.documents.document import BrokenRecord, Document
from data_prep.readers import find_files
from data_prep.readers.archive import Record, read_records
from data_prep.readers.flaw import Flaw
from data_prep.readers.http_body import decode_body
from data_prep.readers.pages import Skip, page_text
from pipeline.errors import MissingDependencyError
from tests.unit.data_prep.read_records import figures, flaws, make_reader, open_all, read_all, texts

HTML = "<html><body><nav>Home About Contact</nav><main><p>A page of some words about {}.</p></main></body></html>"


def http(body: bytes, content_type: str = "text/html", status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{headers}\r\n".encode() + body


def page(about: object) -> bytes:
    return http(HTML.format(about).encode())


def warc(
    block: bytes, kind: str = "response", url: str = "http://x/", length: object = None, type_: str = "application/http"
) -> bytes:
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2020-01-02T03:04:05Z\r\n"
    length = len(block) if length is None else length
    return f"{head}Content-Type: {type_}\r\nContent-Length: {length}\r\n\r\n".encode() + block + b"\r\n\r\n"


def arc(block: bytes, url: str = "http://x/", length: int | None = None) -> bytes:
    return f"{url} 1.2.3.4 20200102030405 text/html {length or len(block)}\n".encode() + block + b"\n"


ARC_START = arc(b"1 0 Somebody\nURL IP-address Archive-date Content-type Archive-length\n", "filedesc://a.arc")


def extracted(
    block: bytes, kind: str = "response", url: str = "http://x/", type_: str = "application/http", main: bool = True
) -> str:
    record = Record(kind, url, "", type_, len(block), block)
    return page_text(record, "main" if main else "all", 10_000)


def read(tmp_path: Path, content: bytes, name: str = "a.warc") -> list[Document | BrokenRecord]:
    (tmp_path / name).write_bytes(content)
    return read_all(make_reader("warc", tmp_path / name))


def test_pages_of_a_crawl(tmp_path: Path) -> None:
    records = [
        warc(b"software: x\r\n", "warcinfo", type_="application/warc-fields"),
        warc(b"GET / HTTP/1.1\r\n\r\n", "request"),
        warc(page("one")),
        warc(page("two"), url="<http://x/2>"),
        warc(page("gone").replace(b"200 OK", b"404 Not Found")),
        warc(http(b"\x89PNG", "image/png")),
        warc(b"", "revisit"),
        warc(b"x", "dns", "dns:x", type_="text/dns"),
        warc(b"User-agent: *", "resource", "http://x/robots.txt", type_="text/plain"),
        warc(b"log", "resource", "urn:crawl:log", type_="text/plain"),
        warc(http(b"")),
        warc(http(b"<html><script>1</script></html>")),
        warc(b"x", "future"),
        warc(b"The plain text.", "conversion", type_="text/plain"),
    ]
    (tmp_path / "a.warc.gz").write_bytes(b"".join(map(gzip.compress, records)))
    (reading,) = open_all(make_reader("warc", tmp_path))
    date = "2020-01-02T03:04:05Z"
    assert list(reading) == [
        Document("here", "a.warc.gz", 2, "A page of some words about one.", {"url": "http://x/", "date": date}),
        Document("here", "a.warc.gz", 3, "A page of some words about two.", {"url": "http://x/2", "date": date}),
        Document("here", "a.warc.gz", 13, "The plain text.", {"url": "http://x/", "date": date}),
    ]
    names = ("warcinfo", "request", "status_404", "not_text", "revisit", "dns", "robots", "no_page", "unknown_type")
    assert reading.skipped == dict.fromkeys(names, 1) | {"empty": 2}


@pytest.mark.parametrize("name", ["a.arc", "a.arc.gz"])
def test_pages_of_an_arc_file(tmp_path: Path, name: str) -> None:
    records = [
        ARC_START,
        arc(b"x.", "dns:x"),
        arc(page("a"), "http://x/a page"),
        arc(page("b").replace(b"\r\n", b"\n")),
    ]
    content = b"".join(map(gzip.compress, records)) if name.endswith(".gz") else b"".join(records)
    found = read(tmp_path, content, name)
    assert texts(found) == ["A page of some words about a.", "A page of some words about b."]
    assert found[0] == Document(
        "here", name, 2, texts(found)[0], {"url": "http://x/a page", "date": "2020-01-02T03:04:05Z"}
    )


def test_main_text_or_all_of_it() -> None:
    assert "Home" not in extracted(page("x"))
    assert "Home" in extracted(page("x"), main=False)
    assert "A page of some words about x." in extracted(page("x"), main=False)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html; charset=utf-8", "<p>naïve café – 東京".encode()),
        ("text/html", "<meta charset=shift_jis><p>naïve 東京".encode("shift_jis", "replace")),
        ("text/html; charset=windows-1252", "<p>naïve café –".encode("cp1252")),
        ("text/html; charset=latin1", "<p>naïve café –".encode("cp1252")),
        ("text/html; charset=nonsense", '<meta charset="utf-8"><p>naïve café'.encode()),
        ("text/html; charset=nonsense", "<p>naïve café und Vögel, größer".encode()),
        ("text/plain; charset=utf-16", "naïve café".encode("utf-16")),
        ('text/plain; charset="gb2312"', "naive 东京".encode("gb2312")),
    ],
)
def test_charsets(content_type: str, body: bytes) -> None:
    text = extracted(http(body, content_type))
    assert "na" in text
    assert any(word in text for word in ("naïve café", "東京", "东京"))
    assert "\ufffd" not in text


def test_bytes_that_the_charset_does_not_have_become_marks() -> None:
    assert extracted(http(b"caf\xc3\xa9 \xff ok", "text/plain; charset=utf-8")) == "caf\u00e9 \ufffd ok"


def chunked(body: bytes) -> bytes:
    pieces = [body[at : at + 50] for at in range(0, len(body), 50)]
    return b"".join(b"%x;name=value\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


BODY = b"words of the page " * 50
CODINGS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "br": brotli.compress,
    "zstd": zstandard.compress,
    "identity": bytes,
    "made-up": bytes,
    "": bytes,
}


@pytest.mark.parametrize("coding", CODINGS)
def test_bodies_in_their_codings(coding: str) -> None:
    coded = CODINGS[coding](BODY)
    assert decode_body(coded, "", coding, 10_000) == BODY
    assert decode_body(chunked(coded), "Chunked", coding, 10_000) == BODY
    assert decode_body(BODY, "chunked", coding, 10_000) == BODY  # stored decoded, with the headers as they came


def test_bodies_coded_twice_and_cut_ones() -> None:
    assert decode_body(gzip.compress(zlib.compress(BODY)), "", "deflate, gzip", 10_000) == BODY
    assert BODY.startswith(decode_body(gzip.compress(BODY)[:-9], "", "gzip", 10_000))
    joined = decode_body(chunked(BODY)[:-70], "chunked", "", 10_000)
    assert BODY.startswith(joined)
    assert len(joined) >= len(BODY) - 70


def test_a_body_that_is_not_coded_as_it_says() -> None:
    with pytest.raises(Flaw) as caught:
        extracted(http(b"\x00\x01\x02\x80\x81" * 40, headers="Content-Encoding: br\r\n"))
    assert caught.value.reason == "bad_coding"


def test_a_small_body_that_grows_without_end_is_too_long() -> None:
    for coding in ("gzip", "br", "zstd"):
        bomb = CODINGS[coding](b"<p>" + b"x" * 50_000_000)
        with pytest.raises(Flaw) as caught:
            extracted(http(bomb, headers=f"Content-Encoding: {coding}\r\n"))
        assert caught.value.reason == "too_long"


def test_pages_without_a_content_type() -> None:
    assert extracted(page("x").replace(b"Content-Type: text/html\r\n", b"")) == "A page of some words about x."
    assert extracted(b"HTTP/1.1 200 OK\r\n\r\nplain < text") == "plain < text"
    with pytest.raises(Skip, match="not_text"):
        extracted(b"HTTP/1.1 200 OK\r\n\r\n\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")


@pytest.mark.parametrize("block", [b"garbage", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000])
def test_responses_that_are_none(block: bytes) -> None:
    with pytest.raises(Flaw) as caught:
        extracted(block)
    assert caught.value.reason == "bad_http"


def test_pages_that_are_too_long_or_nested_too_deep(tmp_path: Path) -> None:
    long, deep = http(b"x" * 200_000, "text/plain"), http(b"<div>x" * 100_000)
    video = http(b"\0" * 200_000, "video/mp4")
    (tmp_path / "a.warc").write_bytes(warc(long) + warc(video) + warc(page("next")) + warc(long))
    (tmp_path / "b.warc").write_bytes(warc(deep))
    small, large = (open_all(make_reader("warc", tmp_path, max_page_bytes=size)) for size in (100_000, 1_000_000))
    assert figures(small[0]) == (1, {"not_text": 1}, {"too_long": 2})
    assert figures(large[0]) == (3, {"not_text": 1}, {})
    assert figures(large[1]) == (0, {}, {"too_deep": 1})


@given(st.binary(max_size=200))
def test_no_page_raises_anything_else(body: bytes) -> None:
    coded = http(body, headers="Content-Encoding: gzip\r\n")
    for block in (body, b"HTTP/1.1 200 OK\r\n" + body, page("x") + body, coded):
        with suppress(Flaw, Skip):
            extracted(block)


GOOD = [warc(page(number), url=f"http://x/{number}") for number in range(5)]
LENGTH = len(page(0))


def positions(found: Sequence[Document | BrokenRecord]) -> list[str]:
    """Last part of the URLs."""
    return [record.metadata.get("url", "")[9:] for record in found if isinstance(record, Document)]


@pytest.mark.parametrize("length", [LENGTH - 10, LENGTH + 100, LENGTH + 400, 10**12, -5, "many", "", LENGTH * 3])
@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz"])
def test_a_wrong_length_costs_one_record(tmp_path: Path, length: object, name: str) -> None:
    records = [*GOOD[:2], warc(page(2), url="http://x/2", length=length), *GOOD[3:]]
    packed = map(gzip.compress, records) if name.endswith(".gz") else records
    found = read(tmp_path, b"".join(packed), name)
    assert positions(found) == ["0", "1", "3", "4"]
    assert flaws(found) == [(2, "bad_length")]


def test_a_wrong_length_in_arc(tmp_path: Path) -> None:
    for length in (LENGTH - 10, LENGTH + 50, 10**12):
        records = [
            ARC_START,
            arc(page(0), "http://x/0"),
            arc(page(1), "http://x/1", length),
            arc(page(2), "http://x/2"),
        ]
        found = read(tmp_path, b"".join(records), "a.arc")
        assert positions(found) == ["0", "2"], length
        assert flaws(found) == [(2, "bad_length")]


def test_wrong_lengths_beyond_what_is_held(tmp_path: Path) -> None:
    body = http(b"line of text\n" * 30_000, "text/plain")
    content = warc(body, url="http://x/a", length=10**9) + GOOD[1] + warc(body, url="http://x/c") + GOOD[3]
    (tmp_path / "a.warc").write_bytes(content)
    found = read_all(make_reader("warc", tmp_path, max_page_bytes=1000))
    assert positions(found) == ["1", "3"]
    assert flaws(found) == [(0, "bad_length"), (2, "too_long")]


def test_a_record_cut_by_the_end_of_the_file(tmp_path: Path) -> None:
    content = b"".join(GOOD[:3])
    whole = len(GOOD[0]) * 2
    for end in range(whole + 1, len(content) - 4):
        found = read(tmp_path, content[:end])
        assert positions(found)[:2] == ["0", "1"], end
        assert len(flaws(found)) == 1, end
        assert flaws(found)[0][0] == 2


@pytest.mark.parametrize("cut", [1, 9, 60, 150])
def test_a_cut_gzip_archive(tmp_path: Path, cut: int) -> None:
    found = read(tmp_path, b"".join(map(gzip.compress, GOOD))[:-cut], "a.warc.gz")
    assert positions(found)[:4] == ["0", "1", "2", "3"]
    assert flaws(found)[-1][1] == "cut_short"


def test_a_damaged_member_costs_one_page(tmp_path: Path) -> None:
    members = [bytearray(gzip.compress(record)) for record in GOOD]
    for at in range(12, len(members[2]) - 8):
        damaged = bytearray(members[2])
        damaged[at] ^= 0x55
        found = read(tmp_path, b"".join([*members[:2], damaged, *members[3:]]), "a.warc.gz")
        assert set(positions(found)) >= {"0", "1", "4"}, at
        assert "damaged_archive" in [reason for _, reason in flaws(found)], at


def test_junk_between_records(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD[0] + b"junk\r\nmore of it\r\n\r\n" + GOOD[1] + b"\x00" * 100_000 + b"\n" + GOOD[2])
    assert positions(found) == ["0", "1", "2"]
    assert flaws(found) == [(1, "bad_record"), (3, "bad_record")]


@pytest.mark.parametrize("content", [b"no archive at all", b"WARC/1.0\r\n", b"WARC/1.0\r\n" + b"a: b\r\n" * 100_000])
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    found = read(tmp_path, content)
    assert len(flaws(found)) == len(found) == 1


def test_an_empty_archive(tmp_path: Path) -> None:
    assert read(tmp_path, b"") == []


@given(st.binary(max_size=300), st.integers(0, 1000), st.integers(0, 300))
def test_no_damage_raises(junk: bytes, at: int, removed: int) -> None:
    content = b"".join(GOOD[:3])
    stream = io.BufferedReader(io.BytesIO(content[:at] + junk + content[at + removed :]))
    assert list(read_records(stream, 1000))


def test_the_same_records_as_another_library_finds(tmp_path: Path) -> None:
    kinds = ["warcinfo", "request", "response", "resource", "metadata", "revisit", "conversion"]
    records = [warc(page(number), kinds[number % 7], f"http://x/{number}") for number in range(50)]
    (tmp_path / "a.warc").write_bytes(b"".join(records))
    with open(tmp_path / "a.warc", "rb") as file:
        ours = [(one.kind, one.url, one.block) for one in read_records(file, 10_000) if isinstance(one, Record)]
    iterator = ArchiveIterator(str(tmp_path / "a.warc"), parse_http=False)
    theirs = [(str(one.record_type), one.headers["WARC-Target-URI"], one.reader.read()) for one in iterator]
    assert ours == theirs


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.warc").write_bytes(b"")
    monkeypatch.setattr("data_prep.readers.warc.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'tarmac\[warc\]'"):
        find_files(make_reader("warc", tmp_path))
