"""A real endpoint on loopback, in the test's own process: it outlives the program and remembers every request."""

import random
import threading
import time
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.support.patience import PATIENCE_SECONDS

#: What lets the program deliver to a Receiver.
ALLOW_LOOPBACK = {"RINGBACK_DANGEROUS_ALLOW_NETWORKS": "127.0.0.0/8"}
EVENT_ID = "PS-WEBHOOK_EVENT-ID"
ATTEMPT = "Ringback-Attempt"


class Receiver:
    """`with Receiver() as receiver:` listens on `receiver.url`.

    It answers after `delay_seconds` (from, to; at random; below 0 is at once), and refuses an event's first requests
    with 500, at most `refusals` times, each with a probability of `refuse`.
    """

    def __init__(
        self, *, delay_seconds: tuple[float, float] = (0.0, 0.0), refuse: float = 0.0, refusals: int = 0
    ) -> None:
        self.seen: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        #: The numbers of each event's attempts, in the order of arrival.
        self.numbers: defaultdict[str, list[int]] = defaultdict(list)
        self.arrived = threading.Event()
        #: While it is cleared, requests are held and not answered.
        self.answers = threading.Event()
        self.answers.set()
        self._delay = delay_seconds
        self._refuse = refuse
        self._refusals = refusals
        self._lock = threading.Lock()
        self._chance = random.Random(2)
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def snapshot(self) -> tuple[Counter[str], Counter[str]]:
        """How many requests of each event have arrived, and been answered, by now."""
        with self._lock:
            return Counter(self.seen), Counter(self.answered)

    def _decide(self, event_id: str, number: int) -> tuple[int, float]:
        with self._lock:
            self.seen[event_id] += 1
            self.numbers[event_id].append(number)
            refuse = self.refused[event_id] < self._refusals and self._chance.random() < self._refuse
            self.refused[event_id] += refuse
            delay = max(0.0, self._chance.uniform(*self._delay))
        self.arrived.set()
        return 500 if refuse else 200, delay

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                event_id = self.headers[EVENT_ID]
                status, delay = receiver._decide(event_id, int(self.headers[ATTEMPT]))
                time.sleep(delay)
                receiver.answers.wait(PATIENCE_SECONDS)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                with receiver._lock:
                    receiver.answered[event_id] += 1

            def log_message(self, *args: Any) -> None:
                pass

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A killed program breaks its connections; that is what is being tested."""
