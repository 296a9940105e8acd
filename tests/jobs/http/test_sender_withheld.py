"""The sender when the caller withholds the request once there is a connection."""

import asyncio

import pytest

from ringback.jobs.http.sender import Sender, SendWithheld
from tests.support.http_server import Server, answering, plain
from tests.support.outgoing import outgoing
from tests.support.patience import PATIENCE_SECONDS
from tests.support.sending import deliver


async def send_withheld(sender: Sender, server: Server) -> None:
    """Connect to a server and send nothing."""
    request = outgoing("POST", server.url, body=b"secret")
    with pytest.raises(SendWithheld):
        await sender.send(
            request, timeout_seconds=PATIENCE_SECONDS, accepts=lambda status: status == 200, is_withdrawn=lambda: True
        )


async def test_a_withheld_request_sends_no_byte_and_closes_its_connection(sender: Sender) -> None:
    received: list[bytes] = []
    closed = asyncio.Event()

    async def read_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read())
        closed.set()

    async with Server(read_all).running() as server:
        await send_withheld(sender, server)
        await asyncio.wait_for(closed.wait(), PATIENCE_SECONDS)

    assert received == [b""]
    assert server.connections == 1


@pytest.mark.usefixtures("_long_keep_alive")
async def test_after_a_withheld_request_the_next_ones_are_delivered(sender: Sender) -> None:
    async with answering(plain("200 OK", b"ok"), again=True).running() as server:
        before = await deliver(sender, server.url, body=b"1")
        await send_withheld(sender, server)
        after = [await deliver(sender, server.url, body=body) for body in (b"2", b"3")]

    assert [sent.outcome.name for sent in (before, *after)] == ["DELIVERED"] * 3
    assert [request.rsplit(b"\r\n\r\n", 1)[1] for request in server.requests] == [b"1", b"2", b"3"]


async def test_is_withdrawn_is_called_once_there_is_a_connection(sender: Sender) -> None:
    connections_when_called: list[int] = []

    async with answering(plain("200 OK")).running() as server:

        def is_withdrawn() -> bool:
            connections_when_called.append(server.connections)
            return False

        async def send() -> str:
            sent = await sender.send(
                outgoing("POST", server.url, body=b"x"),
                timeout_seconds=PATIENCE_SECONDS,
                accepts=lambda status: status == 200,
                is_withdrawn=is_withdrawn,
            )
            return sent.outcome.name

        assert await send() == "DELIVERED"

    assert len(connections_when_called) == 1
    assert len(server.requests) == 1


async def test_a_withheld_request_leaves_no_connection_in_the_pool(sender: Sender) -> None:
    async with answering(plain("200 OK")).running() as server:
        for _ in range(3):
            await asyncio.gather(*(send_withheld(sender, server) for _ in range(400)))
        sent = await deliver(sender, server.url)

    assert sent.outcome.name == "DELIVERED"
    assert len(server.requests) == 1
