"""Makes the HttpResponse to be recorded from the bytes that a connection has read."""

import zlib
from typing import NamedTuple

from ringback.jobs.http.response_reader import MAX_RESPONSE_BYTES, ResponseReader
from ringback.jobs.outcomes import HttpResponse


class _DecodedBody(NamedTuple):
    body: bytes
    is_whole: bool


def to_http_response(reader: ResponseReader, *, is_whole: bool) -> HttpResponse:
    """Return the response with its body decoded and cut to MAX_RESPONSE_BYTES.

    `is_whole` says that the connection has read the whole response.
    """
    body, is_body_whole = reader.body[:MAX_RESPONSE_BYTES], True
    if body and reader.content_encoding:
        body, is_body_whole = _decode(body, reader.content_encoding)
    is_too_long = len(reader.body) > MAX_RESPONSE_BYTES
    is_truncated = is_too_long or reader.is_cut_off or not is_whole or not is_body_whole
    return HttpResponse(
        status=reader.status,
        headers=tuple(reader.headers),
        body=body,
        body_truncated=is_truncated,
        headers_truncated=reader.are_headers_cut,
    )


def _decode(body: bytes, encoding: str) -> _DecodedBody:
    """Decode a body from gzip or deflate, up to MAX_RESPONSE_BYTES. One that cannot be decoded is returned as it is."""
    window = _window_bits(body, encoding)
    if window is None:
        return _DecodedBody(body, is_whole=True)
    decoder = zlib.decompressobj(window)
    try:
        decoded = decoder.decompress(body, MAX_RESPONSE_BYTES + 1)
    except zlib.error:
        return _DecodedBody(body, is_whole=True)
    is_whole = decoder.eof and len(decoded) <= MAX_RESPONSE_BYTES
    return _DecodedBody(decoded[:MAX_RESPONSE_BYTES], is_whole)


def _window_bits(body: bytes, encoding: str) -> int | None:
    """Return zlib's `wbits` for a content coding, or None if it is not supported."""
    if encoding in ("gzip", "x-gzip"):
        return zlib.MAX_WBITS | 16
    if encoding != "deflate":
        return None
    # Some servers send "deflate" without zlib's header, whose first byte ends in 8 (RFC 1950, 2.2).
    if body[0] & 0x0F == 8:
        return zlib.MAX_WBITS
    return -zlib.MAX_WBITS
