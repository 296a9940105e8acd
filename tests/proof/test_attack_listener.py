"""Attacks of clients without a token on the listener: each is refused in time, in bounded memory, and delays nobody."""

import itertools
import json
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from websockets.frames import Frame, Opcode

from tests.support.bystander import measure_attack
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program
from tests.support.raw_http import connect, connect_many, post_head, read_all_to_end, send, send_until_closed, statuses

pytestmark = pytest.mark.alone

#: Short limits, so that attacks end soon.
SHORT = {
    "RINGBACK_HTTP_HEADER_SECONDS": "2",
    "RINGBACK_HTTP_BODY_SECONDS": "3",
    "RINGBACK_HTTP_READ_SECONDS": "2",
}
#: Timeouts are checked once per second, and a refused client gets a second to read the response.
MARGIN_SECONDS = 4.0
GRAPHIQL = Path(__file__).parents[2] / "graphql_api"
MEBIBYTE = 1024 * 1024
GET = b"GET /graphql HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
#: What an attacker repeats without end after a start, and the status that refuses it.
ENDLESS = {
    "many headers": (GET, b"a:b\r\n" * 13_000, 431),
    "one header name": (GET, b"a" * 65_536, 431),
    "one header value": (GET + b"a:", b"b" * 65_536, 431),
    "one URL": (b"GET /", b"a" * 65_536, 414),
    "line breaks": (b"", b"\r\n" * 32_768, 431),
}
#: The same after the head of a request with a token, which the application waits for.
ENDLESS_BODY = {
    "trailers": (b"0\r\n", b"a:b\r\n" * 13_000, 431),
    "one trailer": (b"0\r\na:", b"b" * 65_536, 431),
    "a chunk extension": (b"1;", b"a" * 65_536, 431),
    "a chunk size": (b"", b"0" * 65_536, 431),
}


#: Requests of clients that hang up at once: each makes the program look up an inbox, or a token.
ABANDONED = {
    "an inbox": b"POST /inbox/unknown HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 60_000,
    "an inbox, long URL": b"GET /inbox/unknown?%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 60_000),
}
#: Seconds of such requests.
ABANDONED_SECONDS = 3.0
#: Closes a connection with a reset.
RESET = struct.pack("ii", 1, 0)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[Program]:
    """Yield a program with short limits, which logs no traceback whatever a test does to it."""
    with Program(tmp_path_factory.mktemp("attacked"), env=SHORT, migrated=migrated) as program:
        yield program
        log = program.log()
    assert "Traceback" not in log
    assert '"level":"error"' not in log


@pytest.mark.parametrize("attack", ENDLESS)
def test_an_endless_head_is_refused(attacked: Program, attack: str) -> None:
    start, repeated, status = ENDLESS[attack]

    with measure_attack(attacked) as cost, closing(connect(attacked)) as client:
        send(client, start)
        sent_bytes = send_until_closed(client, itertools.repeat(repeated, 900))

    cost.check()
    assert sent_bytes < 16 * MEBIBYTE
    assert f'"status":{status}' in attacked.log()


@pytest.mark.parametrize("attack", ENDLESS_BODY)
def test_an_endless_end_of_a_body_is_refused(attacked: Program, attack: str) -> None:
    start, repeated, _ = ENDLESS_BODY[attack]
    head = CHUNKED + b"Authorization: Bearer %s\r\n\r\n" % attacked.token.encode()

    with measure_attack(attacked) as cost, closing(connect(attacked)) as client:
        send(client, head + start)
        sent_bytes = send_until_closed(client, itertools.repeat(repeated, 900))

    cost.check()
    assert sent_bytes < 16 * MEBIBYTE


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"", b""),
        (GET + b"a: b", b"408"),
        (GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"408"),
    ],
    ids=["nothing", "half a header", "half a handshake"],
)
def test_half_sent_heads_are_closed_in_time(attacked: Program, start: bytes, status: bytes) -> None:
    with measure_attack(attacked) as cost, connect_many(attacked, 400, start) as clients:
        began = time.monotonic()
        answers = read_all_to_end(clients)
        seconds = time.monotonic() - began

    cost.check()
    assert statuses(answers) == {status}
    assert seconds < attacked.allowed(2 + MARGIN_SECONDS)


def test_half_sent_bodies_are_closed_in_time(attacked: Program) -> None:
    head = post_head(attacked, 100, token=attacked.token)
    with measure_attack(attacked) as cost, connect_many(attacked, 400, head + b"x" * 99) as clients:
        began = time.monotonic()
        answers = read_all_to_end(clients)
        seconds = time.monotonic() - began

    cost.check()
    assert statuses(answers) == {b"408"}
    assert seconds < attacked.allowed(3 + MARGIN_SECONDS)


def test_a_client_that_drips_bytes_is_closed_in_time(attacked: Program) -> None:
    with closing(connect(attacked)) as client:
        began = time.monotonic()
        while send(client, b"G" if time.monotonic() == began else b"\r\n"):
            time.sleep(0.1)
            assert time.monotonic() - began < PATIENCE_SECONDS
        assert time.monotonic() - began < attacked.allowed(2 + MARGIN_SECONDS)


@pytest.mark.parametrize("token", [None, "rbk_a-token-that-does-not-exist"])
def test_bodies_of_clients_without_a_token_are_not_held(attacked: Program, token: str | None) -> None:
    body = b" " * (MEBIBYTE - 1)
    request = post_head(attacked, MEBIBYTE, token=token) + body
    with measure_attack(attacked) as cost, connect_many(attacked, 300, request, seconds=0.05) as clients:
        answers = [client.recv(4_096) for client in clients]

    cost.check()
    assert statuses(answers) <= {b"401", b"503"}
    unauthenticated = next(answer for answer in answers if answer[9:12] == b"401")
    assert b'"code":"UNAUTHENTICATED"' in unauthenticated


@pytest.mark.parametrize(
    ("target", "status", "limit"),
    [("graphql", b"503", b"RINGBACK_HTTP_MAX_BUFFERED_BYTES"), ("inbox", b"429", b"8,388,608 bytes, a fixed limit")],
)
def test_stalled_bodies_hold_a_fixed_sum(attacked: Program, target: str, status: bytes, limit: bytes) -> None:
    path = "/graphql"
    if target == "inbox":
        path = make_inbox_path(attacked)
    request = post_head(attacked, MEBIBYTE, path, attacked.token) + b" " * (MEBIBYTE - 1)
    with measure_attack(attacked) as cost, connect_many(attacked, 150, request) as clients:
        assert attacked.post({"query": "{ __typename }" + " " * 200_000})[0] == 200
        answers = read_all_to_end(clients)

    cost.check()
    assert statuses(answers) == {status, b"408"}
    refused = next(answer for answer in answers if answer[9:12] == status)
    assert b"\r\nretry-after: 1\r\n" in refused.lower()
    assert limit in refused


def make_inbox_path(program: Program) -> str:
    created = program.query('mutation { createInbox(input: {name: "attacked"}) { inbox { url } } }')
    url: str = created["createInbox"]["inbox"]["url"]
    return url.removeprefix(program.url)


def test_pipelined_requests_are_limited(attacked: Program) -> None:
    requests = (GET + b"Accept: application/json\r\n\r\n") * 6_000
    with measure_attack(attacked) as cost, connect_many(attacked, 20, requests, seconds=2) as clients:
        answers = read_all_to_end(clients)

    cost.check()
    assert max(answer.count(b"HTTP/1.1 401") for answer in answers) < 1_000


def test_heads_of_waiting_requests_hold_a_fixed_sum(attacked: Program) -> None:
    """They wait for responses that are not read."""
    largest = max((GRAPHIQL / "static").iterdir(), key=lambda path: path.stat().st_size)
    unread = b"GET /graphql/static/%s HTTP/1.1\r\nHost: x\r\n\r\n" % largest.name.encode()
    waiting = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:b\r\n" * 98 + b"\r\n"
    with (
        measure_attack(attacked) as cost,
        connect_many(attacked, 400, unread * 4 + waiting * 50, receive_buffer=4_096, seconds=2),
    ):
        time.sleep(1)

    cost.check()


def test_unread_responses_are_ended(attacked: Program) -> None:
    largest = max((GRAPHIQL / "static").iterdir(), key=lambda path: path.stat().st_size)
    requests = b"GET /graphql/static/%s HTTP/1.1\r\nHost: x\r\n\r\n" % largest.name.encode() * 20
    before = count_open_files(attacked)
    with (
        measure_attack(attacked) as cost,
        connect_many(attacked, 40, requests, receive_buffer=4_096),
    ):
        time.sleep(attacked.allowed(2 + MARGIN_SECONDS))
        assert count_open_files(attacked) < before + 10

    cost.check()


@pytest.mark.parametrize("request_bytes", ABANDONED.values(), ids=ABANDONED)
def test_clients_that_hang_up_hold_little(attacked: Program, request_bytes: bytes) -> None:
    """Their requests waited for the database, and no limit counted them: 400 MB, and others waited for seconds."""
    with measure_attack(attacked) as cost:
        end = time.monotonic() + ABANDONED_SECONDS
        while time.monotonic() < end:
            with closing(connect(attacked)) as client:
                client.sendall(request_bytes)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    cost.check()


def test_bodies_of_small_chunks_are_refused(attacked: Program) -> None:
    """Each chunk took time of the event loop, so that others waited for seconds."""
    head = CHUNKED + b"Authorization: Bearer %s\r\n\r\n" % attacked.token.encode()
    with measure_attack(attacked) as cost, connect_many(attacked, 8, head) as clients:
        for client in clients:
            while send(client, b"1\r\nx\r\n" * 5_000):
                pass

    cost.check()


def count_open_files(program: Program) -> int:
    assert program.process is not None
    return len(list(Path(f"/proc/{program.process.pid}/fd").iterdir()))


def test_connections_of_one_address_are_limited(tmp_path: Path, migrated: Path) -> None:
    env = {"RINGBACK_HTTP_MAX_CONNECTIONS_PER_ADDRESS": "50", "RINGBACK_HTTP_MAX_CONNECTIONS": "60"}
    with Program(tmp_path, env=env, migrated=migrated) as program:
        # With the client that measures, the address has its 50 connections.
        with measure_attack(program) as cost, connect_many(program, 49, b"GET"):
            time.sleep(0.5)
            for _ in range(2_000):
                with closing(connect(program)) as refused:
                    answer = refused.recv(4_096)
            other = connect_from("127.0.0.2", program)
            with closing(other):
                other.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert other.recv(4_096).startswith(b"HTTP/1.1 200 ")

        assert answer[9:12] == b"429"
        assert b"\r\nRetry-After: 1\r\n" in answer
        assert b"RINGBACK_HTTP_MAX_CONNECTIONS_PER_ADDRESS" in answer
        cost.check()
        assert program.log().count('"action":"refuse"') == 1


def connect_from(address: str, program: Program) -> socket.socket:
    host, port = program.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), PATIENCE_SECONDS, source_address=(address, 0))


HANDSHAKE = (
    GET
    + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    + b"Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
)
#: A text frame of 1,000,000 bytes, the last of which is never sent.
UNFINISHED_FRAME = b"\x81\xff" + (1_000_000).to_bytes(8) + b"\0\0\0\0" + b" " * 999_999


def test_one_token_cannot_take_all_connections(tmp_path: Path, migrated: Path) -> None:
    with Program(tmp_path, env={"RINGBACK_HTTP_MAX_CONNECTIONS": "60"}, migrated=migrated) as program:
        init = {"type": "connection_init", "payload": {"Authorization": f"Bearer {program.token}"}}
        init_frame = Frame(Opcode.TEXT, json.dumps(init).encode()).serialize(mask=True)
        answers = []
        with measure_attack(program) as cost, connect_many(program, 40, HANDSHAKE) as clients:
            for client in clients:
                assert client.recv(4_096).startswith(b"HTTP/1.1 101 ")
                client.sendall(init_frame)
                answers.append(client.recv(4_096))

        acknowledged = [answer for answer in answers if b"connection_ack" in answer]
        refused = [answer for answer in answers if b"RINGBACK_HTTP_MAX_CONNECTIONS" in answer]
        assert (len(acknowledged), len(refused)) == (15, 25)
        cost.check()


def test_one_token_cannot_take_all_connections_by_streams(tmp_path: Path, migrated: Path) -> None:
    with Program(tmp_path, env={"RINGBACK_HTTP_MAX_CONNECTIONS": "60"}, migrated=migrated) as program:
        body = json.dumps({"query": "subscription { deliveryLog { at } }"}).encode()
        head = post_head(program, len(body), token=program.token)
        request = head.replace(b"Host: x", b"Host: x\r\nAccept: text/event-stream") + body
        with measure_attack(program) as cost, connect_many(program, 40, request) as clients:
            answers = [client.recv(4_096)[9:12] for client in clients]

        assert (answers.count(b"200"), answers.count(b"429")) == (15, 25)
        cost.check()


def test_connections_that_do_not_close_count_for_their_address(tmp_path: Path, migrated: Path) -> None:
    env = {"RINGBACK_HTTP_MAX_CONNECTIONS_PER_ADDRESS": "20"}
    with Program(tmp_path, env=env, migrated=migrated) as program, ExitStack() as clients:
        init = {"type": "connection_init", "payload": {"Authorization": f"Bearer {program.token}"}}
        init_frame = Frame(Opcode.TEXT, json.dumps(init).encode()).serialize(mask=True)
        invalid_frame = Frame(Opcode.TEXT, b"[]").serialize(mask=True)
        answers = []
        for _ in range(21):
            client = clients.enter_context(closing(connect(program)))
            send(client, HANDSHAKE)
            answers.append(client.recv(4_096)[9:12])
            if answers[-1] == b"101":
                send(client, init_frame)
                assert b"connection_ack" in client.recv(4_096)
                send(client, invalid_frame)
                assert b"Invalid message" in client.recv(4_096)

        assert answers == [b"101"] * 20 + [b"429"]


@pytest.mark.parametrize(("has_token", "count"), [(False, 50), (True, 150)])
def test_stalled_websocket_messages_hold_little_and_end(attacked: Program, has_token: bool, count: int) -> None:
    init = {"type": "connection_init", "payload": {"Authorization": f"Bearer {attacked.token}"}}
    init_frame = Frame(Opcode.TEXT, json.dumps(init).encode()).serialize(mask=True)
    with measure_attack(attacked) as cost, connect_many(attacked, count, HANDSHAKE) as clients:
        for client in clients:
            assert client.recv(4_096).startswith(b"HTTP/1.1 101 ")
            if has_token:
                client.sendall(init_frame)
                assert b"connection_ack" in client.recv(4_096)
            send(client, UNFINISHED_FRAME)
        began = time.monotonic()
        read_all_to_end(clients)

    cost.check()
    # The message has 3 s, connection_init as well.
    assert time.monotonic() - began < attacked.allowed(3 + MARGIN_SECONDS + 1)
