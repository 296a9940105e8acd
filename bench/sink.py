"""The endpoint of the benchmarks, in a process of its own: it reads requests, answers, and counts.

It answers as real endpoints do: with the date, a request id, and a JSON body that differs each time. Besides, it is as
lean as Python allows, so that it is never what is measured: it looks for the end of a request and for nothing else.

Paths that begin with `/wait/MS/` are answered after so long, with `/hang/` never, all others at once; of those
that begin with `/timed/` the moment of each event's arrival is kept. Those that hang are counted apart.

`GET /until/N` is answered as soon as N requests have come. `GET /report` tells what came, and begins to count anew.
"""

import asyncio
import json
import random
import time
from email.utils import formatdate
from typing import cast

import uvloop


class Counted:
    """What came since the last report. Moments are of the monotonic clock, which all processes share."""

    def __init__(self) -> None:
        self.requests = 0
        self.hung = 0
        self.body_bytes = 0
        self.first = 0.0
        self.last = 0.0
        #: Of each event, by the clock of the wall, as Postgres tells its commits.
        self.arrivals: dict[str, float] = {}
        self._cpu = time.process_time()

    def report(self) -> dict[str, object]:
        """It as JSON has it; `cpu` is what counting and answering took, in seconds of a core."""
        told = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return {**told, "cpu": time.process_time() - self._cpu}


class Sink:
    """What all connections share."""

    def __init__(self) -> None:
        self.counted = Counted()
        self._awaited: list[tuple[int, asyncio.Transport]] = []
        self._answers = 0
        self._date = b""
        self._date_until = 0.0

    def taken(self, head: bytes, path: bytes, length: int) -> None:
        """Count a request."""
        counted = self.counted
        if path.startswith(b"/hang/"):
            counted.hung += 1
            return
        counted.last = time.monotonic()
        counted.first = counted.first or counted.last
        counted.requests += 1
        counted.body_bytes += length
        if path.startswith(b"/timed/"):
            event = head.split(b"ps-webhook_event-id: ", 1)[1].split(b"\r\n", 1)[0].decode()
            counted.arrivals.setdefault(event, time.time())
        if self._awaited:
            self._tell()

    def answer(self) -> bytes:
        """Return the next answer. No two are the same."""
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
        """Answer a request, unless its client has gone."""
        if not transport.is_closing():
            transport.write(self.answer())

    def until(self, requests: int, transport: asyncio.Transport) -> None:
        """Answer when so many have come."""
        self._awaited.append((requests, transport))
        self._tell()

    def report(self) -> bytes:
        """What came, as an answer; from now on it is counted anew."""
        body = json.dumps(self.counted.report()).encode()
        self.counted = Counted()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    def _tell(self) -> None:
        for requests, transport in self._awaited:
            if self.counted.requests >= requests:
                self.send_answer(transport)
        self._awaited = [(number, to) for number, to in self._awaited if self.counted.requests < number]


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._buffer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request, or of several."""
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
        self._sink.taken(head, path, length)
        if path.startswith(b"/wait/"):
            seconds = int(path.split(b"/")[2]) / 1000
            asyncio.get_running_loop().call_later(seconds, self._sink.send_answer, self._transport)
        elif not path.startswith(b"/hang/"):
            self._sink.send_answer(self._transport)


async def main() -> None:
    """Listen on a free port, say which, and serve until the process is ended."""
    sink = Sink()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(sink), "127.0.0.1", 0, backlog=4_096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
