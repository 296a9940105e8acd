"""The endpoint of the benchmarks, in its own process: it reads, answers and counts requests.

Responses resemble those of real endpoints: a date, a request id, and a JSON body that differs each time. Otherwise it
does as little as possible, so that it is never the bottleneck: it only looks for the end of each request.

Requests to `/wait/MS/…` are answered after that time, to `/hang/…` never (and counted apart), to all other paths at
once. For `/timed/…` the arrival of each event is stored.

`GET /until/N` is answered once N requests have arrived. `GET /report` returns the counts and resets them.
"""

import asyncio
import json
import random
import time
from email.utils import formatdate
from typing import cast

import uvloop


class Counts:
    """Counts since the last report. Times are of the monotonic clock, which all processes share."""

    def __init__(self) -> None:
        self.requests = 0
        self.hung = 0
        self.body_bytes = 0
        self.first = 0.0
        self.last = 0.0
        #: Wall-clock times by event id, as Postgres has them for commits.
        self.arrivals: dict[str, float] = {}
        self._cpu = time.process_time()

    def report(self) -> dict[str, object]:
        """Return the counts, with the CPU time of the sink in seconds."""
        counts = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return {**counts, "cpu": time.process_time() - self._cpu}


class Sink:
    """The state that all connections share."""

    def __init__(self) -> None:
        self.counts = Counts()
        self._waiting: list[tuple[int, asyncio.Transport]] = []
        self._answers = 0
        self._date = b""
        self._date_until = 0.0

    def count(self, head: bytes, path: bytes, length: int) -> None:
        """Count a request."""
        counts = self.counts
        if path.startswith(b"/hang/"):
            counts.hung += 1
            return
        counts.last = time.monotonic()
        counts.first = counts.first or counts.last
        counts.requests += 1
        counts.body_bytes += length
        if path.startswith(b"/timed/"):
            event = head.split(b"ps-webhook_event-id: ", 1)[1].split(b"\r\n", 1)[0].decode()
            counts.arrivals.setdefault(event, time.time())
        if self._waiting:
            self._answer_waiting()

    def answer(self) -> bytes:
        """Return the next response. Each is different."""
        now = time.time()
        if now >= self._date_until:
            self._date = formatdate(now, usegmt=True).encode()
            self._date_until = int(now) + 1
        self._answers += 1
        body = b'{"received":%d,"at":%.6f}' % (self._answers, now)
        request_id = b"%032x" % random.getrandbits(128)
        return (
            b"HTTP/1.1 200 OK\r\nDate: %s\r\nContent-Type: application/json\r\nX-Request-Id: %s\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (self._date, request_id, len(body), body)
        )

    def send_answer(self, transport: asyncio.Transport) -> None:
        """Send a response, unless the client has disconnected."""
        if not transport.is_closing():
            transport.write(self.answer())

    def until(self, requests: int, transport: asyncio.Transport) -> None:
        """Send a response once `requests` requests have arrived."""
        self._waiting.append((requests, transport))
        self._answer_waiting()

    def report(self) -> bytes:
        """Return the response with the counts, and reset them."""
        body = json.dumps(self.counts.report()).encode()
        self.counts = Counts()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    def _answer_waiting(self) -> None:
        for requests, transport in self._waiting:
            if self.counts.requests >= requests:
                self.send_answer(transport)
        self._waiting = [(number, to) for number, to in self._waiting if self.counts.requests < number]


class Connection(asyncio.Protocol):
    """A connection of a client."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._buffer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer each complete request in the received bytes."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"\r\ncontent-length:")
            length = int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            self._answer(head, length)

    def _answer(self, head: bytes, length: int) -> None:
        path = head.split(b" ", 2)[1]
        if path == b"/report":
            self._transport.write(self._sink.report())
            return
        if path.startswith(b"/until/"):
            self._sink.until(int(path[7:]), self._transport)
            return
        self._sink.count(head, path, length)
        if path.startswith(b"/wait/"):
            seconds = int(path.split(b"/")[2]) / 1000
            asyncio.get_running_loop().call_later(seconds, self._sink.send_answer, self._transport)
        elif not path.startswith(b"/hang/"):
            self._sink.send_answer(self._transport)


async def main() -> None:
    """Listen on a free port, print the URL, and serve until the process is stopped."""
    sink = Sink()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(sink), "127.0.0.1", 0, backlog=4_096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
