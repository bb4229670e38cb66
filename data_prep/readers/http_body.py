"""Bodies of HTTP messages as archives hold them: maybe still in their codings (RFC 9110, 9112), maybe no longer."""

import re
import zlib
from collections.abc import Callable

import zstandard

from data_prep.readers.flaw import Flaw

_CHUNK = re.compile(rb"(?:\r?\n)?([0-9a-fA-F]{1,16})[^\r\n]*\r?\n")


def decode_body(body: bytes, transfer_encoding: str, content_encoding: str, limit: int) -> bytes:
    """The body without its codings, no more than about `limit` bytes of it.

    Some crawlers store what they decoded and keep the headers, so what does not look coded is taken as it is. Of a
    body whose connection broke, what came is given.

    Raises:
        Flaw: It is coded, and not in the way it says.
    """
    if "chunked" in transfer_encoding.lower():
        body = _joined(body)
    for coding in reversed(content_encoding.lower().split(",")):
        decode = _DECODERS.get(coding.strip())
        if decode:
            body = _decoded(body, decode, coding.strip(), limit)
    return body


def _joined(body: bytes) -> bytes:
    """The chunks of a body, joined."""
    parts, at = list[bytes](), 0
    while (chunk := _CHUNK.match(body, at)) and (size := int(chunk[1], 16)):
        parts.append(body[chunk.end() : chunk.end() + size])
        at = chunk.end() + size
    return b"".join(parts) if parts or chunk else body


def _decoded(body: bytes, decode: Callable[[bytes, int], bytes], coding: str, limit: int) -> bytes:
    from resiliparse.parse.encoding import detect_mime

    try:
        return decode(body, limit)
    except (zlib.error, zstandard.ZstdError, ValueError) as error:
        if detect_mime(body).startswith("text/"):
            return body
        raise Flaw("bad_coding", f"{coding}: {error}") from error


def _inflate(body: bytes, limit: int) -> bytes:
    """gzip, zlib, or bare deflate, which some servers send in place of zlib."""
    try:
        return zlib.decompressobj(32 + zlib.MAX_WBITS).decompress(body, limit)
    except zlib.error:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(body, limit)


def _unbrotli(body: bytes, limit: int) -> bytes:
    import brotli

    try:
        return bytes(brotli.Decompressor().process(body, output_buffer_limit=limit))
    except brotli.error as error:
        raise ValueError(str(error)) from error


def _unzstd(body: bytes, limit: int) -> bytes:
    return zstandard.ZstdDecompressor().stream_reader(body).read(limit)


_DECODERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _inflate,
    "x-gzip": _inflate,
    "deflate": _inflate,
    "br": _unbrotli,
    "zstd": _unzstd,
}
