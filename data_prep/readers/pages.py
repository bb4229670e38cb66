"""From a web archive's record to a page's text: the HTTP head by fastwarc, charset and main text by resiliparse
(Bevendorff et al., ECIR 2018)."""

import re
from typing import Literal

from data_prep.readers.archive import Record
from data_prep.readers.flaw import Flaw
from data_prep.readers.http_body import decode_body

_KINDS = ("response", "resource", "conversion")
"""Records that may be pages; the others of the standard are about them."""
_OTHER_KINDS = ("warcinfo", "request", "metadata", "revisit", "continuation", "dns")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_PAGE_SCHEMES = ("http:", "https:", "ftp:", "file:")
_HTML = ("text/html", "application/xhtml+xml")
_TEXT = (*_HTML, "text/plain")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)
_MAX_DEPTH = 2000
"""Finding the main text takes time by the square of how deep blocks are nested: 0.1 s here, minutes at 100,000."""
_BLOCK = re.compile(r"<(/?)(?:div|article|section|main|table|ul|ol|blockquote)\b", re.IGNORECASE)
_WARC_HEAD = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http; msgtype=response\r\nContent-Length: "


class Skip(Exception):
    """The record is no page of text, and nothing is wrong with it. Its argument is the reason, in one word."""


def page_text(record: Record, extraction: Literal["main", "all"], max_page_bytes: int) -> str:
    """The text of a record's page.

    Raises:
        Skip: It is not a page of text that a server gave.
        Flaw: It is one, and is longer than `max_page_bytes` or cannot be decoded.
    """
    _check_kind(record.kind, record.url)
    content_type, body = _page(record, max_page_bytes)
    is_html = _media_type(content_type) in _HTML if content_type else body.lstrip()[:1] == b"<"
    text = _decode(body, content_type, is_html)
    if is_html:
        text = _extract(text, extraction == "main")
    if not text.strip():
        raise Skip("empty")
    return text


def _check_kind(kind: str, url: str) -> None:
    if kind not in _KINDS:
        raise Skip(kind if kind in _OTHER_KINDS else "unknown_type")
    scheme = _SCHEME.match(url)
    if scheme and scheme[0].lower() not in _PAGE_SCHEMES:
        raise Skip("dns" if scheme[0] == "dns:" else "no_page")
    if url.partition("?")[0].endswith("/robots.txt"):
        raise Skip("robots")


def _page(record: Record, max_bytes: int) -> tuple[str, bytes]:
    """Content type and body of a page of text that was fetched well."""
    content_type, body, codings = record.content_type, record.block, ("", "")
    if body.startswith(b"HTTP/"):
        content_type, body, codings = _http_page(record.block)
    elif _media_type(content_type) == "application/http" and body:
        raise Flaw("bad_http", "no HTTP message begins like this")
    if content_type and _media_type(content_type) not in _TEXT:
        raise Skip("not_text")
    body = decode_body(body, *codings, max_bytes + 1)
    if not body:
        raise Skip("empty")
    if len(body) > max_bytes or len(record.block) < record.length:
        raise Flaw("too_long", f"a page of more than {max_bytes} bytes")
    if not content_type and not _looks_like_text(body):
        raise Skip("not_text")
    return content_type, body


def _http_page(block: bytes) -> tuple[str, bytes, tuple[str, str]]:
    """Content type, body, and transfer and content codings of an HTTP response."""
    from fastwarc.warc import WarcRecord

    response = WarcRecord.from_bytes(_WARC_HEAD + str(len(block)).encode() + b"\r\n\r\n" + block)
    try:
        response.parse_http(quirks_mode=True)  # heads that end their lines with a bare LF
    except OSError as error:
        raise Flaw("bad_http", str(error)) from error
    head = response.http_headers
    status = head.status_code
    if status is None:
        raise Flaw("bad_http", "no status line")
    if status != 200:
        raise Skip(f"status_{status}")
    codings = head.get("Transfer-Encoding") or "", head.get("Content-Encoding") or ""
    return (head.get("Content-Type") or "").strip(), response.reader.read(), codings


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _looks_like_text(body: bytes) -> bool:
    from resiliparse.parse.encoding import detect_mime

    return detect_mime(body).startswith("text/")


def _decode(body: bytes, content_type: str, is_html: bool) -> str:
    """The page as a string, by the charset that its header, its own tags or its bytes tell."""
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5

    named = _CHARSET.search(content_type)
    charset = map_encoding_to_html5(named[1], fallback_utf8=False) if named else None
    charset = charset or detect_encoding(body, from_html_meta=is_html)
    try:
        return bytes_to_str(body, charset or "", errors="replace", fallback_encodings=())
    except LookupError as error:
        raise Flaw("unknown_charset", str(error)) from error


def _extract(html: str, main: bool) -> str:
    from resiliparse.extract.html2text import extract_plain_text

    if main and html.count("<") > _MAX_DEPTH and _depth(html) > _MAX_DEPTH:
        raise Flaw("too_deep", f"blocks nested more than {_MAX_DEPTH} deep")
    return extract_plain_text(html, main_content=main, alt_texts=False)


def _depth(html: str) -> int:
    """How deep blocks are nested at most."""
    depth = deepest = 0
    for tag in _BLOCK.finditer(html):
        depth += -1 if tag[1] else 1
        deepest = max(deepest, depth)
    return deepest
