"""The sender against real servers: endpoints and names that are too slow, and sends that are cancelled."""

import asyncio
import socket

import pytest
from yarl import URL

from ringback.jobs.http.connection import HttpConnection
from ringback.jobs.http.sender import Sender, SendResult
from ringback.jobs.outcomes import TimedOut
from tests.support.eventually import eventually
from tests.support.http_server import NO_AUTHORITIES, Server, answering, plain
from tests.support.patience import PATIENCE_SECONDS
from tests.support.sending import LOOPBACK, Names, deliver, deliver_too_late


async def test_an_endpoint_that_never_answers_times_out(sender: Sender) -> None:
    async with answering(close=False).running() as server, asyncio.timeout(PATIENCE_SECONDS):
        sent, seconds = await deliver_too_late(sender, server.url, lambda sent: sent.request is not None)
    assert sent.outcome == TimedOut(f"No complete response within {seconds:g} s.")
    assert sent.request is not None
    assert sent.duration_ms >= seconds * 1_000


async def test_a_listener_that_never_accepts_times_out(sender: Sender) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = URL(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        sent = await deliver(sender, url, timeout_seconds=0.2)
    assert sent.outcome == TimedOut("No complete response within 0.2 s.")


async def test_a_request_that_is_not_read_is_not_kept_after_its_timeout(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[HttpConnection] = []
    connection_lost = HttpConnection.connection_lost

    def record_loss(connection: HttpConnection, error: BaseException | None) -> None:
        lost.append(connection)
        connection_lost(connection, error)

    monkeypatch.setattr(HttpConnection, "connection_lost", record_loss)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = URL(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        sent = await deliver(sender, url, body=b"x" * 20_000_000, timeout_seconds=1)
        await eventually(lambda: len(lost) == 1)

    assert sent.outcome == TimedOut("No complete response within 1 s.")


def body_started(sent: SendResult) -> bool:
    return sent.outcome.response is not None and sent.outcome.response.body != b""


async def test_a_slow_body_times_out_with_its_first_part(sender: Sender) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n"
    async with answering(head, *[b"x"] * 10_000, pause=0.02).running() as server:
        sent, seconds = await deliver_too_late(sender, server.url, body_started)
    assert sent.outcome.name == "TIMED_OUT"
    assert sent.outcome.error == f"No complete response within {seconds:g} s."
    answer = sent.outcome.response
    assert answer is not None
    assert (answer.status, answer.headers, answer.body_truncated) == (200, (("Content-Length", "10000"),), True)
    # There may be fewer bytes on a slow machine, not more: the same loop times them and the timeout.
    assert 1 <= len(answer.body) <= seconds / 0.02 + 5


async def test_slow_headers_time_out(sender: Sender) -> None:
    drops = [bytes([byte]) for byte in plain("200 OK", b"", b"X: " + b"y" * 100)]
    async with answering(*drops, pause=0.02).running() as server:
        sent = await deliver(sender, server.url, timeout_seconds=0.3)
    assert sent.outcome == TimedOut("No complete response within 0.3 s.")


async def test_a_name_that_hangs_times_out_and_holds_up_no_other() -> None:
    async with (
        Sender(LOOPBACK, lookup=Names(), tls=NO_AUTHORITIES) as sender,
        answering(plain("200 OK")).running() as server,
    ):
        hanging = URL("http://hangs.example/")
        hung = [asyncio.create_task(deliver(sender, hanging, timeout_seconds=10 * PATIENCE_SECONDS)) for _ in range(50)]
        sent = await deliver(sender, hanging, timeout_seconds=0.1)
        assert (sent.outcome, sent.request) == (TimedOut("No complete response within 0.1 s."), None)
        assert (await deliver(sender, server.url.with_host("healthy.example"))).outcome.name == "DELIVERED"
        assert not any(task.done() for task in hung)
        for task in hung:
            task.cancel()
        assert {type(end) for end in await asyncio.gather(*hung, return_exceptions=True)} == {asyncio.CancelledError}


async def test_cancellation_passes_through_and_closes_the_connection(sender: Sender) -> None:
    closed = asyncio.Event()

    async def wait_for_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        await reader.read()
        closed.set()

    server = Server(wait_for_the_end)
    async with server.running():
        task = asyncio.create_task(deliver(sender, server.url))
        await eventually(lambda: server.requests)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(closed.wait(), PATIENCE_SECONDS)
