"""The body of a request, of which no more is kept than a limit allows."""

from starlette.requests import Request
from starlette.types import Receive

#: A body over the limit is read to its end up to so many times the limit, and thrown away: many clients see the answer
#: only after they have sent all.
DISCARDED = 8


class TooLarge(Exception):
    """The body is over the limit."""


async def read_limited_body(receive: Receive, content_length: bytes | None, limit: int) -> bytes:
    """The whole body; raises TooLarge when it is over `limit` bytes, ClientDisconnect when it ends early."""
    if content_length is not None and content_length.isdigit() and int(content_length[:20]) > DISCARDED * limit:
        raise TooLarge
    body, length = bytearray(), 0
    async for chunk in Request({"type": "http"}, receive).stream():
        length += len(chunk)
        if length <= limit:
            body += chunk
        if length > DISCARDED * limit:
            break
    if length > limit:
        raise TooLarge
    return bytes(body)
