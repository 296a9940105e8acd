"""Attacks by clients that ask for large responses on many connections and read none of them."""

import json
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from websockets.frames import Frame, Opcode

from tests.contract import operations
from tests.support.bystander import measure_attack
from tests.support.program import Program
from tests.support.raw_http import connect_many, post_head, send
from tests.support.raw_websocket import HANDSHAKE

pytestmark = pytest.mark.alone

#: Seconds for which the clients read nothing.
SECONDS = 2.0
#: Bytes of the receive buffer of each client.
RECEIVE_BUFFER = 4_096
#: A little less than an operation reads without a turn.
LARGE_TEXT = b"x" * 900_000
OPERATIONS_PER_CONNECTION = 20
DECLARE = """
mutation { declareModel(input: {name: "thing", label: "Thing", jsonSchema: {type: "object"}, sample: {}})
  { errors { message } } }
"""
PUBLISH = "mutation ($input: PublishChangesInput!) { publishChanges(input: $input) { errors { message } } }"
STATIC = Path(__file__).parents[2] / "graphql_api/static"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[Program]:
    with Program(tmp_path_factory.mktemp("unread"), "api", migrated=migrated) as program:
        yield program


@pytest.fixture(scope="module")
def large_query(program: Program) -> str:
    """Return a query with a response of 900 kB."""
    inbox = program.query(operations()["CreateInbox"], {"input": {}})["createInbox"]["inbox"]
    status, _, _ = program.request("POST", str(urlsplit(inbox["url"]).path), LARGE_TEXT)
    assert status == 200
    return f'{{ inbox(id: "{inbox["id"]}") {{ requests(first: 1) {{ nodes {{ body }} }} }} }}'


def test_unread_files_hold_a_fixed_sum(program: Program) -> None:
    """Each connection asks for one file."""
    largest = max(STATIC.iterdir(), key=lambda path: path.stat().st_size)
    request = b"GET /graphql/static/%s HTTP/1.1\r\nHost: x\r\n\r\n" % largest.name.encode()

    with measure_attack(program) as cost, connect_many(program, 900, request, receive_buffer=RECEIVE_BUFFER):
        time.sleep(SECONDS)

    cost.check()


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_unread_responses_to_queries_hold_a_fixed_sum(program: Program, large_query: str, accept: str) -> None:
    body = json.dumps({"query": large_query}).encode()
    head = post_head(program, len(body), token=program.token)
    request = head.replace(b"Host: x", b"Host: x\r\nAccept: " + accept.encode()) + body

    with measure_attack(program) as cost, connect_many(program, 300, request * 3, receive_buffer=RECEIVE_BUFFER):
        time.sleep(SECONDS)

    cost.check()


def open_websockets(program: Program, clients: Sequence[socket.socket]) -> None:
    init = make_frame({"type": "connection_init", "payload": {"Authorization": f"Bearer {program.token}"}})
    for client in clients:
        assert client.recv(RECEIVE_BUFFER).startswith(b"HTTP/1.1 101 ")
        client.sendall(init)
        assert b"connection_ack" in client.recv(RECEIVE_BUFFER)


def make_frame(message: dict[str, object]) -> bytes:
    return Frame(Opcode.TEXT, json.dumps(message).encode()).serialize(mask=True)


def test_unread_websocket_results_hold_a_fixed_sum(program: Program, large_query: str) -> None:
    subscribes = [
        make_frame({"type": "subscribe", "id": str(number), "payload": {"query": large_query}})
        for number in range(OPERATIONS_PER_CONNECTION)
    ]

    with (
        measure_attack(program) as cost,
        connect_many(program, 60, HANDSHAKE.encode(), receive_buffer=RECEIVE_BUFFER) as clients,
    ):
        open_websockets(program, clients)
        for client in clients:
            send(client, b"".join(subscribes))
        time.sleep(SECONDS)

    cost.check()


def test_unread_results_of_subscriptions_hold_a_fixed_sum(program: Program) -> None:
    """Each subscription has a document of its own, and each entry an item of 100 kB."""
    assert program.query(DECLARE)["declareModel"]["errors"] == []
    for _ in range(4):
        webhook = {"url": "https://example.com", "model": "thing", "actions": ["UPDATED"]}
        assert program.query(operations()["CreateWebhook"], {"input": webhook})["createWebhook"]["errors"] == []
    changes = [{"model": "thing", "action": "UPDATED", "objectId": "1", "item": {"text": "x" * 100_000}}] * 3

    with (
        measure_attack(program) as cost,
        connect_many(program, 15, HANDSHAKE.encode(), receive_buffer=RECEIVE_BUFFER) as clients,
    ):
        open_websockets(program, clients)
        for first, client in enumerate(clients):
            for number in range(OPERATIONS_PER_CONNECTION):
                query = f"subscription {{ deliveryLog {{ a{first}_{number}: cursor event {{ item }} }} }}"
                send(client, make_frame({"type": "subscribe", "id": str(number), "payload": {"query": query}}))
        time.sleep(1)
        for _ in range(10):
            assert program.query(PUBLISH, {"input": {"changes": changes}})["publishChanges"]["errors"] == []
        time.sleep(SECONDS)

    cost.check()
