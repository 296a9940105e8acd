"""Request bodies are read up to a limit, and discarded beyond it."""

from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from ringback.graphql_api.transport.request_body import DISCARD_FACTOR, TooLarge, read_limited_body

LIMIT = 10


class Sent:
    """A body sent in chunks. `unfinished`: the client disconnects after the last one."""

    def __init__(self, *chunks: bytes, unfinished: bool = False) -> None:
        self.read = 0
        self._chunks = chunks
        self._unfinished = unfinished

    async def receive(self) -> Any:
        if self.read == len(self._chunks):
            return {"type": "http.disconnect"}
        self.read += 1
        more = self._unfinished or self.read < len(self._chunks)
        return {"type": "http.request", "body": self._chunks[self.read - 1], "more_body": more}


@pytest.mark.parametrize("chunks", [(b"",), (b"0123456789",), (b"01234", b"56789"), (b"", b"0123456789", b"")])
async def test_a_body_within_the_limit_is_returned(chunks: Sequence[bytes]) -> None:
    assert await read_limited_body(Sent(*chunks).receive, None, LIMIT) == b"".join(chunks)


@pytest.mark.parametrize("chunks", [(b"0123456789a",), (b"0123456789", b"a"), (b"x" * LIMIT * DISCARD_FACTOR,)])
async def test_a_body_over_the_limit_is_read_to_its_end(chunks: Sequence[bytes]) -> None:
    sent = Sent(*chunks)
    with pytest.raises(TooLarge):
        await read_limited_body(sent.receive, None, LIMIT)
    assert sent.read == len(chunks)


async def test_a_body_far_over_the_limit_is_not_read_to_its_end() -> None:
    sent = Sent(*[b"x" * LIMIT] * 100)
    with pytest.raises(TooLarge):
        await read_limited_body(sent.receive, None, LIMIT)
    assert sent.read == DISCARD_FACTOR + 1


@pytest.mark.parametrize(
    ("declared", "read"),
    [(b"81", 0), (b"9" * 5_000, 0), (b"80", 1), (b"-1", 1), (b"x", 1), ("٣".encode(), 1), (b"", 1)],
)
async def test_a_declared_length_far_over_the_limit_is_refused_unread(declared: bytes, read: int) -> None:
    sent = Sent(b"x" * 11)
    with pytest.raises(TooLarge):
        await read_limited_body(sent.receive, declared, LIMIT)
    assert sent.read == read


@pytest.mark.parametrize("sent", [Sent(), Sent(b"01", unfinished=True), Sent(b"x" * 20, unfinished=True)])
async def test_a_body_that_ends_early_is_a_disconnect(sent: Sent) -> None:
    with pytest.raises(ClientDisconnect):
        await read_limited_body(sent.receive, None, LIMIT)
