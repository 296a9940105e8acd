"""What strangers without a token, and endpoints with hostile headers, cost other clients."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.bystander import measure_attack
from tests.support.deliveries import create_webhook, test_fire, wait_until_ended
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program
from tests.support.receiver import ALLOW_LOOPBACK

pytestmark = pytest.mark.alone

#: Seconds for which an attack goes on.
ATTACK_SECONDS = 5.0
#: Connections of the attacker.
CONNECTIONS = 8
BROWSER = {"Accept": "text/html"}
#: What a stranger asks for, again and again: path, and headers.
REQUESTS: list[tuple[str, dict[str, str]]] = [
    ("/readyz", {}),
    ("/graphql", {**BROWSER, "Host": "a" * 8_000}),
    ("/nothing", BROWSER),
    ("/graphql/static/main.css", {}),
    ("/graphql?query=%7B__typename%7D", {"Authorization": "Bearer wrong", "Accept": "application/json"}),
]


def test_pages_and_health_checks_that_strangers_ask_for(own_program: Program) -> None:
    statuses: Counter[int] = Counter()

    with measure_attack(own_program) as cost:
        repeat(CONNECTIONS, lambda end: ask_until(own_program, end, statuses))

    print(statuses)
    cost.check()
    assert set(statuses) == {200, 401, 404}
    assert sum(statuses.values()) > 100
    assert '"level":"error"' not in own_program.log()


def test_responses_with_headers_that_are_slow_to_redact(tmp_path: Path, migrated: Path) -> None:
    env = {"RINGBACK_REDACT_PATTERNS": "(a+)+$\n(a|a)*b", **ALLOW_LOOPBACK}
    with hostile_endpoint() as url, Program(tmp_path / "program", env=env, migrated=migrated) as program:
        webhook_id = create_webhook(program, url, retryDelaysSeconds=[0])

        with measure_attack(program) as cost:
            event_ids = [test_fire(program, webhook_id) for _ in range(200)]
            events = [wait_until_ended(program, event_id) for event_id in event_ids]

        cost.check()
        assert {event["status"] for event in events} == {"SUCCEEDED"}


def repeat(count: int, attack: Callable[[float], None]) -> None:
    """Run an attack in `count` threads, for ATTACK_SECONDS."""
    end = time.monotonic() + ATTACK_SECONDS
    threads = [threading.Thread(target=attack, args=(end,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def ask_until(program: Program, end: float, statuses: "Counter[int]") -> None:
    with closing(http.client.HTTPConnection(urlsplit(program.url).netloc, timeout=PATIENCE_SECONDS)) as connection:
        while time.monotonic() < end:
            for path, headers in REQUESTS:
                connection.request("GET", path, headers=headers)
                response = connection.getresponse()
                response.read()
                statuses[response.status] += 1


@contextmanager
def hostile_endpoint() -> Iterator[str]:
    """An endpoint whose responses have 32 KiB of headers with new names each, and values that look like URLs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _HostileHandler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _HostileHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    count = 0

    def do_POST(self) -> None:
        """Answer 200."""
        self.rfile.read(int(self.headers["Content-Length"]))
        _HostileHandler.count += 1
        self.send_response(200)
        self.send_header("Content-Length", "0")
        for number in range(60):
            self.send_header("a" * 90 + f"-{self.count}-{number}", "://a@/bot1/hooks/?a" * 10)
        self.send_header("Location", "/services/T" * 700)
        self.send_header("a" * 8_000 + "!", "v")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing."""
