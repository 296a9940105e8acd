"""An attack by large WebSocket messages that wait on many connections, by a holder of a token."""

import json
import time
from pathlib import Path

import pytest
from websockets.frames import Frame, Opcode

from tests.support.bystander import measure_attack
from tests.support.program import Program
from tests.support.raw_http import connect_many, send
from tests.support.raw_websocket import HANDSHAKE

pytestmark = pytest.mark.alone

CONNECTIONS = 100
#: Seconds for which the connections stay open after all are answered.
SECONDS = 3.0
#: Costly to check, and different for each connection, so that the messages wait.
FIELDS = " ".join(f"a{number}: events(first: 1) {{ nodes {{ id }} }}" for number in range(45))
UNDECLARED = {"text": "y" * 900_000, "numbers": list(range(10_000))}


def make_frame(message: dict[str, object]) -> bytes:
    return Frame(Opcode.TEXT, json.dumps(message).encode()).serialize(mask=True)


def test_large_messages_that_wait_on_many_connections(tmp_path: Path, migrated: Path) -> None:
    with Program(tmp_path, "api", migrated=migrated) as program:
        init = make_frame({"type": "connection_init", "payload": {"Authorization": f"Bearer {program.token}"}})
        with measure_attack(program) as cost, connect_many(program, CONNECTIONS, HANDSHAKE.encode()) as clients:
            for client in clients:
                assert client.recv(4_096).startswith(b"HTTP/1.1 101 ")
                client.sendall(init)
                assert b"connection_ack" in client.recv(4_096)
            for number, client in enumerate(clients):
                payload = {"query": f"query Q{number} {{ {FIELDS} }}", "variables": UNDECLARED}
                send(client, make_frame({"id": "1", "type": "subscribe", "payload": payload}))
            answers = [client.recv(4_096) for client in clients]
            time.sleep(SECONDS)

        assert any(b"TOO_MANY_REQUESTS" in answer for answer in answers)
        cost.check()
