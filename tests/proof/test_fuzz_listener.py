"""Raw bytes against the listener: whatever arrives, it answers or closes in time, and logs no error."""

import itertools
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.program import ADMIN_TOKEN, Program
from tests.support.raw_http import connect, read_to_end

#: Requests to mutate: every method, kind of body and endpoint, with and without a token.
REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /graphql?query=%7B__typename%7D HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n",
    b"OPTIONS /graphql HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n\r\n",
    b"POST /graphql HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
    b'Content-Length: 26\r\n\r\n{"query":"{ __typename }"} ' % ADMIN_TOKEN.encode(),
    b"POST /graphql HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
    b'Transfer-Encoding: chunked\r\n\r\n9\r\n{"query":\r\n10\r\n"{ __typename }"}\r\n0\r\na: b\r\n\r\n'
    % ADMIN_TOKEN.encode(),
    b"POST /graphql HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    b"PUT /inbox/unknown HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /graphql HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n",
    b"POST /graphql HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"Content-Length: 2\r\n\r\n{}",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n",
]
#: Bytes with a meaning in HTTP, inserted or put in the place of others.
TOKENS = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"%", b"%ff", b"?", b"#", b"//", b"http://[", b"\xff", b"\x80",
    b"0", b"-1", b"99999999999999999999", b"chunked", b"close", b"upgrade", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/9.9",
    b"a" * 70_000, b"a:b\r\n" * 200, b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n",
    b"\x81\x80\0\0\0\0",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"Host: [\r\n", b"X-Forwarded-For: \xff, ,,::1%\r\n",
]  # fmt: skip


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[Program]:
    """Yield a program with short timeouts, which trusts this machine as a proxy."""
    env = {
        "RINGBACK_HTTP_HEADER_SECONDS": "1",
        "RINGBACK_HTTP_BODY_SECONDS": "1",
        "RINGBACK_HTTP_KEEP_ALIVE_SECONDS": "1",
        "RINGBACK_TRUSTED_PROXIES": "127.0.0.1,::1",
    }
    with Program(tmp_path_factory.mktemp("fuzzed"), env=env, migrated=migrated) as program:
        yield program
        assert program.query("{ __typename }") == {"__typename": "Query"}
        log = program.log()
    assert "Traceback" not in log
    assert '"level":"error"' not in log


@st.composite
def mutated_requests(draw: st.DrawFn) -> bytes:
    """Return one to three requests in a row, with up to four changes."""
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=3))))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        removed = draw(st.sampled_from([0, 0, 1, 2, 20]))
        data[start : start + removed] = draw(st.sampled_from(TOKENS) | st.binary(max_size=8))
    return bytes(data)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(data=mutated_requests() | st.binary(max_size=300), cuts=st.lists(st.integers(0, 1_000), max_size=4))
def test_any_bytes_are_answered_or_refused(fuzzed: Program, data: bytes, cuts: list[int]) -> None:
    borders = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})

    with closing(connect(fuzzed)) as client, suppress(ConnectionError):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start, end in itertools.pairwise(borders):
            client.sendall(data[start:end])
        with suppress(OSError):  # the server has closed the connection
            client.shutdown(socket.SHUT_WR)
        assert b"HTTP/1.1 500" not in read_to_end(client)


def test_a_client_that_stops_sending_after_its_request(fuzzed: Program) -> None:
    """The response is written while the connection closes, which must not raise."""
    for request in REQUESTS * 10:
        with closing(connect(fuzzed)) as client:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            read_to_end(client)
