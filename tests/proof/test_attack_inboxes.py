"""Attacks by someone who knows the URL of an inbox and has no token: a flood, and bodies that never end."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.contract import operations
from tests.support.bystander import measure_attack
from tests.support.program import Program
from tests.support.raw_http import connect, post_head

pytestmark = pytest.mark.alone

MEBIBYTE = 1_048_576
#: Seconds of the flood, and its connections.
FLOOD_SECONDS, FLOOD_CONNECTIONS = 10.0, 4
#: Bytes that the database may have besides the quota of one inbox: its log of writes, and free pages.
SPARE_BYTES = 32 * MEBIBYTE
#: Requests that wait for a delayed response, and the bytes of each body.
DELAYED, DELAYED_BODY_BYTES = 100, 80_000
#: Requests with long heads that wait for a delayed response.
DELAYED_HEADS = 600
#: Rate of an inbox, and requests of a flood of small ones.
RATE, SMALL_REQUESTS = 20, 200
#: Unknown inboxes that a client asks for, in a few seconds.
LOOK_UPS = 2_000
#: Bodies that stall, and the pause between two of them in seconds.
STALLED, STALLED_PAUSE = 800, 0.005


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with Program(tmp_path) as program:
        yield program


def create_inbox(program: Program, **given: Any) -> str:
    """Create an inbox and return the path of its URL."""
    made = program.query(operations()["CreateInbox"], {"input": given})["createInbox"]
    assert made["errors"] == []
    return str(urlsplit(made["inbox"]["url"]).path)


def test_a_flood_of_large_bodies_fills_neither_disk_nor_memory(program: Program) -> None:
    path = create_inbox(program)
    statuses: Counter[int] = Counter()
    end = time.monotonic() + 3600

    def flood() -> None:
        connection = HTTPConnection(urlsplit(program.url).netloc, timeout=60)
        body = b"x" * MEBIBYTE
        while time.monotonic() < end:
            connection.request("POST", path, body)
            response = connection.getresponse()
            response.read()
            statuses[response.status] += 1
        connection.close()

    with measure_attack(program) as cost:
        end = time.monotonic() + FLOOD_SECONDS
        threads = [threading.Thread(target=flood) for _ in range(FLOOD_CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    stored = sum(file.stat().st_size for file in program.data_dir.glob("ringback.db*"))
    print(f"{dict(statuses)}, {stored / MEBIBYTE:.0f} MiB on disk")
    cost.check()
    assert statuses.keys() <= {200, 429}
    assert statuses[200] > 64, "the flood must exceed the quota"
    assert stored <= 64 * MEBIBYTE + SPARE_BYTES
    assert "Traceback" not in program.log()


def test_an_inbox_refuses_requests_beyond_its_rate(tmp_path: Path, migrated: Path) -> None:
    env = {"RINGBACK_INBOX_MAX_REQUESTS_PER_SECOND": str(RATE)}
    with Program(tmp_path, env=env, migrated=migrated) as program:
        flooded = create_inbox(program)
        other = create_inbox(program)
        began = time.monotonic()

        responses = [program.request("POST", flooded, b"x") for _ in range(SMALL_REQUESTS)]

        seconds = time.monotonic() - began
        statuses = Counter(status for status, _, _ in responses)
        assert statuses.keys() == {200, 429}
        assert RATE <= statuses[200] <= RATE * (1 + seconds) + 1
        _, headers, text = next(response for response in responses if response[0] == 429)
        assert headers["Retry-After"] == "1"
        assert b"RINGBACK_INBOX_MAX_REQUESTS_PER_SECOND" in text
        assert program.request("POST", other, b"x")[0] == 200


def test_a_client_may_look_for_a_limited_number_of_inboxes(program: Program) -> None:
    used = create_inbox(program)
    assert program.request("POST", used, b"x")[0] == 200
    statuses = Counter(program.request("GET", f"/inbox/unknown{number}")[0] for number in range(LOOK_UPS))

    assert statuses.keys() == {404, 429}
    assert program.request("POST", used, b"x")[0] == 200


def test_bodies_that_stall_hold_little_memory_and_keep_small_ones_working(program: Program) -> None:
    path = create_inbox(program)
    where = urlsplit(program.url)
    head = f"POST {path} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Length: {MEBIBYTE}\r\n\r\n".encode()
    almost_all = head + b"x" * (MEBIBYTE - 1)
    with ExitStack() as connections:
        with measure_attack(program) as cost:
            for _ in range(STALLED):
                last = connections.enter_context(
                    socket.create_connection((where.hostname or "", where.port or 0), timeout=60)
                )
                with suppress(ConnectionError):  # the program closes the connection of a body that it refuses
                    last.sendall(almost_all)
                time.sleep(STALLED_PAUSE)
            refusal = last.recv(65_536)
            status, _, text = program.request("POST", path, b"small")

        cost.check()
        assert (status, text) == (200, b"")
        assert refusal.startswith(b"HTTP/1.1 429 ") and b"retry-after: 1\r\n" in refusal.lower()
    assert "Traceback" not in program.log()


def test_an_unknown_inbox_is_refused_before_its_body_arrives(program: Program) -> None:
    where = urlsplit(program.url)
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=60) as connection:
        connection.sendall(f"POST /inbox/nope HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Length: 9\r\n\r\n".encode())
        assert connection.recv(65_536).startswith(b"HTTP/1.1 404 ")

        connection.sendall(b"ignored!!" + f"GET /healthz HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\nok\n"):
            answer += connection.recv(65_536)
        assert b"HTTP/1.1 200 " in answer


def test_delayed_responses_hold_no_heads(program: Program) -> None:
    delayed = create_inbox(program, responses=[{"delayMs": 20_000}])
    filler = b"x" * 60_000
    head = b"GET %s?%s HTTP/1.1\r\nHost: x\r\na: %s\r\n\r\n" % (delayed.encode(), filler, filler)

    with measure_attack(program) as cost, ExitStack() as stack:
        for _ in range(DELAYED_HEADS):
            stack.enter_context(connect(program)).sendall(head)
            time.sleep(STALLED_PAUSE)
        time.sleep(1)

    cost.check()
    assert "Traceback" not in program.log()


def test_delayed_responses_hold_no_bytes(tmp_path: Path, migrated: Path) -> None:
    """They took the whole budget, and requests of others were refused."""
    with Program(tmp_path, env={"RINGBACK_HTTP_MAX_BUFFERED_BYTES": str(4 * MEBIBYTE)}, migrated=migrated) as program:
        delayed = create_inbox(program, responses=[{"delayMs": 20_000}])
        other = create_inbox(program)
        body = b"x" * DELAYED_BODY_BYTES

        with measure_attack(program) as cost, ExitStack() as stack:
            for _ in range(DELAYED):
                client = stack.enter_context(connect(program))
                client.sendall(post_head(program, DELAYED_BODY_BYTES, delayed) + body)
            time.sleep(1)
            statuses = {program.request("POST", other, b"x" * 100_000)[0] for _ in range(20)}

        cost.check()
        assert statuses == {200}
        assert "Traceback" not in program.log()
