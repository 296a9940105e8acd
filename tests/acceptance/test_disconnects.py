"""Clients that disconnect in the middle of a mutation leave no transaction open."""

import json
import random
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from tests.support.deliveries import REQUEST_CALLBACK, TRACK_LEADS, create_inbox, create_webhook, open_database
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program

CLIENTS = 400
CONCURRENT_CLIENTS = 8
#: Seconds for each client, so that the program has no backlog at the end.
PACE_SECONDS = 0.1


def test_disconnects_during_mutations_leave_no_lock_held(own_program: Program) -> None:
    create_webhook(own_program, create_inbox(own_program), retryDelaysSeconds=[3600])
    own_program.query(TRACK_LEADS)
    normal_seconds = max(_request_callback(own_program, f"beforehand {number}") for number in range(5))
    with ThreadPoolExecutor(CONCURRENT_CLIENTS) as clients:
        answers = list(clients.map(lambda number: _hang_up(own_program, number), range(CLIENTS)))

    assert _request_callback(own_program, "afterwards") < 1.0 + 5 * normal_seconds

    with open_database(own_program) as connection:
        connection.execute("PRAGMA busy_timeout = 0")
        connection.execute("BEGIN IMMEDIATE")  # raises if a transaction is open
        connection.execute("ROLLBACK")
        names = {name for (name,) in connection.execute("SELECT name FROM lead")}
        recorded = connection.execute("SELECT count(*) FROM ringback_event WHERE action = 'CREATED'").fetchone()[0]
    acknowledged = {name for name in answers if name is not None}
    assert acknowledged <= names
    assert recorded == len(names)
    assert len(acknowledged) <= CLIENTS - 40, (
        "too few clients disconnected before the response, so the test proves nothing"
    )


def _request_callback(program: Program, name: str) -> float:
    """Request a callback. Return how long the response took, in seconds."""
    started = time.monotonic()
    data = program.query(REQUEST_CALLBACK, {"input": {"name": name, "phone": "1"}})
    assert data["requestCallback"]["lead"] is not None
    return time.monotonic() - started


def _hang_up(program: Program, number: int) -> str | None:
    """Request a callback and reset the connection a few ms later. Return the name if the response came before that."""
    name = f"client {number}"
    body = json.dumps({"query": REQUEST_CALLBACK, "variables": {"input": {"name": name, "phone": "1"}}}).encode()
    head = (
        f"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {program.token}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    started = time.monotonic()
    where = urlsplit(program.url)
    with socket.create_connection((where.hostname, where.port), timeout=PATIENCE_SECONDS) as client:
        client.sendall(head + body)
        client.settimeout(0.0005 + random.Random(number).uniform(0.0, 0.02))
        try:
            answer = client.recv(65_536)
        except TimeoutError:
            answer = b""
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by RST, not FIN
    time.sleep(max(0.0, PACE_SECONDS - (time.monotonic() - started)))
    is_acknowledged = b"200 OK" in answer and b'"id":' in answer.replace(b" ", b"")
    return name if is_acknowledged else None
