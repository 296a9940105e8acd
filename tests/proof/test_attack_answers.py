"""Endpoints that switch protocols, send informational responses or headers without end, or read no request."""

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.bystander import MAX_MEMORY_MB, measure_attack
from tests.support.deliveries import create_webhook, test_fire, wait_until_ended
from tests.support.program import Program
from tests.support.receiver import ALLOW_LOOPBACK

pytestmark = pytest.mark.alone

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
#: As many informational responses as fit into one write.
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000
ATTEMPTS = 50
DECLARE = """
mutation { declareModel(input: {
  name: "thing", label: "Thing", jsonSchema: {type: "object"}, sample: {}
}) { errors { message } } }
"""
PUBLISH = "mutation ($input: PublishChangesInput!) { publishChanges(input: $input) { errors { message } } }"


class _Endpoint:
    """Answers the first request of each connection with the same bytes, once or without end, and keeps it open."""

    def __init__(self, answer: bytes, *, is_endless: bool = False) -> None:
        self.requests: Counter[int] = Counter()
        self._answer = answer
        self._is_endless = is_endless
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1_000)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._accept)
        thread.start()
        try:
            yield
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the end of the listener
            while True:
                connection, _ = self._listener.accept()
                number = len(self.requests)
                self.requests[number] = 0
                threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection, contextlib.suppress(OSError):  # the program closes the connection
            while connection.recv(65_536):
                self.requests[number] += 1
                if self.requests[number] == 1:
                    connection.sendall(self._answer)
                while self._is_endless:
                    connection.sendall(self._answer)


def _fire(program: Program, endpoint: _Endpoint) -> list[tuple[str, str]]:
    """Fire test events at an endpoint. Return outcome and error of each."""
    webhook = create_webhook(program, endpoint.url, timeoutSeconds=5, retryDelaysSeconds=[0])
    events = [test_fire(program, webhook) for _ in range(ATTEMPTS)]
    attempts = [wait_until_ended(program, event)["attempts"][0] for event in events]
    return [(attempt["outcome"], attempt["error"]) for attempt in attempts]


def test_no_request_follows_on_a_connection_that_switched_protocols(tmp_path: Path, migrated: Path) -> None:
    endpoint = _Endpoint(SWITCH)
    with Program(tmp_path, env=ALLOW_LOOPBACK, migrated=migrated) as program, endpoint.running():
        results = _fire(program, endpoint)

        error = "The endpoint answered 101 Switching Protocols, which the request did not ask for."
        assert results == [("BAD_RESPONSE", error)] * ATTEMPTS
        assert list(endpoint.requests.values()) == [1] * ATTEMPTS
        assert "Traceback" not in program.log()


def test_informational_responses_without_end(tmp_path: Path, migrated: Path) -> None:
    endpoint = _Endpoint(CONTINUE, is_endless=True)
    with Program(tmp_path, env=ALLOW_LOOPBACK, migrated=migrated) as program, endpoint.running():
        with measure_attack(program) as cost:
            results = _fire(program, endpoint)

        cost.check()
        assert {outcome for outcome, _ in results} == {"BAD_RESPONSE"}
        assert all("More than 100 informational responses" in error for _, error in results)
        assert "Traceback" not in program.log()


@pytest.mark.parametrize("size", [250_000, 60_000], ids=["over the limit", "just below it"])
def test_headers_that_never_end(tmp_path: Path, migrated: Path, size: int) -> None:
    endpoint = _Endpoint(b"HTTP/1.1 200 OK\r\nX: " + b"a" * size)
    with Program(tmp_path, env=ALLOW_LOOPBACK, migrated=migrated) as program, endpoint.running():
        assert program.query(DECLARE)["declareModel"]["errors"] == []
        create_webhook(program, endpoint.url, model="thing", maxConcurrency=1_000, retryDelaysSeconds=[0])
        changes = [{"model": "thing", "action": "CREATED", "objectId": "1", "item": {}}] * 250
        with measure_attack(program) as cost:
            assert program.query(PUBLISH, {"input": {"changes": changes}})["publishChanges"]["errors"] == []
            program.wait_until(lambda: sum(endpoint.requests.values()) == 250, "all requests")
            time.sleep(1)

        print(cost)
        assert cost.memory_mb <= MAX_MEMORY_MB


@pytest.mark.parametrize("is_rendered", [False, True], ids=["items", "rendered bodies"])
def test_large_bodies_that_are_not_read(tmp_path: Path, migrated: Path, is_rendered: bool) -> None:
    item: dict[str, Any] = {"text": "x" * 250_000}
    body: dict[str, Any] = {"sendJson": True}
    if is_rendered:
        item, body = {}, {"bodyTemplate": "{% for i in (1..250) %}" + "x" * 1_000 + "{% endfor %}"}
    with (
        Program(tmp_path, env=ALLOW_LOOPBACK, migrated=migrated) as program,
        socket.create_server(("127.0.0.1", 0), backlog=1_000) as listener,
    ):
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert program.query(DECLARE)["declareModel"]["errors"] == []
        for _ in range(8):
            create_webhook(program, url, model="thing", retryDelaysSeconds=[0], **body)
        change = {"model": "thing", "action": "CREATED", "objectId": "1", "item": item}
        with measure_attack(program) as cost:
            for _ in range(40):
                published = program.query(PUBLISH, {"input": {"changes": [change]}})
                assert published["publishChanges"]["errors"] == []
            time.sleep(3)

        print(cost)
        assert cost.memory_mb <= MAX_MEMORY_MB
