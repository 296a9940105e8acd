"""The endpoint of the delivery benchmarks, in a process of its own: it reads requests, answers, and counts.

As lean as Python allows, so that it is never what is measured: a request is looked at for where it ends and for
nothing else. `/wait/<ms>` answers after so long, `/hang` never; every other path at once. `GET /report` tells, as JSON,
how many requests came and when the first and the last did (seconds of the monotonic clock, which all processes share),
and begins to count anew.
"""

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


class Counted:
    """What came since the last report."""

    def __init__(self) -> None:
        self.requests = 0
        self.first = self.last = 0.0
        self.arrivals: dict[str, float] = {}

    def report(self) -> bytes:
        """It as an answer."""
        body = json.dumps(
            {"requests": self.requests, "first": self.first, "last": self.last, "arrivals": self.arrivals}
        ).encode()
        self.__init__()  # type: ignore[misc]
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


class Sink(asyncio.Protocol):
    """One connection."""

    def __init__(self, counted: Counted, *, arrivals: bool) -> None:
        self._counted = counted
        self._arrivals = arrivals
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

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
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        assert self._transport is not None
        path = head.split(b" ", 2)[1]
        if path == b"/report":
            self._transport.write(self._counted.report())
            return
        counted = self._counted
        counted.last = time.monotonic()
        counted.first = counted.first or counted.last
        counted.requests += 1
        if self._arrivals:
            event = head.split(b"ps-webhook_event-id: ", 1)[1].split(b"\r\n", 1)[0].decode()
            counted.arrivals.setdefault(event, counted.last)
        if path.startswith(b"/wait/"):
            asyncio.get_running_loop().call_later(int(path[6:]) / 1000, self._transport.write, ANSWER)
        elif path != b"/hang":
            self._transport.write(ANSWER)


async def main() -> None:
    """Listen on a free port, say which, and serve until the process is ended."""
    counted = Counted()
    arrivals = "--arrivals" in sys.argv
    server = await asyncio.get_running_loop().create_server(
        lambda: Sink(counted, arrivals=arrivals), "127.0.0.1", 0, backlog=2_048
    )
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
