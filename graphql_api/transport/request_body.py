"""Reading a request body up to a limit."""

from starlette.requests import Request
from starlette.types import Receive

#: A body over the limit is read and discarded up to this many times the limit: many clients read the response only
#: after they have sent the whole body.
DISCARD_FACTOR = 8


class TooLarge(Exception):
    """The body is over the limit."""


async def read_limited_body(receive: Receive, content_length: bytes | None, limit: int) -> bytes:
    """Return the body. Raises TooLarge if it is longer than `limit` bytes, ClientDisconnect if it ends early."""
    if content_length is not None and content_length.isdigit() and int(content_length[:20]) > DISCARD_FACTOR * limit:
        raise TooLarge
    body, length = bytearray(), 0
    async for chunk in Request({"type": "http"}, receive).stream():
        length += len(chunk)
        if length <= limit:
            body += chunk
        if length > DISCARD_FACTOR * limit:
            break
    if length > limit:
        raise TooLarge
    return bytes(body)
