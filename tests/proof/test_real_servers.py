"""The sender against nginx and Node.js. docs/decisions/0003-http-sender.md has the results with more servers."""

import asyncio
import itertools
import ssl
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from ringback.jobs.http.pool import SETTLE_SECONDS
from ringback.jobs.http.sender import Sender
from ringback.jobs.outcomes import Delivered
from tests.support.authority import Authority
from tests.support.eventually import eventually
from tests.support.patience import PATIENCE_SECONDS
from tests.support.real_servers import SERVERS, RealServer, Served
from tests.support.sending import LOOPBACK, deliver

#: Senders that go idle side by side, and how often each of them does.
LANES, ROUNDS = 30, 2
#: Idle times reach from this many seconds before the server closes a connection to as many after.
SPREAD_SECONDS = 0.15

_ids = map(str, itertools.count(1))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.file))


@pytest.fixture(scope="module", params=sorted(SERVERS))
def server(
    request: pytest.FixtureRequest, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealServer]:
    authority.server("127.0.0.1")
    certificate = authority.file.parent / "127.0.0.1.pem"
    with SERVERS[request.param](tmp_path_factory.mktemp(request.param), certificate) as running:
        yield running


@pytest_asyncio.fixture
async def sender(tls: ssl.SSLContext) -> AsyncIterator[Sender]:
    async with Sender(LOOPBACK, tls=tls) as opened:
        yield opened


async def send(sender: Sender, server: RealServer, path: str, protocol: str = "http") -> tuple[str, Delivered]:
    """Send a request that must be delivered; return its id and outcome."""
    request_id = next(_ids)
    outcome = (await deliver(sender, server.url(path, protocol), headers=(("X-Id", request_id),))).outcome
    assert isinstance(outcome, Delivered), outcome
    assert outcome.response.body == b"answered"
    assert not outcome.response.body_truncated
    return request_id, outcome


async def served(server: RealServer, ids: list[str]) -> list[Served]:
    """Return what the server logged of these requests; nginx writes its log after the answer."""
    await eventually(lambda: len(server.served(ids)) >= len(ids))
    requests = server.served(ids)
    assert sorted(request.id for request in requests) == sorted(ids), "each was received once"
    return requests


async def send_in_turn(
    sender: Sender, server: RealServer, path: str, protocol: str = "http"
) -> tuple[list[Served], dict[str, str]]:
    """Send three requests, one after the other; return what was served and the headers of the last answer."""
    ids = []
    for _ in range(3):
        request_id, outcome = await send(sender, server, path, protocol)
        ids.append(request_id)
        await asyncio.sleep(SETTLE_SECONDS * 2)
    headers = {name.lower(): value for name, value in outcome.response.headers}
    return await served(server, ids), headers


async def test_a_kept_connection_is_used_again(sender: Sender, server: RealServer) -> None:
    requests, headers = await send_in_turn(sender, server, "/plain")
    assert headers["content-length"] == "8"
    assert len({request.connection for request in requests}) == 1


async def test_chunks_end_an_answer_and_not_its_connection(sender: Sender, server: RealServer) -> None:
    requests, headers = await send_in_turn(sender, server, "/chunked")
    assert headers["transfer-encoding"] == "chunked"
    assert len({request.connection for request in requests}) == 1


async def test_connection_close_leads_to_new_connections(sender: Sender, server: RealServer) -> None:
    requests, headers = await send_in_turn(sender, server, "/close")
    assert headers["connection"] == "close"
    assert len({request.connection for request in requests}) == 3


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
async def test_tls_connections_are_kept(sender: Sender, server: RealServer, version: str) -> None:
    for path in ("/plain", "/chunked"):
        requests, _ = await send_in_turn(sender, server, path, version)
        assert {request.protocol for request in requests} == {version}
        assert len({request.connection for request in requests}) == 1


async def seconds_until_close(server: RealServer) -> float:
    """Measure how long the server keeps an idle connection after its answer."""
    url = server.url("/plain")
    async with asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(b"GET /plain HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await reader.readuntil(b"answered")
        answered = time.monotonic()
        assert await reader.read() == b""
        closed = time.monotonic()
    writer.close()
    return closed - answered


async def send_after_pauses(server: RealServer, tls: ssl.SSLContext, pauses: list[float]) -> tuple[list[str], int]:
    """Send a request and one after each pause; return the ids of those delivered and how many were lost."""
    ids, lost = [], 0
    async with Sender(LOOPBACK, tls=tls) as sender:
        for pause in (0.0, *pauses):
            await asyncio.sleep(pause)
            request_id = next(_ids)
            sent = await deliver(sender, server.url("/plain"), headers=(("X-Id", request_id),))
            if isinstance(sent.outcome, Delivered):
                ids.append(request_id)
            else:
                lost += 1
    return ids, lost


async def test_no_request_is_lost_when_the_server_closes_idle_connections(
    server: RealServer, tls: ssl.SSLContext
) -> None:
    # A server may close a connection between the sender's last check and its write, and nothing can be done about that.
    # It is rare unless the machine stalls, so the best of three counts.
    closes = await seconds_until_close(server)
    step = 2 * SPREAD_SECONDS / (LANES * ROUNDS - 1)
    pauses = [closes - SPREAD_SECONDS + step * index for index in range(LANES * ROUNDS)]
    for _ in range(3):
        lanes = await asyncio.gather(*[send_after_pauses(server, tls, pauses[lane::LANES]) for lane in range(LANES)])
        ids = list(itertools.chain.from_iterable(delivered for delivered, _ in lanes))
        lost = sum(lost for _, lost in lanes)
        connections = {request.connection for request in await served(server, ids)}
        if lost == 0:
            break
    assert lost == 0
    assert len(ids) == LANES * (1 + ROUNDS)
    assert LANES < len(connections) < len(ids), "some connections were closed while idle, and some were used again"
